"""Load the modules of the async methods when the first of them is called."""

from __future__ import annotations

from functools import cache

from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["async_run", "owned_run"]


@cache
def owned_run() -> ModuleType:
    """Return the module of the methods that wait for the end of a run."""
    with late_import:
        from penstock.api import owned_run  # noqa: PLC0415 - only some users run in an event loop
    return owned_run


@cache
def async_run() -> ModuleType:
    """Return the module of the others. ImportError if there is no anyio."""
    owned_run().anyio_event()
    with late_import:
        from penstock.api import async_run  # noqa: PLC0415 - as above, and it needs anyio
    return async_run

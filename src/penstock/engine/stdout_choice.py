"""Choose the kind of stdout for the option of that name, by looking only: the classes are `stdout_endpoints`.

Nothing is opened here. A value that cannot be written to is a ValueError that names the option.
"""

from __future__ import annotations

import os

from penstock.core.async_detection import is_async_sink
from penstock.core.constants import CAPTURE, DEVNULL, INHERIT, PIPE, Special
from penstock.core.file_targets import appending, atomic
from penstock.engine.stdout_endpoints import (
    AsyncObjectStdout,
    CapturedStdout,
    DescriptorStdout,
    InheritedStdout,
    IteratedStdout,
    NullStdout,
    PathStdout,
    PipeStdout,
    TargetStdout,
)
from penstock.streams.endpoints import Access, number_of, sink_access, unwrap
from penstock.system.fds import is_nonblocking
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from penstock.engine.stdout_endpoints import StdoutEndpoint

__all__ = ["ITERATED", "stdout_endpoint"]

ITERATED = IteratedStdout()
_NULL, _INHERITED = NullStdout(), InheritedStdout()
_SPECIALS = {DEVNULL: _NULL, PIPE: PipeStdout(), CAPTURE: CapturedStdout()}


def stdout_endpoint(value: Any, max_output: int | None = None) -> StdoutEndpoint:
    """Return what takes the output of the last stage, by the stdout option.

    If that is to be captured, at most `max_output` bytes are.

    Opens nothing. Raises ValueError, naming stdout, if that is closed or not for writing.
    """
    value, to_close = unwrap(value)
    if isinstance(value, Special):
        return _of_special(value, max_output)
    if isinstance(value, atomic):
        return TargetStdout(value)
    appends = value if isinstance(value, appending) else None
    if isinstance(value, appending):
        value = value.path
    if isinstance(value, str | os.PathLike):
        with late_import:
            from penstock.system.fifo_open import is_fifo  # noqa: PLC0415 - only paths need it

        if is_fifo(value):
            return _copied("FifoStdout", value)
        return PathStdout(value) if appends is None else TargetStdout(appends)
    if not isinstance(value, int) and is_async_sink(value):
        return AsyncObjectStdout(value, to_close)
    return _of_object(value, to_close)


def _of_special(value: Special, max_output: int | None) -> StdoutEndpoint:
    if value is CAPTURE and max_output is not None:
        return CapturedStdout(max_output)
    return _inherited() if value is INHERIT else _SPECIALS[value]


def _of_object(value: Any, to_close: Any) -> StdoutEndpoint:
    """Return the endpoint for a descriptor's number or an object."""
    access = sink_access("stdout", value)
    if access is Access.PASS:
        return DescriptorStdout(value, to_close)
    if access is Access.COPY:
        return _copied("NonblockingStdout", number_of(value), to_close)
    return _copied("object_stdout", value, to_close)


def _inherited() -> StdoutEndpoint:
    """Return the process's own stdout: copied if it is non-blocking, nothing if it is closed."""
    try:
        copied = is_nonblocking(1)
    except OSError:
        return _NULL
    return _copied("NonblockingStdout", 1) if copied else _INHERITED


def _copied(kind: str, *arguments: Any) -> StdoutEndpoint:
    """Return an endpoint that a worker copies to."""
    with late_import:
        from penstock.engine import copied_stdout  # noqa: PLC0415 - few runs get such an object

    made: StdoutEndpoint = getattr(copied_stdout, kind)(*arguments)
    return made

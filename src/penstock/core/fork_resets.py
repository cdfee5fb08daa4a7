"""The resets of core in a forked copy of the process: a list that `system.fork_guard` calls in the child.

It is here because core may not import `system`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["state"]

state: list[Callable[[], object]] = []
"""The resets of the step `state`, those of other packages included."""

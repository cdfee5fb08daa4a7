"""Look now and then at the stages that wait while the caller's own thread works: a worker's task.

A reactor's timer would do, but nobody drives a reactor in the caller's thread then, and to wake the
supervisor costs more than a short run: it is a system call that gives up the GIL. The task sleeps on a clock
instead, and needs no waking. It goes on for a while after the last row, because the next one often comes at
once; a row that finds it at work only appends to a list.

Threads. `watch_row` may be called from any thread, and takes no lock. The task looks at `_rows` once more
after it has cleared `_at_work`, so that no row is lost between the two.
"""

from __future__ import annotations

import time

from penstock.core.timing import timing
from penstock.runtime import thread_pool
from penstock.system.fork_guard import reset_in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Row(Protocol):
        """Stages that wait for a thread."""

        def is_waiting(self) -> bool:
            """Whether a stage waits."""
            raise NotImplementedError

        def add_threads(self) -> None:
            """Give threads to some of them, because none has begun for a while."""


__all__ = ["watch_row"]

_PATIENCE_S = 0.05
"""Seconds for which the task waits for a further row."""

_rows: list[tuple[float, Row]] = []
"""Each with the `time.monotonic()` from which on it counts as stalled."""
_at_work = False


def watch_row(row: Row) -> None:
    """Have `row` add threads every `timing.stage_stall_s` seconds, as long as one of its stages waits.

    RuntimeError if the task needs a thread, and the system allows none.
    """
    global _at_work  # noqa: PLW0603 - one a process, as the pool is
    _rows.append((time.monotonic() + timing.stage_stall_s, row))
    if not _at_work:
        _at_work = True
        try:
            thread_pool.submit(_look, _look_again)
        except BaseException:
            _at_work = False
            raise


def _look() -> None:
    global _at_work  # noqa: PLW0603
    last = time.monotonic()
    while True:
        time.sleep(min(timing.stage_stall_s, _PATIENCE_S))
        now = time.monotonic()
        if _rows:
            last = now
        for _ in range(len(_rows)):
            due, row = _rows.pop(0)
            if not row.is_waiting():
                continue
            if now >= due:
                row.add_threads()
                due = now + timing.stage_stall_s
            _rows.append((due, row))
        if now - last > _PATIENCE_S:
            _at_work = False
            if not _rows or _at_work:
                return
            _at_work = True


def _look_again(_error: BaseException) -> None:
    """Go on after a step of `_look` has raised, for want of memory: other runs wait for it too."""
    _look()


def _after_fork_in_child() -> None:
    global _at_work  # noqa: PLW0603
    _rows.clear()
    _at_work = False


reset_in_child(_after_fork_in_child, "state")

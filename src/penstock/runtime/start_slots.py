"""Threads that start runs at the same time take turns, first come, first served.

A start gives the interpreter's lock away at each system call and wants it back some microseconds later, and
that lock is handed to whoever happens to be awake. Of two hundred threads that all start pipelines some got
it again and again, and others waited for seconds: the slowest in a hundred took 43 times the median. So only
as many as gain something by it (`MAX_CONCURRENT_STARTS`) are in the middle of a start at once; the others
wait in a line, asleep, and are let in in the order in which they came. That is also faster for all together,
by a third and more, because few are woken in vain.

A turn is for the start alone, never for the run. A thread that is in one, or waits for one, starts another
run (a custom stage, a signal handler, a finalizer) without a second turn. Since code of the caller's may run
in a start, and wait there for a start of another thread's, nobody relies on turns to end: who has waited for
`timing.start_stall_s` seconds while nobody's ended no longer counts those who are in, and the next ones go. A
turn whose end an interrupt has kept from being told is ended with its run.

`_lock` guards the two below it and is held for bookkeeping only. It is made in C and re-entrant, as all locks
that a signal handler may find taken by its own thread.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Final

from penstock.core.timing import timing
from penstock.system.fork_guard import reset_in_child

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_CONCURRENT_STARTS", "StartSlot", "exempt"]

MAX_CONCURRENT_STARTS: Final = min(4, max(2, os.cpu_count() or 1))
"""Threads that may be in the middle of a start. While one sleeps in a spawn, another prepares the next; with
more than four the interpreter's lock is what they wait for.
"""

_lock = threading.RLock()
_holders: set[int] = set()
"""The threads that have a turn."""
_waiting: dict[int, threading.Lock] = {}
"""Those that wait for one, in their order; releasing the lock lets one in."""
_exempt: set[int] = set()
"""Threads whose starts are limited elsewhere."""
_release_count = 0
"""Grows whenever a turn ends: how those who wait see that the line moves."""


class StartSlot:
    """The turn of one start: taken by the thread that makes it, and ended by any."""

    __slots__ = ("_thread",)

    def __init__(self) -> None:
        self._thread: int | None = None

    def acquire(self) -> None:
        """Wait for it. A thread that has one already, for another start, goes on without."""
        me = threading.get_ident()
        with _lock:
            if me in _holders or me in _waiting or me in _exempt:
                return
            self._thread = me
            if len(_holders) < MAX_CONCURRENT_STARTS:  # then nobody waits
                _holders.add(me)
                return
            gate = threading.Lock()
            gate.acquire()
            _waiting[me] = gate
            seen = _release_count
        while not gate.acquire(timeout=timing.start_stall_s):
            seen = _check_stall(seen)

    def release(self) -> None:
        """End it, or leave the line, and let in who comes next. The second time does nothing."""
        with _lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                _holders.discard(thread)
                _waiting.pop(thread, None)
                _wake_next()


@contextlib.contextmanager
def exempt() -> Iterator[None]:
    """Let the calling thread start runs without a turn: something else limits how many do so at once."""
    me = threading.get_ident()
    _exempt.add(me)
    try:
        yield
    finally:
        _exempt.discard(me)


def _check_stall(seen: int) -> int:
    """See whether the line has moved since there were `seen` moves; where it has not, make it move."""
    with _lock:
        if _release_count == seen:
            _holders.clear()
            _wake_next()
        return _release_count


def _wake_next() -> None:
    global _release_count  # noqa: PLW0603 - one line a process is the point
    _release_count += 1
    while _waiting and len(_holders) < MAX_CONCURRENT_STARTS:
        thread = next(iter(_waiting))
        _holders.add(thread)
        _waiting.pop(thread).release()


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - it may have been held at the fork by a thread that is not here
    _lock = threading.RLock()
    _holders.clear()
    _waiting.clear()
    _exempt.clear()


reset_in_child(_after_fork_in_child, "state")

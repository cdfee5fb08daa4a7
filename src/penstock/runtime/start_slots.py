"""Threads that start runs at the same time take turns, first come, first served.

A start gives the interpreter's lock away at each system call and wants it back some microseconds later, and
that lock is handed to whoever happens to be awake. Of two hundred threads that all start pipelines some got
it again and again, and others waited for seconds: the slowest in a hundred took 43 times the median. So only
as many as gain something by it (`WIDTH`) are in the middle of a start at once; the others wait in a line,
asleep, and are let in in the order in which they came. That is also faster for all together, by a third and
more, because few are woken in vain.

A turn is for the start alone, never for the run. A thread that is in one, or waits for one, starts another
run (a custom stage, a signal handler, a finalizer) without a second turn. Since code of the caller's may run
in a start, and wait there for a start of another thread's, nobody relies on turns to end: who has waited for
`PATIENCE` seconds while nobody's ended no longer counts those who are in, and the next ones go. A turn whose
end an interrupt has kept from being told is ended with its run.

`_lock` guards the two below it and is held for bookkeeping only. It is made in C and re-entrant, as all locks
that a signal handler may find taken by its own thread.
"""

from __future__ import annotations

import os
import threading
from typing import Final

__all__ = ["PATIENCE", "WIDTH", "Turn"]

WIDTH: Final = min(4, max(2, os.cpu_count() or 1))
"""Threads that may be in the middle of a start. While one sleeps in a spawn, another prepares the next; with
more than four the interpreter's lock is what they wait for.
"""
PATIENCE: Final = 0.25
"""Seconds without the end of any turn, after which those who have one are not waited for."""

_lock = threading.RLock()
_inside: set[int] = set()
"""The threads that have a turn."""
_waiting: dict[int, threading.Lock] = {}
"""Those that wait for one, in their order; releasing the lock lets one in."""
_moves = 0
"""Grows whenever a turn ends: how those who wait see that the line moves."""


class Turn:
    """The turn of one start: taken by the thread that makes it, and ended by any."""

    __slots__ = ("_thread",)

    def __init__(self) -> None:
        self._thread: int | None = None

    def take(self) -> None:
        """Wait for it. A thread that has one already, for another start, goes on without."""
        me = threading.get_ident()
        with _lock:
            if me in _inside or me in _waiting:
                return
            self._thread = me
            if len(_inside) < WIDTH:  # then nobody waits
                _inside.add(me)
                return
            gate = threading.Lock()
            gate.acquire()
            _waiting[me] = gate
            seen = _moves
        while not gate.acquire(timeout=PATIENCE):
            seen = _look(seen)

    def end(self) -> None:
        """End it, or leave the line, and let in who comes next. The second time does nothing."""
        with _lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                _inside.discard(thread)
                _waiting.pop(thread, None)
                _admit()


def _look(seen: int) -> int:
    """See whether the line has moved since there were `seen` moves; where it has not, make it move."""
    with _lock:
        if _moves == seen:
            _inside.clear()
            _admit()
        return _moves


def _admit() -> None:
    global _moves  # noqa: PLW0603 - one line a process is the point
    _moves += 1
    while _waiting and len(_inside) < WIDTH:
        thread = next(iter(_waiting))
        _inside.add(thread)
        _waiting.pop(thread).release()


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - it may have been held at the fork by a thread that is not here
    _lock = threading.RLock()
    _inside.clear()
    _waiting.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)

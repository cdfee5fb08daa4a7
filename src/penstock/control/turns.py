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
`PATIENCE` seconds while nobody's ended no longer counts those who are in, and the next ones go. That also
makes good a turn whose end was lost to an interrupt.

`_lock` guards the two below it and is held for bookkeeping only. It is made in C and re-entrant, as all locks
that a signal handler may find taken by its own thread.
"""

from __future__ import annotations

import os
import threading
from typing import Final

__all__ = ["PATIENCE", "WIDTH", "end_turn", "take_turn"]

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


def take_turn() -> bool:
    """Wait for a turn. False where the calling thread has one already, which it must not end here."""
    me = threading.get_ident()
    with _lock:
        if me in _inside or me in _waiting:
            return False
        if len(_inside) < WIDTH:  # then nobody waits
            _inside.add(me)
            return True
        gate = threading.Lock()
        gate.acquire()
        _waiting[me] = gate
        seen = _moves
    try:
        while not gate.acquire(timeout=PATIENCE):
            seen = _look(seen)
    except BaseException:  # whatever a signal handler raises
        end_turn()
        raise
    return True


def end_turn() -> None:
    """End the calling thread's turn, and let in who comes next."""
    me = threading.get_ident()
    with _lock:
        _inside.discard(me)
        _waiting.pop(me, None)
        _admit()


def _look(seen: int) -> int:
    """See whether the line has moved since there were `seen` moves; where it has not, make it move."""
    with _lock:
        if _moves == seen:
            _inside.clear()
            _admit()
        return _moves


def _admit() -> None:
    global _moves  # noqa: PLW0603
    _moves += 1
    while _waiting and len(_inside) < WIDTH:
        thread = next(iter(_waiting))
        _inside.add(thread)
        _waiting.pop(thread).release()


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()
    _inside.clear()
    _waiting.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)

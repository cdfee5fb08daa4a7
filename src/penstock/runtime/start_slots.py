"""Let threads that start runs at the same time take turns, first come, first served.

Starting a run releases the GIL at every system call, and the next runnable thread takes it. Of two hundred
threads that all started pipelines some got the GIL again and again, and others waited for seconds: the
slowest in a hundred took 43 times the median. So only `MAX_CONCURRENT_STARTS` threads, as many as gain from
it, start runs at once. The others sleep in a line and are let in in the order in which they came. All
together they are faster too, by a third and more, because few are woken in vain.

A turn is for the start alone, never for the run. A thread that has a turn, or waits for one, may start
another run (in a custom stage, a signal handler, a finalizer) without a second turn. A start may run user
code, which may wait for a start in another thread. So no thread relies on a turn to end: one that has waited
for `timing.start_stall_s` while no turn ended stops counting the present holders, and the next threads go. If
an interrupt has kept a turn from being ended, the turn ends with its run.

`_lock` guards the module's variables and is held for bookkeeping only. It is made in C and re-entrant, like
every lock that a signal handler may find taken by its own thread.
"""

from __future__ import annotations

import contextlib
import os
import threading

from penstock.core.timing import timing
from penstock.system.fork_guard import reset_in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

__all__ = ["MAX_CONCURRENT_STARTS", "StartSlot", "exempt"]

MAX_CONCURRENT_STARTS: Final = min(4, max(2, os.cpu_count() or 1))
"""Threads that may be in the middle of a start. While one sleeps in a spawn, another prepares the next. With
more than four they wait for the GIL.
"""

_lock = threading.RLock()
_holders: set[int] = set()
"""Threads that have a turn."""
_waiting: dict[int, threading.Lock] = {}
"""Threads that wait for a turn, in their order; releasing its lock lets a thread in."""
_exempt: set[int] = set()
"""Threads whose starts are limited elsewhere."""
_release_count = 0
"""Grows whenever a turn ends, so that waiting threads see the line move."""


class StartSlot:
    """The turn of one start: taken by the starting thread, released by any thread."""

    __slots__ = ("_thread",)

    def __init__(self) -> None:
        self._thread: int | None = None

    def acquire(self) -> None:
        """Wait for the turn. A thread that has a turn already, for another start, does not wait."""
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
        """End the turn, or leave the line, and let the next thread in. Idempotent."""
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
    """Return the release count; if it is still `seen`, forget the holders and let the next threads in."""
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

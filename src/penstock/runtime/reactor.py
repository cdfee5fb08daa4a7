"""The loop that steers runs: descriptors to watch, timers, and calls handed over from other threads.

There is one class and two ways to drive it. The supervisor's thread drives one reactor for all runs of the
process; a thread that waits in `run()` or `output()` drives one of its own for that single run, which saves
two switches of thread.

Who may do what. `watch`, `call_at` and `post` may be called from any thread; `post` from a signal handler
too, for it takes no lock: an append to a deque and a write to the waker. Callbacks, `unwatch` and `run_once`
run in the driving thread only, which is what makes it safe to close a descriptor in a callback: nobody else
can be about to dispatch to it. A callback may be called for nothing (its number may have been reused within
one batch), so each tolerates that. No callback may block, nor call code of the user's.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from penstock.core.noop import noop
from penstock.core.timing import timing
from penstock.system.fds import Waker
from penstock.system.poller import READ

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.system.poller import Poller

__all__ = ["Reactor", "Timer"]


_FALLBACK_POLL_INTERVAL_S = 0.01
"""Seconds, where there was no descriptor left to be woken by, or the kernel could not poll."""
_COMPACT_THRESHOLD = 256
"""Timers that may lie in the heap before those that were cancelled are looked for."""


class Timer:
    """A call to come; `cancel()` in the driving thread, or not at all."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Forget the call, and what it held on to."""
        self.callback = None


class Reactor:
    """A poller, a heap of timers, and a queue of calls from elsewhere."""

    defer_release: Callable[[object], None] | None = None
    """Holds on to what has ended for as long as the driver may be about to let go of it; from any thread.

    With it goes what the caller gave, and the finalizers of that are the caller's code. None where the driver
    is the caller's own thread.
    """

    def __init__(self, poller: Poller, driver: int | None = None) -> None:
        """`driver` is the ident of the thread that will call `run_once`, where that is known from the first.

        Then the waker is made when that thread is about to sleep for the first time with something to watch.
        Who posts something before finds none, and rings a bell that costs no descriptor. The driver hears it
        where it sleeps with nothing to watch; and after it has made the waker, it looks at what was posted
        once more. None is made where the driver is `single_threaded`.
        """
        self._poller = poller
        self._watched: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._crowded = _COMPACT_THRESHOLD
        self._serial = itertools.count()
        self._posted: deque[Callable[[], None]] = deque()
        self._waker: Waker | None = None
        self._wakeups: SimpleQueue[None] = SimpleQueue()
        self._driver = driver
        self.shared = driver is None
        """Whether it steers the runs of all threads, in one of its own."""
        self.single_threaded = False
        """No other thread is ever going to post anything, so that there is nobody to be woken by."""
        if driver is None:
            self._open_waker()

    def expect_no_posts(self) -> None:
        """Rely on it that no other thread is ever going to post anything."""
        self.single_threaded = True

    @property
    def in_driver_thread(self) -> bool:
        """Whether the calling thread is the one that drives it."""
        return self._driver == threading.get_ident()

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` in the driving thread whenever `fd` is ready."""
        # In this order. An event that is dispatched at this moment may be one of a descriptor that had the
        # number before; its successor's callback could then be over, and have closed it, before it is polled.
        # One that comes in between is told again by the next turn.
        self._poller.add(fd, events)
        self._watched[fd] = callback
        if not self._poller.notices_changes and not self.in_driver_thread:
            self._wake()

    def unwatch(self, fd: int) -> None:
        """Stop watching.

        To be called before the descriptor is closed: a forked copy would keep the registration alive.
        """
        if fd in self._watched:
            self._poller.remove(fd)  # first: what is still polled and no longer known would spin
            self._watched.pop(fd, None)

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call `callback()` in the driving thread once `time.monotonic()` has reached `when`."""
        timer = Timer(when, callback)
        if self.in_driver_thread:
            self._schedule(timer)
        else:
            self.post(lambda: self._schedule(timer))
        return timer

    def post(self, callback: Callable[[], None]) -> None:
        """Call `callback()` in the driving thread soon."""
        self._posted.append(callback)
        if not self.in_driver_thread:
            self._wake()

    def wake(self) -> None:
        """Let the driver look around, whatever it sleeps for."""
        self.post(noop)  # it may be about to sleep

    def run_once(self) -> None:
        """Sleep until something is due, and do all that is."""
        self._driver = threading.get_ident()
        self._run_posted()
        if self._waker is None and self._watched and not self.single_threaded:
            self._open_waker()
        if self._waker is None and not self._watched:
            self._sleep_without_poll()
        else:
            self._poll()
        self._run_timers()
        self._run_posted()

    def close(self) -> None:
        """Give the descriptors back; in the driving thread, once it no longer turns."""
        if self._waker is not None:
            self._waker.close()
        self._poller.close()
        self._watched.clear()
        self._timers.clear()
        self._posted.clear()

    def _sleep_without_poll(self) -> None:
        """Sleep with nothing to watch, as beside Python stages alone: a lock is a quarter of the price."""
        with contextlib.suppress(Empty):
            self._wakeups.get(timeout=self._poll_timeout(timing.max_sleep_s))

    def _poll(self) -> None:
        """Sleep until a descriptor is ready, and call for those that are."""
        try:
            blind = self._waker is None and not self.single_threaded
            ready = self._poller.poll(
                self._poll_timeout(_FALLBACK_POLL_INTERVAL_S if blind else timing.max_sleep_s)
            )
        except OSError:
            # No memory for it, for now. What was posted and what is due by the clock is done all the same.
            time.sleep(self._poll_timeout(_FALLBACK_POLL_INTERVAL_S))
            ready = []
        for fd, events in ready:
            callback = self._watched.get(fd)
            if callback is not None:
                callback(events)

    def _open_waker(self) -> None:
        try:
            waker = Waker()
        except OSError:  # no descriptor left for it, for now
            if self._driver is None:
                raise
            return
        self.watch(waker.fileno(), READ, lambda _events: waker.clear())
        self._waker = waker

    def _wake(self) -> None:
        waker = self._waker
        if waker is not None:
            waker.wake()
        else:
            self._wakeups.put(None)

    def _schedule(self, timer: Timer) -> None:
        if len(self._timers) >= self._crowded:
            # The timers of runs that ended long before their deadline: dropped when they are many, at a cost
            # spread over all.
            self._timers = [entry for entry in self._timers if entry[2].callback is not None]
            heapq.heapify(self._timers)
            self._crowded = max(_COMPACT_THRESHOLD, 2 * len(self._timers))
        heapq.heappush(self._timers, (timer.when, next(self._serial), timer))

    def _poll_timeout(self, longest: float) -> float:
        if self._posted:
            return 0.0
        if not self._timers:
            return longest
        return min(max(0.0, self._timers[0][0] - time.monotonic()), longest)

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()

    def _run_posted(self) -> None:
        # Only those that are there now: a callback that posts itself again must not starve the rest.
        for _ in range(len(self._posted)):
            self._posted.popleft()()

"""The loop that steers runs: watched descriptors, timers, and calls posted by other threads.

There is one class and two ways to drive it. The supervisor's thread drives one reactor for all runs of the
process. A thread that waits in `run()` or `output()` drives one of its own for that single run, which saves
two switches of thread.

Threads. `watch`, `call_at` and `post` may be called from any thread. `post` may be called from a
signal handler too, because it takes no lock: it appends to a deque and writes to the waker. Callbacks,
`unwatch` and `run_once` run in the driving thread only, so it is safe to close a descriptor in a
callback: no other thread can be about to dispatch to it. A callback may be called for nothing, because its
descriptor's number may have been reused within one batch, so each callback tolerates that. No callback may
block or call user code.

Faults. A watch, a timer and a posted call belong to an owner: the run that asked for it, through its
`RunReactor`, or a service of the process, such as a pool. An exception of a callback goes to the owner and
stops no other callback. A run ends with it (`engine.faults`). A timer or a posted call of a service is called
again a little later; a descriptor of one is reported again by the kernel.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from collections import deque
from functools import partial

from penstock.core.noop import noop
from penstock.core.timing import timing
from penstock.runtime.faults import call_again, raised_by_signal_handler
from penstock.runtime.log import report
from penstock.system.fds import Waker
from penstock.system.poller import READ
from penstock.system.process_look import ProcessLook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from penstock.system.poller import Poller

__all__ = ["Reactor", "RunReactor", "Timer"]


_FALLBACK_POLL_INTERVAL_S = 0.01
"""Seconds between polls if there was no descriptor left for a waker, or if the kernel could not poll."""
_COMPACT_THRESHOLD = 256
"""Timers in the heap before the cancelled ones are removed."""
_RETRY_DELAY_S = 0.05
"""Seconds until a call of a service that raised is made again."""


class Timer:
    """A call to come. `cancel()` from any thread; outside the driving thread it may come too late."""

    __slots__ = ("callback", "owner", "when")

    def __init__(self, when: float, callback: Callable[[], None], owner: RunReactor | None = None) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback
        self.owner = owner

    def cancel(self) -> None:
        """Drop the call, and the objects that it refers to."""
        self.callback = None


class Reactor:
    """A poller, a heap of timers, and a queue of calls from elsewhere."""

    defer_release: Callable[[object], None] | None = None
    """Keeps a reference to an ended run until a worker drops it. From any thread.

    The run may hold the last references to user objects, and their finalizers are user code, which the driver
    must not run. None if the driver is the user's own thread.
    """

    def __init__(self, poller: Poller, driver: int | None = None) -> None:
        """`driver` is the ident of the thread that will call `run_once`, if that is known already.

        Then the waker is made when that thread is about to sleep for the first time with something to watch.
        A thread that posts before that finds no waker and opens `_wake_gate`, which costs no descriptor. The
        driver notices it if it sleeps with nothing to watch; and after it has made the waker, it looks once
        more at the posted calls. No waker is made if the reactor is `single_threaded`.
        """
        self._poller = poller
        self._watched: dict[int, tuple[Callable[[int], None], RunReactor | None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._crowded = _COMPACT_THRESHOLD
        self._serial = itertools.count()
        self._posted: deque[tuple[Callable[[], None], RunReactor | None]] = deque()
        self._collected: dict[Callable[[list[Any]], None], deque[tuple[Any, RunReactor | None]]] = {}
        self._look: ProcessLook | None = None
        self._waker: Waker | None = None
        self._wake_gate = threading.Lock()
        self._wake_gate.acquire()
        self._driver = driver
        self.shared = driver is None
        """Whether it steers the runs of all threads, in a thread of its own."""
        self.single_threaded = False
        """Whether no other thread has a part in the run, so that a short run needs no waker."""
        if driver is None:
            self._open_waker()

    def expect_no_posts(self) -> None:
        """Rely on it that no other thread has a part in the run.

        One may still `interrupt` it. So when nothing has happened for a while, a waker is made after all.
        """
        self.single_threaded = True

    @property
    def in_driver_thread(self) -> bool:
        """Whether the calling thread is the one that drives it."""
        return self._driver == threading.get_ident()

    def for_run(self, on_fault: Callable[[BaseException], None]) -> RunReactor:
        """Return this reactor as one run sees it; `on_fault` gets the exceptions of the run's callbacks."""
        return RunReactor(self, on_fault)

    def watch(
        self, fd: int, events: int, callback: Callable[[int], None], owner: RunReactor | None = None
    ) -> None:
        """Call `callback(events)` in the driving thread whenever `fd` is ready."""
        # In this order. The event that is dispatched at this moment may belong to a descriptor that had the
        # number before. The new callback could then run, and close its descriptor, before that is polled.
        # An event that comes in between the two steps is reported again by the next poll.
        self._poller.add(fd, events)
        self._watched[fd] = callback, owner
        if not self._poller.notices_changes and not self.in_driver_thread:
            self._wake()

    def unwatch(self, fd: int) -> None:
        """Stop watching. Call this before closing `fd`: a forked copy would keep the registration alive."""
        if fd in self._watched:
            self._poller.remove(fd)  # first: a descriptor that is polled but not known would spin
            self._watched.pop(fd, None)

    def call_at(self, when: float, callback: Callable[[], None], owner: RunReactor | None = None) -> Timer:
        """Call `callback()` in the driving thread once `time.monotonic()` has reached `when`."""
        timer = Timer(when, callback, owner)
        if self.in_driver_thread:
            self._schedule(timer)
        else:
            self.post(lambda: self._schedule(timer), owner)
        return timer

    def post(self, callback: Callable[[], None], owner: RunReactor | None = None) -> None:
        """Call `callback()` in the driving thread soon."""
        self._posted.append((callback, owner))
        if not self.in_driver_thread:
            self._wake()

    def collect(
        self, handle: Callable[[list[Any]], None], item: object, owner: RunReactor | None = None
    ) -> None:
        """Call `handle(items)` in the driving thread soon, once for all items that are collected by then.

        Between two turns, so that all cancellations and deadlines of one turn are served together. The
        owners of all these items get an exception that it raises.
        """
        self._collected.setdefault(handle, deque()).append((item, owner))
        self.post(partial(self._hand_out, handle), owner)

    def _hand_out(self, handle: Callable[[list[Any]], None]) -> None:
        waiting = self._collected[handle]
        items = [waiting.popleft() for _ in range(len(waiting))]
        if not items:
            return
        try:
            handle([item for item, _ in items])
        except Exception as error:  # noqa: BLE001 - it is the owners'
            for owner in dict.fromkeys(owner for _, owner in items):
                self._handle(error, None, owner)

    def look(self) -> ProcessLook:
        """Return a look at the machine's processes that is no older than the events of this turn."""
        if self._look is None:
            self._look = ProcessLook()
        return self._look

    def enqueue(self, callback: Callable[[], None], owner: RunReactor | None = None) -> None:
        """Post a call without waking the driver; the caller does that by `interrupt`."""
        self._posted.append((callback, owner))

    def interrupt(self) -> None:
        """Wake the driver, also in its own thread: a signal handler may have interrupted its sleep."""
        self._wake()

    def wake(self) -> None:
        """Wake the driver, whatever it sleeps for."""
        self.post(noop)  # it may be about to sleep

    def fault(self, error: BaseException) -> None:
        """Take an exception of a step that belongs to no run: report it, or raise it in the driver."""
        if self.shared:
            report("unexpected error in the supervisor thread", error)
        else:
            self.post(partial(_raise, error))

    def run_once(self) -> None:
        """Sleep until something is due, and do all that is due."""
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
        self._look = None

    def close(self) -> None:
        """Close the descriptors. In the driving thread, after the last `run_once`."""
        if self._waker is not None:
            self._waker.close()
        self._poller.close()
        self._watched.clear()
        self._timers.clear()
        self._posted.clear()

    def _sleep_without_poll(self) -> None:
        """Sleep with nothing to watch, as beside Python stages only. A lock costs a quarter of a poll.

        A SimpleQueue would do, but its `get` may sleep for ever. If its timeout is over before it sleeps,
        because the machine is busy, it waits for a negative time (CPython 3.11 to 3.13).
        """
        self._wake_gate.acquire(timeout=self._poll_timeout(timing.max_sleep_s))

    def _poll(self) -> None:
        """Sleep until descriptors are ready, and call their callbacks."""
        blind = self._waker is None
        timeout = self._poll_timeout(_FALLBACK_POLL_INTERVAL_S if blind else timing.max_sleep_s)
        try:
            ready = self._poller.poll(timeout)
        except OSError:
            # The kernel has no memory for it now. Posted calls and due timers are handled all the same.
            time.sleep(self._poll_timeout(_FALLBACK_POLL_INTERVAL_S))
            ready = []
        self._look = None
        if blind and not ready and timeout == _FALLBACK_POLL_INTERVAL_S:
            self.single_threaded = False  # the run takes its time, and gets a waker
        for fd, events in ready:
            watch = self._watched.get(fd)
            if watch is not None:
                try:
                    watch[0](events)
                except Exception as error:  # noqa: BLE001 - it is the owner's, and the others go on
                    self._handle(error, None, watch[1])

    def _open_waker(self) -> None:
        try:
            waker = Waker()
        except OSError:  # no descriptor left for it now
            if self._driver is None:
                raise
            return
        try:
            self.watch(waker.fileno(), READ, lambda _events: waker.clear())
        except BaseException:
            waker.close()
            raise
        self._waker = waker

    def _wake(self) -> None:
        waker = self._waker
        if waker is not None:
            waker.wake()
        else:
            with contextlib.suppress(RuntimeError):  # it is open already
                self._wake_gate.release()

    def _schedule(self, timer: Timer) -> None:
        if len(self._timers) >= self._crowded:
            # Drop the timers of runs that ended long before their deadline, when there are many of them: the
            # cost is spread over all timers.
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
                try:
                    callback()
                except Exception as error:  # noqa: BLE001 - as above
                    self._handle(error, callback, timer.owner)

    def _run_posted(self) -> None:
        # Only the calls that are there now: a callback that posts itself again must not starve the rest.
        for _ in range(len(self._posted)):
            callback, owner = self._posted.popleft()
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - as above
                self._handle(error, callback, owner)

    def _handle(
        self, error: Exception, callback: Callable[[], None] | None, owner: RunReactor | None
    ) -> None:
        """Give what a callback raised to its owner. A service has none; its `callback` is called again."""
        if not self.shared and (owner is None or raised_by_signal_handler(error)):
            raise error  # for whoever drives it: the user's own thread, or a worker process
        if owner is not None:
            owner.fault(error)
            return
        self.fault(error)
        if callback is None:
            time.sleep(_FALLBACK_POLL_INTERVAL_S)  # the descriptor may be ready for ever
        else:
            self._schedule(Timer(time.monotonic() + _RETRY_DELAY_S, callback))


def _raise(error: BaseException) -> None:
    raise error


class RunReactor(Reactor):
    """A reactor as one run sees it: everything that is asked of it here belongs to the run."""

    def __init__(self, reactor: Reactor, on_fault: Callable[[BaseException], None]) -> None:
        # Nothing is called of the base class: the state is that of `reactor`.
        self._reactor = reactor
        self._on_fault: Callable[[BaseException], None] | None = on_fault
        self.shared = reactor.shared
        self.defer_release = reactor.defer_release
        self.look = reactor.look  # type: ignore[method-assign]
        self.unwatch = reactor.unwatch  # type: ignore[method-assign]
        self.wake = reactor.wake  # type: ignore[method-assign]
        self.interrupt = reactor.interrupt  # type: ignore[method-assign]
        self.run_once = reactor.run_once  # type: ignore[method-assign]
        self.close = reactor.close  # type: ignore[method-assign]

    @property
    def in_driver_thread(self) -> bool:
        """Whether the calling thread is the one that drives it."""
        return self._reactor.in_driver_thread

    def expect_no_posts(self) -> None:
        """Rely on it that no other thread is ever going to post anything."""
        self._reactor.expect_no_posts()

    def watch(
        self, fd: int, events: int, callback: Callable[[int], None], owner: RunReactor | None = None
    ) -> None:
        """Call `callback(events)` in the driving thread whenever `fd` is ready."""
        self._reactor.watch(fd, events, callback, owner or self)

    def call_at(self, when: float, callback: Callable[[], None], owner: RunReactor | None = None) -> Timer:
        """Call `callback()` in the driving thread once `time.monotonic()` has reached `when`."""
        return self._reactor.call_at(when, callback, owner or self)

    def post(self, callback: Callable[[], None], owner: RunReactor | None = None) -> None:
        """Call `callback()` in the driving thread soon."""
        self._reactor.post(callback, owner or self)

    def enqueue(self, callback: Callable[[], None], owner: RunReactor | None = None) -> None:
        """Post a call without waking the driver; the caller does that by `interrupt`."""
        self._reactor.enqueue(callback, owner or self)

    def collect(
        self, handle: Callable[[list[Any]], None], item: object, owner: RunReactor | None = None
    ) -> None:
        """Call `handle(items)` in the driving thread soon, once for all items of all runs."""
        self._reactor.collect(handle, item, owner or self)

    def fault(self, error: BaseException) -> None:
        """Give an exception of a step of the engine to the run. From any thread."""
        on_fault = self._on_fault
        if on_fault is not None:
            call_again(partial(on_fault, error))

    def forget_run(self) -> None:
        """Let go of the run, which has ended."""
        self._on_fault = None

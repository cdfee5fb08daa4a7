"""A reactor for one started run, which the supervisor drives until somebody waits for the run.

A thread that waits has nothing else to do, so it steers its run itself. That saves two switches of thread,
and it takes work away from the one supervisor: with two hundred threads that start and wait, everybody would
wait for that one. So what is watched is lent to the supervisor's own poller, and fetched from there by the
first thread that waits (`drive`), which gives it back when it leaves before the end.

`_turning` is held by whoever calls callbacks of this run, so these run one at a time, and never at the same
time as what is watched changes hands. The supervisor does not wait for it while a waiter steers. What it
cannot do then, it hands over: a call is posted, and a descriptor is the waiter's to look at by then. Timers
are always the supervisor's, and are handed over when they are due. Who else waits sleeps on the run's latch.

An interrupt may fall into any step of `drive`. `_watched` says at any time what is to be watched, and
`_give_back` can be done again.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from itertools import starmap
from typing import TYPE_CHECKING

from penstock.control.latch import wait_in_slices
from penstock.control.reactor import LONGEST_SLEEP, Reactor, Timer
from penstock.control.supervisor import supervisor
from penstock.system.fds import Waker
from penstock.system.poller import READ, PollPoller

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.control.latch import Latch

__all__ = ["Lent", "started_reactor", "wait_steering"]

_NOBODY = 0
"""No thread's ident."""
_BLIND_SLEEP = 0.01
"""Seconds, where the kernel refuses to wait."""
_BRIEF = 0.05
"""Seconds that a thread waits for its turn, while the supervisor is busy with the run; another waiter's lasts
longer.
"""


class _HomeTimer(Timer):
    """A timer of the supervisor's that calls back where the run is steered."""

    __slots__ = ("outer",)

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        super().__init__(when, callback)
        self.outer: Timer | None = None

    def cancel(self) -> None:
        """Forget the call, here and there."""
        super().cancel()
        if self.outer is not None:
            self.outer.cancel()

    def fire(self) -> None:
        """Make the call, unless it was cancelled meanwhile."""
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()


class Lent(Reactor):
    """Steers one run: in the supervisor's thread, or in that of whoever waits."""

    def __init__(self, home: Reactor) -> None:
        """`home` is the supervisor's own."""
        super().__init__(PollPoller(), _NOBODY)
        self._home = home
        self._events: dict[int, int] = {}
        self._fetched = False
        """Whether the descriptors are with the thread that waits."""
        self._turning = threading.Lock()

    @property
    def driven_here(self) -> bool:
        """Whether the calling thread drives it, or would have to."""
        return super().driven_here or self._home.driven_here

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """As any reactor's. By the thread that starts the run, or the one that drives it."""
        self._watched[fd] = callback
        self._events[fd] = events
        if self._fetched:
            self._poller.add(fd, events)
        else:
            self._home.watch(fd, events, partial(self._ready, fd))

    def unwatch(self, fd: int) -> None:
        """As any reactor's."""
        if fd in self._watched:
            if self._fetched:
                self._poller.remove(fd)
            else:
                self._home.unwatch(fd)
            self._watched.pop(fd, None)

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """As any reactor's."""
        timer = _HomeTimer(when, callback)
        timer.outer = self._home.call_at(when, partial(self._from_home, timer.fire))
        return timer

    def post(self, callback: Callable[[], None]) -> None:
        """As any reactor's: from a signal handler too."""
        self._posted.append(callback)
        # Also in the thread that drives: a signal handler runs there, and it may have been about to sleep.
        self._wake()

    def drive(self, over: Callable[[], bool], until: float | None, recover: Callable[[], None]) -> bool:
        """Steer the run in the calling thread until `over()`, or `until` that time by `time.monotonic()`.

        False where another thread does. What interrupts it is raised, and whoever steers next calls
        `recover()`.
        """
        got: list[bool] = []
        try:
            # In C, into a list: so no interrupt comes between taking the lock and what lets go of it.
            got.extend(starmap(self._turning.acquire, ((True, _BRIEF),)))
            return got[0] and self._drive(over, until, recover)
        finally:
            if got and got[0]:
                self._driver = _NOBODY
                self._turning.release()

    def _drive(self, over: Callable[[], bool], until: float | None, recover: Callable[[], None]) -> bool:
        try:
            waker = Waker()
        except OSError:  # no descriptor left for it: the supervisor has its own
            return False
        try:
            self._fetch(waker)
            self._turns(waker, over, until)
        except BaseException:
            self._posted.append(recover)
            raise
        finally:
            try:
                self._give_back(waker)
            except BaseException:  # a second interrupt: the run must not stay without a driver
                self._give_back(waker)
                raise
        return True

    def _fetch(self, waker: Waker) -> None:
        self._driver = threading.get_ident()
        self._poller.add(waker.fileno(), READ)
        self._waker = waker
        for fd in self._watched:
            self._home.unwatch(fd)
            self._poller.add(fd, self._events[fd])
        self._fetched = True

    def _turns(self, waker: Waker, over: Callable[[], bool], until: float | None) -> None:
        alarm = waker.fileno()
        while True:
            self._run_posted()
            patience = LONGEST_SLEEP if until is None else min(LONGEST_SLEEP, until - time.monotonic())
            if over() or patience < 0:
                return
            try:
                ready = self._poller.poll(0.0 if self._posted else patience)
            except OSError:  # no memory for it, for now
                time.sleep(min(patience, _BLIND_SLEEP))
                ready = []
            for fd, events in ready:
                callback = self._watched.get(fd)
                if callback is not None:
                    callback(events)
                elif fd == alarm:
                    waker.clear()

    def _give_back(self, waker: Waker) -> None:
        self._waker = None
        self._fetched = False
        self._poller.close()
        for fd in self._watched:
            self._lend(fd)
        waker.close()
        # Whatever was posted meanwhile, and by whatever way.
        self._home.post(self._catch_up)

    def _lend(self, fd: int) -> None:
        try:
            self._home.watch(fd, self._events[fd], partial(self._ready, fd))
        except FileExistsError:  # epoll's word for what it has already
            pass
        except OSError:  # no memory for it, for now
            again = partial(self._from_home, partial(self._lend_again, fd))
            self._home.call_at(time.monotonic() + _BRIEF, again)

    def _lend_again(self, fd: int) -> None:
        if fd in self._watched and not self._fetched:
            self._lend(fd)

    # In the supervisor's thread.

    def _ready(self, fd: int, events: int) -> None:
        if self._enter():
            try:
                callback = self._watched.get(fd)
                if callback is not None:
                    callback(events)
                self._run_posted()
            finally:
                self._leave()

    def _from_home(self, callback: Callable[[], None]) -> None:
        if self._enter():
            try:
                callback()
                self._run_posted()
            finally:
                self._leave()
        else:
            self._posted.append(callback)
            self._wake()

    def _enter(self) -> bool:
        """Take the turn; False where a waiter has it. One that is just coming or going is waited for."""
        waits = self._waker is None
        if not self._turning.acquire(waits, _BRIEF if waits else -1):
            return False
        self._driver = threading.get_ident()
        return True

    def _catch_up(self) -> None:
        if self._posted:
            self._from_home(_nothing)

    def _leave(self) -> None:
        self._driver = _NOBODY
        self._turning.release()
        if self._posted:
            self._home.post(self._catch_up)

    def _wake(self) -> None:
        waker = self._waker
        if waker is None:
            self._home.post(self._catch_up)
        else:
            waker.wake()


def started_reactor(*, in_loop: bool) -> Reactor:
    """What steers a run that its caller gets hold of."""
    # Nobody waits in a thread for a run of an event loop's.
    return supervisor() if in_loop else Lent(supervisor())


def wait_steering(ended: Latch, reactor: Reactor, timeout: float | None, recover: Callable[[], None]) -> bool:
    """Wait until it is set, at most `timeout` seconds, and steer where nobody else does; whether it is."""
    if isinstance(reactor, Lent) and not ended.is_set():
        until = None if timeout is None else time.monotonic() + timeout
        if reactor.drive(ended.is_set, until, recover):
            return ended.is_set()
        timeout = None if until is None else max(0.0, until - time.monotonic())
    return wait_in_slices(ended, timeout)


def _nothing() -> None:
    """What is done where something has been posted."""

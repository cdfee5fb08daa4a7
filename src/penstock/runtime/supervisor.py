"""The background thread of the process that steers every run which no thread drives for itself.

It starts with the first such run and stays, asleep in the kernel, until the process ends. It owns an epoll
and a waker descriptor. It never blocks elsewhere and never calls user code. At interpreter exit the
active runs get SIGKILL. In a forked copy of the host the thread is simply absent: the next run there starts
its own.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque

from penstock.runtime import thread_pool
from penstock.runtime.blocked_readers import leave_readers_open
from penstock.runtime.log import report
from penstock.runtime.reactor import Reactor
from penstock.system.fork_guard import reset_in_child
from penstock.system.interpreters import allow_thread
from penstock.system.poller import PollPoller, new_poller
from penstock.system.process_tree import kill_trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol

    from penstock.system.process_tree import ProcessTree
else:
    Protocol = object

__all__ = [
    "ActiveRun",
    "Cancellation",
    "active_runs",
    "begin_start",
    "block_if_finalizing",
    "cancel_active",
    "end_start",
    "last_cancellation",
    "local_reactor",
    "supervisor",
]


class ActiveRun(Protocol):
    """A run, as seen by process exit, by forks, and by a cancellation of all runs."""

    def enqueue_cancel(self, error: BaseException) -> Callable[[], None]:
        """Prepare a cancellation because of `error`, and return what carries it out, from any thread."""
        raise NotImplementedError

    def cancelled_before(self) -> BaseException | None:
        """Return why all runs were cancelled since this one was made, if they were."""

    def to_be_killed(self) -> Iterable[tuple[ProcessTree, Callable[[], None]]]:
        """Return the trees of its processes, and what sends SIGKILL to each: the interpreter is ending."""
        raise NotImplementedError

    def forget_in_child(self) -> None:
        """Called in a forked copy: this run belongs to another process now."""


class _Supervisor(Reactor):
    """A reactor that a thread of its own drives.

    An interrupt may come while the thread is being started: then it may begin, or may have begun. `_gate`
    lets either the thread begin first, which then closes everything and ends, or the clean-up come first.
    """

    def __init__(self) -> None:
        """Become the supervisor of the process.

        OSError or RuntimeError if it gets no descriptor or no thread; then nothing is left open.
        """
        global _current  # noqa: PLW0603 - one for the process is the point
        allow_thread()
        self._kept: deque[object] = deque()
        self.defer_release = self._kept.append
        self._gate = threading.Lock()
        self._begun = self._unwanted = False
        poller = new_poller()
        try:
            super().__init__(poller)
        except BaseException:
            poller.close()  # a waker that was made goes with its last reference
            raise
        try:
            self._thread = threading.Thread(target=self._loop, name="penstock-supervisor", daemon=True)
            self._thread.start()
            _current = self  # nothing is called from here to the end, so no interrupt can come
        except BaseException:
            with self._gate:
                self._unwanted = True
                begun = self._begun
            if begun:
                self.wake()
            else:
                self.close()
            raise

    def _loop(self) -> None:
        with self._gate:
            self._begun = not self._unwanted
        while not self._unwanted:
            try:
                self.run_once()
                if self._kept:
                    self._release_finished()
            except Exception as error:  # noqa: BLE001 - a fault in one run's steering must not end all others'
                report("unexpected error in the supervisor thread", error)
        if self._begun:
            self.close()

    def _release_finished(self) -> None:
        """Have a worker drop finished runs.

        This thread may hold the last reference, and user finalizers may take long or wait for another run.
        """
        things = [self._kept.popleft() for _ in range(len(self._kept))]
        try:
            thread_pool.submit(things.clear)
        except RuntimeError:  # no thread available for now
            self._kept.extend(things)


active_runs: set[ActiveRun] = set()
"""The active runs, so that exit and fork find them. Adding and discarding are atomic under the GIL."""


class Cancellation:
    """One call of `cancel_active`."""

    __slots__ = ("make_reason",)

    def __init__(self, make_reason: Callable[[], BaseException]) -> None:
        self.make_reason = make_reason


_last_cancellation = Cancellation(RuntimeError)  # of no run


def last_cancellation() -> Cancellation:
    """Return the last cancellation of all runs; before the first, one that has no effect."""
    return _last_cancellation


def cancel_active(make_reason: Callable[[], BaseException]) -> None:
    """Cancel every active run, each with a reason of its own. From any thread or signal handler.

    A run that was made before, and is added to `active_runs` a moment later, compares `last_cancellation()`
    with what it was when the run was made. So none slips through.
    """
    global _last_cancellation  # noqa: PLW0603 - one for the process, as the runs are
    _last_cancellation = Cancellation(make_reason)  # before the runs are listed
    # Each is cancelled before the first wakes: a run in a function of another one, which ends before that is
    # cancelled, would be a failure of the function.
    for wake in [run.enqueue_cancel(make_reason()) for run in list(active_runs)]:
        wake()


_lock = threading.Lock()
_current: _Supervisor | None = None

_EXIT_TIMEOUT_S = 2.0
"""Seconds that interpreter exit waits for spawns in other threads."""
_starting = threading.RLock()
"""Guards the next two. Made in C, unlike a Condition: so no interrupt comes between taking it and the code
that releases it, after which every other thread would wait for it for ever.
"""
_starts = 0
_ending = False
_all_started = threading.Event()
"""Set once the interpreter is ending and no start is under way."""


def supervisor() -> Reactor:
    """Return the process's own reactor; the first call starts its thread."""
    found = _current
    if found is None:
        with _lock:
            found = _current
            if found is None:
                found = _Supervisor()  # which makes itself the current one
    return found


def local_reactor() -> Reactor:
    """Return a reactor that the calling thread is going to drive, for one run."""
    return Reactor(PollPoller(), threading.get_ident())


def begin_start() -> bool:
    """Note that a run is being started. False at interpreter exit: nobody would end the run."""
    global _starts  # noqa: PLW0603
    with _starting:
        if not _ending:
            _starts += 1
        return not _ending


def end_start() -> None:
    """Note that the start has succeeded or failed: all its children are known."""
    global _starts  # noqa: PLW0603
    with _starting:
        _starts -= 1
        if _ending and _starts == 0:
            _all_started.set()


def block_if_finalizing() -> None:
    """Never return if the interpreter is ending and the calling thread is a daemon thread.

    The thread's run was killed because of the exit. Raising that would only print a traceback at the end of a
    program in which nothing went wrong.
    """
    if _ending and threading.current_thread().daemon:
        threading.Event().wait()


def _at_exit() -> None:
    """Kill active runs, including those that other threads are about to start at this moment."""
    global _ending  # noqa: PLW0603
    with _starting:
        _ending = True
        if _starts == 0:
            _all_started.set()
    if active_runs:
        _kill_all()
        _all_started.wait(_EXIT_TIMEOUT_S)
        _kill_all()
    if thread_pool.has_busy_workers():
        leave_readers_open()


def _kill_all() -> None:
    kill_trees(pair for run in list(active_runs) for pair in run.to_be_killed())


def _after_fork_in_child() -> None:
    global _current, _lock, _starting, _starts  # noqa: PLW0603
    # The descriptors are closed by system.fds, which knows them all. The epoll's own is closed by the
    # poller's registry there.
    _lock = threading.Lock()
    _starting = threading.RLock()
    _starts = 0
    _current = None
    for run in list(active_runs):
        run.forget_in_child()
    active_runs.clear()


atexit.register(_at_exit)
reset_in_child(_after_fork_in_child, "runs")

"""Start runs for event loops, whose threads must not do it themselves.

Spawning a command takes half a millisecond, most of it asleep until the child has reached its program.
Opening a path may take for ever (a FIFO, a network file system). So a loop hands its starts to workers and
goes on. A few workers (`_MAX_WORKERS`) share the queue: while one sleeps in a spawn, another prepares the
next start. A thread for each start would be a thread for each run. If no start has got on for
`timing.loop_start_stall_s`, one more worker helps, because all of them may be waiting for the other end of a
FIFO that the next start is about to open.

This limit is not merged with that of `start_slots`. There the thread that starts a run is the caller's, and
sleeps until its turn. Here each waiting start would need a worker: 1000 starts at once took 900 threads and
25 MB, and a third fewer runs were started in a second. A stall is noticed earlier here too, after 20 ms. So
the workers of the queue are exempt from turns.

`_lock` guards the queue and the counts, and is never held during a start.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from penstock.core.timing import timing
from penstock.runtime import start_slots, thread_pool
from penstock.runtime.supervisor import supervisor
from penstock.system.fork_guard import reset_in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["submit"]

_MAX_WORKERS = 4
"""Workers that start runs at once, as long as they get on. More gain nothing, because each holds the GIL for
a quarter of a start.
"""


class _Starter:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[Callable[[], None]] = deque()
        self._workers = 0
        self._taken = 0
        self._watching = False

    def submit(self, task: Callable[[], None]) -> None:
        with self._lock:
            self._queue.append(task)
            hire = self._workers < _MAX_WORKERS
            self._workers += hire
        if not (hire and self._start_worker()):
            self._schedule_stall_check()

    def _start_worker(self) -> bool:
        """Return False if there is no thread and the other workers have to do."""
        try:
            thread_pool.submit(self._work)
        except RuntimeError:  # no thread available
            with self._lock:
                alone = self._workers == 1
                self._workers -= not alone
            if alone:  # better late than never
                self._work()
            return alone
        return True

    def _schedule_stall_check(self) -> None:
        with self._lock:
            if self._watching or not self._queue:
                return
            self._watching = True
            taken = self._taken
        self._watch(taken)

    def _work(self) -> None:
        with start_slots.exempt():
            while True:
                with self._lock:
                    if not self._queue:
                        self._workers -= 1
                        return
                    task = self._queue.popleft()
                    self._taken += 1
                task()
                del task  # an idle worker holds on to nothing

    def _watch(self, taken: int) -> None:
        supervisor().call_at(time.monotonic() + timing.loop_start_stall_s, lambda: self._check_stall(taken))

    def _check_stall(self, before: int) -> None:
        """In the supervisor's thread."""
        with self._lock:
            taken = self._taken
            self._watching = bool(self._queue)
            stalled = self._watching and taken == before
            if stalled:
                self._workers += 1
        if self._watching:
            self._watch(taken)
        if stalled:
            # Without a thread the start waits: the supervisor must not make it.
            try:
                thread_pool.submit(self._work)
            except RuntimeError:
                with self._lock:
                    self._workers -= 1


_starter = _Starter()


def submit(task: Callable[[], None]) -> None:
    """Call `task()`, which raises nothing, in a worker, after those that were submitted before."""
    _starter.submit(task)


def _after_fork_in_child() -> None:
    global _starter  # noqa: PLW0603 - what waits there belongs to another process
    _starter = _Starter()


reset_in_child(_after_fork_in_child, "runs")

"""Runs that are started for an event loop, whose thread must not do it itself.

To spawn a command takes half a millisecond, most of it asleep until the child has reached its program; to
open a path may take for ever (a FIFO, a network file system). So a loop hands its starts to workers, and goes
on meanwhile. A few of them (`_MAX_WORKERS`) share the queue: while one sleeps in a spawn, another prepares
the next. A thread a start would be a thread a run. Where no start has got on for a while
(`timing.loop_start_stall_s`) one more helps, since all of them may wait for the other end of a FIFO that the
next is about to open.

Why this is not `start_slots`, whose limit is about the same. There the thread that starts a run is the
caller's, and sleeps until its turn. Here it would be a worker for each start that waits: 1000 starts at once
took 900 threads and 25 MB, and a third fewer runs were started in a second. And this queue notices a stall
after 20 ms, since nothing else runs in its workers. So the workers are exempt from turns.

`_lock` guards the queue and the counts, and is never held while a start goes on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from penstock.core.timing import timing
from penstock.runtime import start_slots, thread_pool
from penstock.runtime.supervisor import supervisor
from penstock.system.fork_guard import reset_in_child

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["submit"]

_MAX_WORKERS = 4
"""Workers that start runs at once, as long as they get on. More gain nothing, since each holds the
interpreter's lock for a quarter of a start.
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
        """False where the others have to do."""
        try:
            thread_pool.submit(self._work)
        except RuntimeError:  # no thread to be had
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
            # No thread to be had is no reason to start anything on the supervisor.
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

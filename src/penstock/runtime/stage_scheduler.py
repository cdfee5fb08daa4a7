"""The Python stages of a run, run by as few threads as will do: launch on block.

To wake a sleeping thread takes longer than most short stages take to do their work. So the stages of a run
that are Python functions stand in a row, and one worker is started for all of them. It runs the first; when
that has ended, the next, whose input is complete by then. Only when a stage is about to sleep in one of its
streams is another worker started, for those that still wait: one of them is what the sleeper waits for.

Why nothing waits for ever. Call a thread that takes from the row a runner. As long as a stage waits in the
row, one of these is true:

- a runner is busy with a stage: that stage ends, and the runner takes the next; or it is about to sleep in a
  stream of ours, and then `add_thread` starts another runner before it does; or it sleeps in, or is busy
  with, something of the user's own, of which nobody tells us: then `_check_stall`, a timer of the reactor's,
  starts further runners, one after 2 ms, and twice as many each time;
- a runner has been handed to a worker that has not taken anything yet.

So all of ten stages run 8 ms after the start, whatever they do. `_check_stall` goes on until nobody waits,
and runs in the thread that steers, which never runs stages. Where the system allows no further thread, those
that wait fail, and their neighbours see their streams end.

Who may block: `_work`, in the stages. `add_thread` is called by a thread that is about to sleep and holds no
lock of ours but a pipe's turn to write; it takes none that is held while anything sleeps.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from penstock.core.timing import timing
from penstock.runtime import thread_pool
from penstock.streams.base import before_sleep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from penstock.runtime.reactor import Reactor

__all__ = ["StartBarrier", "WorkUnit"]


class WorkUnit(Protocol):
    """A stage, or a chain of fused ones, that wants a thread."""

    def work(self) -> None:
        """Do all of it, in this thread; raises nothing. Nothing happens where it was dropped before."""

    def fail(self, error: BaseException) -> None:
        """It is never going to be begun; `error` is its outcome."""


class _StageQueue:
    """Units that wait for a thread, in the order of their stages."""

    __slots__ = ("_reactor", "_runners", "_waiting")

    def __init__(self, units: Iterable[WorkUnit], reactor: Reactor) -> None:
        self._waiting = deque(units)
        self._reactor = reactor
        self._runners = 1
        """That the next look is to start."""

    def start(self) -> None:
        """Begin. RuntimeError where there is no thread to be had."""
        several = len(self._waiting) > 1
        thread_pool.submit(self._work)
        if several:
            self._reactor.call_at(time.monotonic() + timing.stage_stall_s, self._check_stall)

    def add_thread(self) -> None:
        """Start another runner for those that wait, if any."""
        if not self._waiting:
            return
        try:
            thread_pool.submit(self._work)
        except RuntimeError as error:
            while (unit := self._take()) is not None:
                unit.fail(error)

    def _work(self) -> None:
        """Run one unit after the other until none waits."""
        before_sleep.hook = self.add_thread
        try:
            while (unit := self._take()) is not None:
                unit.work()
        finally:
            before_sleep.hook = None

    def _take(self) -> WorkUnit | None:
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def _check_stall(self) -> None:
        """In the thread that steers."""
        if not self._waiting:
            return
        for _ in range(min(self._runners, len(self._waiting))):
            self.add_thread()
        self._runners *= 2
        self._reactor.call_at(time.monotonic() + timing.stage_stall_s, self._check_stall)


class StartBarrier:
    """What is to begin once every stage of a run has been started; never, where the start was given up."""

    __slots__ = ("_reactor", "_tasks", "_units", "_waits")

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._tasks: list[Callable[[], None]] = []
        self._units: list[WorkUnit] = []
        self._waits: bool | None = True
        """None once it was given up."""

    def add_callback(self, task: Callable[[], None]) -> None:
        """Call `task()` then, or now."""
        if self._waits:
            self._tasks.append(task)
        elif self._waits is False:
            task()

    def add_stage(self, unit: WorkUnit) -> None:
        """Give `unit` a thread then, or now. RuntimeError where it is now and there is none to be had."""
        if self._waits:
            self._units.append(unit)
        elif self._waits is False:
            _StageQueue((unit,), self._reactor).start()

    def open(self) -> None:
        """Begin with all of it. RuntimeError where there is no thread to be had."""
        self._waits = False
        tasks, units = self._tasks, self._units
        self._tasks, self._units = [], []
        for task in tasks:
            task()
        if units:
            _StageQueue(units, self._reactor).start()

    def abort(self) -> None:
        """Forget all of it."""
        self._waits = None
        self._tasks, self._units = [], []

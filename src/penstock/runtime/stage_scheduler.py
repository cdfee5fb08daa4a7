"""Run the Python stages of a run with as few threads as possible: launch on block.

Waking a sleeping thread takes longer than most short stages take to do their work. So the Python stages of a
run stand in a queue, and one worker is started for all of them. It runs the first stage. When that has ended
the worker runs the next, whose input is complete by then. Only when a stage is about to sleep in one of its
streams is another worker started for the waiting stages: the sleeper waits for one of them.

Why nothing waits for ever. Call a thread that takes stages from the queue a runner. As long as a stage waits
in the queue, one of these is true:

- a runner is busy with a stage. Either that stage ends, and the runner takes the next; or it is about to
  sleep in one of our streams, and `add_thread` starts another runner before it does; or it sleeps in, or is
  busy with, user code or a user object, which notifies nobody. For this case `_check_stall`, a timer of
  the reactor, starts further runners, one after 2 ms, and twice as many each time;
- a runner has been handed to a worker that has not taken anything yet.

So all of ten stages run 8 ms after the start, whatever they do. `_check_stall` goes on until no stage waits.
It runs in the reactor's thread, which never runs stages. If the system allows no further thread, the waiting
stages fail, and their neighbours see their streams end.

The caller's thread may be the first runner (`by_caller`): it waits for the end of the run anyway.
`stall_watch` then takes the place of `_check_stall`, because nobody drives a reactor meanwhile. A runner
keeps the hook of the run that it is in the middle of, as in a function that runs a pipeline, and calls that
before it sleeps too.

Blocking. `_work` blocks in the stages. `add_thread` is called by a thread that is about to sleep, and that
holds none of our locks but a pipe's turn to write. It takes no lock that is held while anything sleeps.
"""

from __future__ import annotations

import time
from collections import deque
from functools import partial

from penstock.core.timing import timing
from penstock.runtime import thread_pool
from penstock.runtime.faults import is_own_error
from penstock.runtime.stall_watch import watch_row
from penstock.streams.base import before_sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from penstock.runtime.reactor import Reactor
    from penstock.runtime.start_barrier import WorkUnit

__all__ = ["run_stages"]


def _never() -> bool:
    return False


class _StageQueue:
    """Units that wait for a thread, in the order of their stages."""

    __slots__ = ("_reactor", "_runners", "_waiting")

    def __init__(self, units: Iterable[WorkUnit], reactor: Reactor) -> None:
        self._waiting = deque(units)
        self._reactor = reactor
        self._runners = 1
        """Runners that the next `add_threads` starts."""

    def start(self) -> None:
        """Begin in a worker. RuntimeError if no thread is available."""
        several = len(self._waiting) > 1
        thread_pool.submit(self._work, self._reactor.fault)
        if several:
            self._check_later()

    def work_in_caller(self, is_over: Callable[[], bool]) -> None:
        """Begin in the calling thread; return when no unit waits any more, or when `is_over()`."""
        first = self._take()  # now, because who looks for a stall takes the first one that waits
        if self._waiting:
            try:
                watch_row(self)
            except RuntimeError:  # no thread is available: the reactor has one
                self._check_later()
        try:
            self._work(first, is_over)
        finally:
            self._waiting.clear()  # after an exit no other is to begin

    def add_thread(self) -> None:
        """Start another runner if units wait."""
        if not self._waiting:
            return
        try:
            thread_pool.submit(self._work, self._reactor.fault)
        except RuntimeError as error:
            while (unit := self._take()) is not None:
                unit.fail(error)

    def _work(self, unit: WorkUnit | None = None, is_over: Callable[[], bool] = _never) -> None:
        """Run one unit after the other, from `unit` on, until none waits or `is_over()`."""
        outer = before_sleep.hook
        before_sleep.hook = self.add_thread if outer is None else partial(_call_both, self.add_thread, outer)
        try:
            while not is_over() and (unit := unit or self._take()) is not None:
                try:
                    unit.work()
                except Exception as error:
                    if not is_own_error(error):
                        raise
                    self._reactor.fault(error)  # the others have their turn all the same
                unit = None
        finally:
            before_sleep.hook = outer

    def _take(self) -> WorkUnit | None:
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def _check_later(self) -> None:
        self._reactor.call_at(time.monotonic() + timing.stage_stall_s, self._check_stall)

    def _check_stall(self) -> None:
        """In the reactor's thread."""
        if self._waiting:
            self.add_threads()
            self._check_later()

    def is_waiting(self) -> bool:
        """Whether a unit waits."""
        return bool(self._waiting)

    def add_threads(self) -> None:
        """Start further runners, because the ones that there are seem to be kept by user code."""
        try:
            for _ in range(min(self._runners, len(self._waiting))):
                self.add_thread()
        except Exception as error:  # noqa: BLE001 - no memory: it ends this run, and no other
            self._reactor.fault(error)
        self._runners *= 2


def run_stages(
    units: Iterable[WorkUnit], reactor: Reactor, *, by_caller: bool = False
) -> Callable[[Callable[[], bool]], None]:
    """Run all units in workers; with `by_caller`, in the thread that calls what is returned, first of all.

    RuntimeError if no thread is available.
    """
    queue = _StageQueue(units, reactor)
    if not by_caller:
        queue.start()
    return queue.work_in_caller


def _call_both(first: Callable[[], None], second: Callable[[], None]) -> None:
    first()
    second()

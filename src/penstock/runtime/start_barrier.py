"""The barrier that holds back the work of a run until all its stages are started.

A run of commands alone holds back nothing. Python stages bring their scheduler along (`stage_scheduler`), so
that only a run that has such stages loads it. All calls come from the thread that starts the run, or after
the barrier was opened; nothing here blocks.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol, TypeAlias

    from penstock.runtime.reactor import Reactor

    class WorkUnit(Protocol):
        """A stage, or a chain of fused ones, that wants a thread."""

        def work(self) -> None:
            """Do all the work, in this thread. Raise nothing. Do nothing if the unit was dropped before."""

        def fail(self, error: BaseException) -> None:
            """End with `error` as the outcome: the unit is never going to begin."""

    RunUnits: TypeAlias = Callable[[Iterable[WorkUnit], Reactor], None]
    """Gives units to workers. RuntimeError if no thread is available."""

__all__ = ["StartBarrier"]


class StartBarrier:
    """Holds back tasks and stages until all stages of a run are started; drops them if a start fails."""

    __slots__ = ("_reactor", "_run", "_tasks", "_units", "_waits")

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._tasks: list[Callable[[], None]] = []
        self._units: list[WorkUnit] = []
        self._run: RunUnits | None = None
        self._waits: bool | None = True
        """None once the start was aborted."""

    def add_callback(self, task: Callable[[], None]) -> None:
        """Call `task()` when the barrier opens, or now if it is open."""
        if self._waits:
            self._tasks.append(task)
        elif self._waits is False:
            task()

    def add_stage(self, unit: WorkUnit, run: RunUnits) -> None:
        """Give `unit` to `run` when the barrier opens, with all others, or now if it is open.

        RuntimeError if the barrier is open and no thread is available.
        """
        if self._waits:
            self._units.append(unit)
            self._run = run
        elif self._waits is False:
            run((unit,), self._reactor)

    def open(self) -> None:
        """Begin all tasks and stages. RuntimeError if no thread is available."""
        self._waits = False
        tasks, units = self._tasks, self._units
        self._tasks, self._units = [], []
        for task in tasks:
            task()
        if units and self._run is not None:
            self._run(units, self._reactor)

    def abort(self) -> None:
        """Drop all tasks and stages."""
        self._waits = None
        self._tasks, self._units = [], []

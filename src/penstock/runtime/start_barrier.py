"""The barrier that holds back the work of a run until all its stages are started.

A run of commands alone holds back nothing. Python stages bring their scheduler along (`stage_scheduler`), so
that only a run that has such stages loads it. All calls come from the thread that starts the run, or after
the barrier was opened.

If the caller's own thread is to work (`by_caller`), opening starts no worker, and the caller calls `work`,
which blocks in the stages. An exception that leaves the caller's program, such as KeyboardInterrupt, may then
be raised in a function. It is kept here, and ends the run.
"""

from __future__ import annotations

from penstock.runtime.faults import is_own_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol

    from penstock.runtime.reactor import Reactor

    class WorkUnit(Protocol):
        """A stage, or a chain of fused ones, that wants a thread."""

        def work(self) -> None:
            """Do all the work, in this thread. Raise nothing. Do nothing if the unit was dropped before."""

        def fail(self, error: BaseException) -> None:
            """End with `error` as the outcome: the unit is never going to begin."""

    class RunUnits(Protocol):
        """Gives units to workers. RuntimeError if no thread is available.

        With `by_caller` no worker begins; what is returned does, in its caller's thread, and goes on until
        no unit waits or its argument returns true.
        """

        def __call__(
            self, units: Iterable[WorkUnit], reactor: Reactor, *, by_caller: bool = False
        ) -> Callable[[Callable[[], bool]], None]: ...


__all__ = ["StartBarrier"]


class StartBarrier:
    """Holds back tasks and stages until all stages of a run are started; drops them if a start fails."""

    __slots__ = ("_by_caller", "_reactor", "_run", "_tasks", "_units", "_waits", "_work", "exit")

    def __init__(self, reactor: Reactor, *, by_caller: bool = False) -> None:
        self._reactor = reactor
        self._by_caller = by_caller
        self._work: Callable[[Callable[[], bool]], None] | None = None
        self.exit: BaseException | None = None
        """The exception by which a function has left the program of a caller that works itself."""
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
            work = self._run(units, self._reactor, by_caller=self._by_caller)
            self._work = work if self._by_caller else None

    def work(self) -> None:
        """Work off the stages in the calling thread, as far as they wait for one."""
        work, self._work = self._work, None
        if work is not None:
            work(lambda: self.exit is not None)

    def note_error(self, error: BaseException) -> None:
        """Keep what a function has raised, if that is to leave the caller's program. In any thread."""
        if self._by_caller and self.exit is None and not is_own_error(error):
            self.exit = error

    def raise_exit(self) -> None:
        """Raise the exception by which a function has left the program."""
        if self.exit is not None:
            raise self.exit

    def abort(self) -> None:
        """Drop all tasks and stages."""
        self._waits = None
        self._tasks, self._units = [], []
        self._work = None

"""End a run with an exception of the engine's own steps, as with any other error.

The steps of a run may fail for want of memory, descriptors or threads, at any place (`runtime.faults` has the
places that catch that). Then the run is cancelled with the exception as the reason, and everything is looked
at again, as after an interrupt: each step that was cut short is taken once more. If that fails too, it is
tried again after a while, until the grace time is over. Then the children get SIGKILL, and the run ends
without looking at anything else.

A run never succeeds with a fault, because the step that failed may have had some bytes in its hands.

Out of scope: cancelling and looking again, which `Execution` does.
"""

from __future__ import annotations

import contextlib
import functools
import time

from penstock.core.errors import PipelineError
from penstock.core.timing import timing
from penstock.core.tracebacks import forget_locals
from penstock.engine import cancellation
from penstock.engine.events import emit_start_failure
from penstock.engine.outcome import Conclusion
from penstock.engine.start_failure import StartFailure
from penstock.engine.tree import CancelReason
from penstock.runtime.faults import is_fault
from penstock.system.process_tree import kill_trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Concatenate, ParamSpec, TypeVar

    from penstock.engine.tree import GroupRun, StageRun
    from penstock.runtime.latch import Latch
    from penstock.runtime.reactor import RunReactor
    from penstock.stages.run_services import RunResources

    P = ParamSpec("P")
    Bounded = TypeVar("Bounded", bound="FaultBoundary")

__all__ = ["FaultBoundary", "ends_with_fault"]

_IMMEDIATE_TRIES = 3
_RETRY_DELAY_S = 0.05
"""Seconds between two tries to end the run, after the first few."""


class FaultBoundary:
    """The part of an `Execution` that takes the exceptions of the engine's steps, and its error."""

    reactor: RunReactor
    root: GroupRun
    leaves: Sequence[StageRun]
    ended: Latch
    failure: StartFailure | None
    _concluded: Conclusion | None
    _resources: RunResources
    _fault: BaseException | None = None
    """The first exception of a step."""
    _fault_time = 0.0
    _faults = 0

    @property
    def error(self) -> PipelineError | None:
        """The error that the run raises, once it has ended."""
        return None if self._concluded is None else self._concluded.error

    @property
    def finished_early(self) -> bool:
        """Whether it has ended, and succeeded with its input left unread on purpose."""
        return self._concluded is not None and self._concluded.finished_early

    def fault(self, error: BaseException) -> None:
        """End the run, because a step has raised `error`. From any thread, any number of times."""
        forget_locals(error)
        if self._fault is None:
            self._fault_time = time.monotonic()
            self._fault = error
        self._faults += 1
        if self._faults <= _IMMEDIATE_TRIES:
            self.reactor.post(self._end_with_fault)
        else:
            self.reactor.call_at(time.monotonic() + _RETRY_DELAY_S, self._end_with_fault)

    def is_start_fault(self, error: BaseException) -> bool:
        """Whether the start of the run fails with `error`, rather than that is the caller's own mistake."""
        return is_fault(error) and not isinstance(error, TypeError | ValueError) and not self.ended.is_set()

    def fail_start(self, failure: StartFailure) -> None:
        """End the run, because it cannot be started."""
        forget_locals(failure)
        forget_locals(failure.cause)
        self.failure = failure
        emit_start_failure(self._resources.events, failure)
        self.abort(cancellation.because_not_started(failure.stage, self.root))

    def failure_of(self, error: BaseException) -> StartFailure:
        """Return the failure of the stage whose turn it was to be started, or of the last one."""
        leaf = next((leaf for leaf in self.leaves if leaf.running is None), self.leaves[-1])
        return StartFailure(error, leaf=leaf)

    def _end_with_fault(self) -> None:
        error = self._fault
        if error is None or self.ended.is_set():
            self.ended.set()  # again: some callback may have been lost
            return
        patience = self.root.option("grace") + timing.kill_timeout_s + timing.close_grace_s
        if self._faults > _IMMEDIATE_TRIES and time.monotonic() > self._fault_time + patience:
            self._conclude_by_force()
            return
        self._cancel(self.root, CancelReason(error, PipelineError, self.root))
        self.recover()

    def _conclude_by_force(self) -> None:
        """Kill all children, by the fewest steps, and end the run, which cannot be ended well."""
        with contextlib.suppress(Exception):
            kill_trees(cancellation.to_be_killed(self.leaves))
        with contextlib.suppress(Exception):
            self._resources.close()  # removes the parts of files
        self._concluded = Conclusion(None, finished_early=False)
        self.blame_fault(self._concluded)
        with contextlib.suppress(Exception):
            self._emit_end()
        self.ended.set()
        self.reactor.wake()

    def blame_fault(self, conclusion: Conclusion) -> None:
        """Make a fault the error of a run without another, of the first stage that was still going on."""
        if conclusion.error is None and self._fault is not None:
            index = next((leaf.index for leaf in self.leaves if leaf.reason is not None), 0)
            stage = self.leaves[index].stage.name
            conclusion.error = PipelineError(stage, self._fault, index=index)
            conclusion.finished_early = False

    def _cancel(self, group: GroupRun, reason: CancelReason) -> None:
        raise NotImplementedError

    def _emit_end(self) -> None:
        raise NotImplementedError

    def abort(self, reason: CancelReason) -> None:
        """Cancel the stages that were started; the others end unstarted."""
        raise NotImplementedError

    def recover(self) -> None:
        """Look at everything again; in the reactor's thread."""
        raise NotImplementedError


def ends_with_fault(step: Callable[Concatenate[Bounded, P], None]) -> Callable[Concatenate[Bounded, P], None]:
    """Let a step of a run raise nothing: the run ends with the exception. For steps that any thread takes."""

    @functools.wraps(step)
    def guarded(self: Bounded, /, *arguments: P.args, **options: P.kwargs) -> None:
        try:
            step(self, *arguments, **options)
        except Exception as error:
            if not is_fault(error):
                raise
            self.fault(error)

    return guarded

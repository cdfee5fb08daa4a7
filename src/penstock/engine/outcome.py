"""Conclude a run: the verdict over its tree and its endpoints, and the one error that it raises.

`conclude` is a pure function of how the stages and the endpoints ended; `Execution` alone keeps its result.
"""

from __future__ import annotations

from functools import cache

from penstock.core.errors import (
    ExitError,
    FinishEarly,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    StartError,
    error_of_python,
)
from penstock.core.excerpt import Excerpt
from penstock.core.printable import printable
from penstock.engine.graph_parts import STDOUT
from penstock.engine.tree import NodeOutcome
from penstock.stages.base import traits_of
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.core.result import Result
    from penstock.engine.branch_ports import BranchPorts
    from penstock.engine.ports import StdinPort, StdoutPort
    from penstock.engine.run_plan import RunPlan
    from penstock.engine.start_failure import StartFailure
    from penstock.engine.tree import CancelReason, GroupRun, StageRun

__all__ = ["Conclusion", "EndFault", "build_result", "conclude"]

_NOTE_LINES = 20
_NOTE_BYTES = 2000


class Conclusion:
    """The outcome of a run."""

    __slots__ = ("error", "finished_early")

    def __init__(self, error: PipelineError | None, *, finished_early: bool) -> None:
        self.error = error
        """The error that the run raises; None for a success."""
        self.finished_early = finished_early
        """Whether it succeeded with its input left unread on purpose."""


class EndFault:
    """An endpoint that has failed: its name, its error, and the place of the root's child that it is at."""

    __slots__ = ("error", "name", "place")

    def __init__(self, name: str, error: BaseException, place: int) -> None:
        self.name = name
        self.error = error
        self.place = place


def conclude(  # noqa: PLR0913 - the facts that a run is judged by
    root: GroupRun,
    leaves: Sequence[StageRun],
    *,
    stdin_faults: Sequence[EndFault],
    stdout_faults: Sequence[EndFault],
    left_early: int | None,
    reason: CancelReason | None,
    failure: StartFailure | None,
) -> Conclusion:
    """Choose the error that a run raises, by the verdict over its stages and over its failed endpoints.

    `left_early`: the caller reads the output of the child at that place, and may have stopped. `reason`: why
    the whole run was cancelled. `failure`: why it could not be started.
    """
    end = _final_outcome(root, stdin_faults, stdout_faults, reason, left_early)
    finished_early = isinstance(end.error, FinishEarly)
    if failure is not None:
        index = None if failure.leaf is None else failure.leaf.index
        error: PipelineError | None = StartError(failure.stage, failure.cause, index=index)
    elif end.error is None or finished_early:
        error = None
    else:
        error = _error_of(end, end.error, leaves)
    return Conclusion(error, finished_early=finished_early)


def _final_outcome(
    root: GroupRun,
    stdin_faults: Sequence[EndFault],
    stdout_faults: Sequence[EndFault],
    reason: CancelReason | None,
    left_early: int | None,
) -> NodeOutcome:
    """Return the outcome of the whole: that of the root, with those endpoints judged that have failed."""
    before = [(fault.place, NodeOutcome(fault.error, None, end=fault.name)) for fault in stdin_faults]
    after = []
    for fault in stdout_faults:
        because = reason if reason is not None and reason.error is fault.error else None
        ignored = because is not None and because.collateral
        after.append((fault.place, NodeOutcome(fault.error, None, because, ignored=ignored, end=fault.name)))
    if left_early is not None and not any(fault.name == STDOUT for fault in stdout_faults):
        # The caller is the reader, and a reader that closes its pipe has finished early.
        after.append((left_early, NodeOutcome(FinishEarly(), None)))
    return root.end if root.end is not None and not (before or after) else root.compute_outcome(before, after)


def _error_of(end: NodeOutcome, cause: BaseException, leaves: Sequence[StageRun]) -> PipelineError:
    """Return the error that the run raises for `cause`, the error that its verdict has kept."""
    if end.reason is not None and issubclass(end.reason.reported_as, PipelineTimeout | PipelineCancelled):
        return end.reason.reported_as(None, cause)  # no stage is to blame
    if end.index is None:
        return PipelineError(end.end, cause)
    kind = PipelineError if end.reason is None else end.reason.reported_as
    stage = leaves[end.index].stage
    if traits_of(stage).kind != "command":
        return error_of_python(kind, stage.name, cause, end.index)
    error = kind(stage.name, cause, index=end.index)
    if isinstance(cause, ExitError) and cause.stderr:
        excerpt = Excerpt()
        excerpt.feed(cause.stderr)
        shown = printable(excerpt.last_lines(_NOTE_LINES, _NOTE_BYTES))
        error.add_note(f"the end of its stderr:\n{shown}")
    return error


def build_result(  # noqa: PLR0913 - all that is known
    leaves: Sequence[StageRun],
    plan: RunPlan,
    ports: tuple[StdinPort | None, StdoutPort | None],
    others: BranchPorts | None,
    elapsed: float,
    error: PipelineError | None,
) -> Result:
    """Collect all that is known of a run that has ended; OSError if the module for it cannot be loaded."""
    result: Result = _maker()(leaves, plan, ports, others, elapsed, error)
    return result


@cache
def _maker() -> Callable[..., Result]:
    with late_import:
        from penstock.engine.results import make_result  # noqa: PLC0415 - for the first result only
    return make_result

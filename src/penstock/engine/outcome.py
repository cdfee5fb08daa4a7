"""What a run has come to: the verdict over its tree and its endpoints, and the one error that it raises."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Protocol

from penstock.core.errors import ExitError, FinishEarly, PipelineError, StartError
from penstock.core.excerpt import Excerpt
from penstock.engine.tree import NodeOutcome
from penstock.system.fork_guard import late_import

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.core.result import Result
    from penstock.engine.ports import StdinPort, StdoutPort
    from penstock.engine.startup import StartFailure
    from penstock.engine.tree import CancelReason, Group, Leaf

__all__ = ["build_result", "conclude"]

_NOTE_LINES = 20
_NOTE_BYTES = 2000


class _Ended(Protocol):
    """An execution, as far as its result is concerned."""

    began: float
    root: Group
    leaves: list[Leaf]
    kinds: list[str]
    source: StdinPort | None
    sink: StdoutPort | None
    reason: CancelReason | None
    failure: StartFailure | None
    left_early: bool
    finished_early: bool
    error: PipelineError | None
    elapsed: float


def conclude(execution: _Ended) -> Result | None:
    """Set its `error`, and whether it `finished_early`; the result where it failed, which holds the error."""
    end = _final_outcome(execution)
    execution.finished_early = isinstance(end.error, FinishEarly)
    execution.error = error = _error_of(execution, end)
    if error is None:
        return None
    try:
        error.result = build_result(execution, error)
    except OSError:  # no descriptor to load the module with: made where the error is raised
        return None
    return error.result


def _final_outcome(execution: _Ended) -> NodeOutcome:
    """The end of the whole: the verdict over its stages, and over the endpoints where these failed."""
    before, after = [], []
    source, sink, reason = execution.source, execution.sink, execution.reason
    if source is not None and source.error is not None:
        before.append(NodeOutcome(source.error, None))
    if sink is not None and sink.error is not None:
        if reason is not None and reason.error is not sink.error:
            reason = None
        excluded = reason is not None and reason.collateral
        after.append(NodeOutcome(sink.error, None, reason, excluded=excluded))
    elif execution.left_early:
        # The caller is the reader, and a reader that closes its pipe has finished early.
        after.append(NodeOutcome(FinishEarly(), None))
    root = execution.root
    return root.end if root.end is not None and not (before or after) else root.compute_outcome(before, after)


def _error_of(execution: _Ended, end: NodeOutcome) -> PipelineError | None:
    """The error that the run raises for the end that its verdict has kept, or for its failure to start."""
    failure, source = execution.failure, execution.source
    if failure is not None:
        index = None if failure.leaf is None else failure.leaf.index
        return StartError(failure.stage, failure.cause, index=index)
    if end.error is None or isinstance(end.error, FinishEarly):
        return None
    kind = PipelineError if end.reason is None else end.reason.reported_as
    if end.index is None:
        side = "stdin" if source is not None and end.error is source.error else "stdout"
        return kind(side, end.error)
    error = kind(execution.leaves[end.index].stage.name, end.error, index=end.index)
    if isinstance(end.error, ExitError) and end.error.stderr:
        excerpt = Excerpt()
        excerpt.feed(end.error.stderr)
        error.add_note(f"the end of its stderr:\n{excerpt.last_lines(_NOTE_LINES, _NOTE_BYTES)}")
    return error


def build_result(execution: _Ended, error: PipelineError | None) -> Result:
    """All that is known of a run that has ended."""
    result: Result = _maker()(execution, error)
    return result


@cache
def _maker() -> Callable[..., Result]:
    with late_import:
        from penstock.engine.results import make_result  # noqa: PLC0415 - dataclasses are dear to import
    return make_result

"""What a run has come to: the verdict over its tree and its endpoints, and the one error that it raises."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Protocol

from penstock.core.errors import ExitError, FinishEarly, PipelineError, StartError
from penstock.core.excerpt import Excerpt
from penstock.engine.tree import End
from penstock.system.fork_guard import guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.core.result import Result
    from penstock.engine.ports import Sink, Source
    from penstock.engine.startup import StartFailure
    from penstock.engine.tree import Group, Leaf, Reason

__all__ = ["pronounce", "result_of"]

_NOTE_LINES = 20
_NOTE_BYTES = 2000


class _Ended(Protocol):
    """An execution, as far as its result is concerned."""

    began: float
    root: Group
    leaves: list[Leaf]
    kinds: list[str]
    source: Source | None
    sink: Sink | None
    reason: Reason | None
    failure: StartFailure | None
    left_early: bool
    finished_early: bool
    error: PipelineError | None
    elapsed: float


def pronounce(execution: _Ended) -> Result | None:
    """Set its `error`, and whether it `finished_early`; the result where it failed, which holds the error."""
    end = _judge(execution)
    execution.finished_early = isinstance(end.error, FinishEarly)
    execution.error = error = _error_of(execution, end)
    if error is None:
        return None
    try:
        error.result = result_of(execution, error)
    except OSError:  # no descriptor to load the module with: made where the error is raised
        return None
    return error.result


def _judge(execution: _Ended) -> End:
    """The end of the whole: the verdict over its stages, and over the endpoints where these failed."""
    before, after = [], []
    source, sink, reason = execution.source, execution.sink, execution.reason
    if source is not None and source.error is not None:
        before.append(End(source.error, None))
    if sink is not None and sink.error is not None:
        if reason is not None and reason.error is not sink.error:
            reason = None
        excluded = reason is not None and reason.because_of_another
        after.append(End(sink.error, None, reason, excluded=excluded))
    elif execution.left_early:
        # The caller is the reader, and a reader that closes its pipe has finished early.
        after.append(End(FinishEarly(), None))
    root = execution.root
    return root.end if root.end is not None and not (before or after) else root.judge(before, after)


def _error_of(execution: _Ended, end: End) -> PipelineError | None:
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


def result_of(execution: _Ended, error: PipelineError | None) -> Result:
    """All that is known of a run that has ended."""
    result: Result = _maker()(execution, error)
    return result


@cache
def _maker() -> Callable[..., Result]:
    with guard:  # a fork must not copy the lock of an import in the middle of it
        from penstock.engine.results import make_result  # noqa: PLC0415 - dataclasses are dear to import
    return make_result

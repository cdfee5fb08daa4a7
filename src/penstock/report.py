"""What a run leaves behind, read off its leaves once it has ended. Imported when the first run ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from penstock.core.errors import ExitError, FinishEarly, PipelineError, StartError
from penstock.core.excerpt import Excerpt
from penstock.core.result import EdgeResult, Result, StageResult
from penstock.tree import End

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.launch import StartFailure
    from penstock.ports import Sink, Source
    from penstock.tree import Counted, Group, Leaf, Reason

__all__ = ["error_of", "judge", "make_result"]

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


def judge(execution: _Ended) -> End:
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
    return execution.root.judge(before, after)


def make_result(execution: _Ended, error: PipelineError | None) -> Result:
    """All that is known."""
    chunks = None if execution.sink is None else execution.sink.chunks
    return Result(
        error=error,
        elapsed=time.monotonic() - execution.began,
        stages=tuple(_stage_result(leaf) for leaf in execution.leaves),
        edges=_edge_results(execution.leaves, execution.kinds, execution.source, execution.sink),
        stdout=None if chunks is None else b"".join(chunks),
    )


def error_of(execution: _Ended, end: End) -> PipelineError | None:
    """The error that the run raises for the end that its verdict has kept, or for its failure to start."""
    failure, source = execution.failure, execution.source
    if failure is not None:
        index = None if failure.leaf is None else failure.leaf.index
        return StartError(failure.stage, failure.cause, index=index)
    if end.error is None or isinstance(end.error, FinishEarly):
        return None
    kind = PipelineError if end.reason is None else end.reason.reported_as
    if end.leaf is None:
        side = "stdin" if source is not None and end.error is source.error else "stdout"
        return kind(side, end.error)
    error = kind(end.leaf.stage.name, end.error, index=end.leaf.index)
    if isinstance(end.error, ExitError) and end.error.stderr:
        excerpt = Excerpt()
        excerpt.feed(end.error.stderr)
        error.add_note(f"the end of its stderr:\n{excerpt.last_lines(_NOTE_LINES, _NOTE_BYTES)}")
    return error


def _stage_result(leaf: Leaf) -> StageResult:
    stage, running = leaf.stage, leaf.running
    kind = getattr(stage, "kind", "custom")
    if running is None:
        return StageResult(stage.name, kind, error=leaf.error)
    elapsed = running.ended - running.started
    status = running.status
    usage = running.usage or status
    returncode = None if status is None else status.returncode
    return StageResult(
        name=stage.name,
        kind=kind,
        pid=running.pid,
        returncode=returncode,
        signal=-returncode if returncode is not None and returncode < 0 else None,
        error=leaf.error,
        stderr=running.stderr,
        user_time=None if usage is None else usage.user_time,
        system_time=None if usage is None else usage.system_time,
        max_rss=None if usage is None else usage.max_rss,
        elapsed=elapsed,
        peak_memory=running.peak_memory,
    )


def _edge_results(
    leaves: Sequence[Leaf], kinds: Sequence[str], source: Source | None, sink: Sink | None
) -> tuple[EdgeResult, ...]:
    """What carried each edge, and how many bytes where one of its sides is Penstock's."""
    names = ["stdin", *(leaf.stage.name for leaf in leaves), "stdout"]
    writers = [None if source is None else source.count, *(_count(leaf.stdout) for leaf in leaves)]
    readers = [*(_count(leaf.stdin) for leaf in leaves), None if sink is None else sink.count]
    return tuple(
        EdgeResult(names[place], names[place + 1], kind, written if written is not None else read)
        for place, (kind, written, read) in enumerate(zip(kinds, writers, readers, strict=True))
    )


def _count(end: Counted | None) -> int | None:
    return None if end is None else end.count

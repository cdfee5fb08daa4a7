"""The result of a run, read off its leaves once somebody asks for it.

Imported then, with the dataclasses that it is made of, which cost as much to import as the rest of the
package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from penstock.core.result import EdgeResult, Result, StageResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.core.errors import PipelineError
    from penstock.ports import Sink, Source
    from penstock.tree import Counted, Leaf

__all__ = ["make_result"]


class _Ended(Protocol):
    """An execution, as far as its result is concerned."""

    elapsed: float
    leaves: list[Leaf]
    kinds: list[str]
    source: Source | None
    sink: Sink | None


def make_result(execution: _Ended, error: PipelineError | None) -> Result:
    """All that is known."""
    return Result(
        error=error,
        elapsed=execution.elapsed,
        stages=tuple(_stage_result(leaf) for leaf in execution.leaves),
        edges=_edge_results(execution.leaves, execution.kinds, execution.source, execution.sink),
        stdout=None if execution.sink is None else execution.sink.captured,
    )


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

"""Build the result of a run from its leaves. Imported when the first result is needed."""

from __future__ import annotations

from penstock.core.result import EdgeResult, Result, StageResult
from penstock.engine.graph import STDIN, STDOUT
from penstock.stages.base import traits_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.core.errors import PipelineError
    from penstock.engine.ports import StdinPort, StdoutPort
    from penstock.engine.run_plan import RunPlan
    from penstock.engine.tree import StageRun

__all__ = ["make_result"]


def make_result(
    leaves: Sequence[StageRun],
    plan: RunPlan,
    ports: tuple[StdinPort | None, StdoutPort | None],
    elapsed: float,
    error: PipelineError | None,
) -> Result:
    """Collect all that is known of a run that has ended."""
    source, sink = ports
    # The side of an edge that is Penstock's own code counts its bytes, if there is one.
    edges = []
    name, written = STDIN, None if source is None else source.count
    for leaf, edge, kind in zip(leaves, plan.graph.edges, plan.kinds, strict=False):
        stdin, stdout, target = leaf.stdin, leaf.stdout, leaf.stage.name
        count = stdin.count if written is None and stdin is not None else written
        edges.append(EdgeResult(name, target, kind, count, edge.source, edge.target))
        name, written = target, None if stdout is None else stdout.count
    count = sink.count if written is None and sink is not None else written
    last = plan.graph.edges[-1]
    edges.append(EdgeResult(name, STDOUT, plan.kinds[-1], count, last.source, last.target))
    stages = tuple([_stage_result(leaf) for leaf in leaves])
    captured = None if sink is None else sink.captured
    return Result(error, elapsed, stages, tuple(edges), captured)


def _stage_result(leaf: StageRun) -> StageResult:
    stage, running = leaf.stage, leaf.running
    kind = traits_of(stage).kind
    if running is None:
        return StageResult(stage.name, kind, error=leaf.error, id=leaf.node.id)
    status = running.status
    usage = running.usage or status
    returncode = None if status is None else status.returncode
    # By place: names would take half as long again.
    return StageResult(
        stage.name,
        kind,
        running.pid,
        returncode,
        -returncode if returncode is not None and returncode < 0 else None,
        leaf.error,
        running.stderr,
        None if usage is None else usage.user_time,
        None if usage is None else usage.system_time,
        None if usage is None else usage.max_rss,
        running.ended - running.started,
        running.peak_memory,
        leaf.node.id,
    )

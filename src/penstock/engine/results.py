"""Build the result of a run from its leaves. Imported when the first result is needed.

`penstock` hands out the class `Result` from here, so that the functions that write files of a result are set
in every process that has one, even if it came there as a pickle.
"""

from __future__ import annotations

from penstock.core.result import EdgeResult, Result, StageResult, file_writers
from penstock.engine.graph_parts import STDIN, STDOUT
from penstock.stages.base import traits_of
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.core.errors import PipelineError
    from penstock.engine.branch_ports import BranchPorts
    from penstock.engine.graph_parts import PlanEdge
    from penstock.engine.ports import StdinPort, StdoutPort
    from penstock.engine.run_plan import RunPlan
    from penstock.engine.tree import Counted, StageRun

__all__ = ["Result", "hidden_ends", "make_result"]


_ENDS_OF_A_LINE = {STDIN: STDIN, STDOUT: STDOUT}
_NONE: frozenset[str] = frozenset()


def make_result(  # noqa: PLR0913 - all that is known
    leaves: Sequence[StageRun],
    plan: RunPlan,
    ports: tuple[StdinPort | None, StdoutPort | None],
    others: BranchPorts | None,
    elapsed: float,
    error: PipelineError | None,
) -> Result:
    """Collect all that is known of a run that has ended."""
    source, sink = ports
    ends: dict[str, Counted | None] = {STDIN: source, STDOUT: sink}
    if others is not None:
        ends |= {end.id: port for end, port in others.sources}
        ends |= {end.id: port for end, port in others.sinks}
    graph = plan.graph
    names, hidden = _ENDS_OF_A_LINE, _NONE
    if not graph.is_line:
        names = {end.id: end.name for end in (*graph.sources, *graph.sinks)}
        hidden = hidden_ends(plan)
    edges = []
    for edge, kind in zip(plan.graph.edges, plan.kinds, strict=True):
        if edge.source in hidden:
            continue
        written = ends.get(edge.source) if edge.tail is None else _output(leaves[edge.tail], edge)
        read = ends.get(edge.target) if edge.head is None else _input(leaves[edge.head], edge)
        # The side of an edge that is Penstock's own code counts its bytes, if there is one.
        count = None if written is None else written.count
        if count is None and read is not None:
            count = read.count
        source_name = names[edge.source] if edge.tail is None else leaves[edge.tail].stage.name
        target_name = names[edge.target] if edge.head is None else leaves[edge.head].stage.name
        if graph.is_line:
            edges.append(EdgeResult(source_name, target_name, kind, count, edge.source, edge.target))
        else:
            spooled, port = getattr(written, "spooled", 0), edge.port or "main"
            edges.append(
                EdgeResult(source_name, target_name, kind, count, edge.source, edge.target, spooled, port)
            )
    stages = tuple([_stage_result(leaf) for leaf in leaves])
    captured = None if sink is None else sink.captured
    outputs = () if others is None else others.captured()
    return Result(error, elapsed, stages, tuple(edges), captured, outputs)


def hidden_ends(plan: RunPlan) -> frozenset[str]:
    """Return the ids of the ends of a graph that a plan does not show: nothing is read there."""
    ends = zip(plan.graph.sources[1:], plan.sources[1:], strict=True)
    return frozenset([end.id for end, used in ends if used.kind == "null"])


def _output(leaf: StageRun, edge: PlanEdge) -> Counted | None:
    return leaf.stdout if edge.source_port == STDOUT else leaf.ends.get(edge.source_port)


def _input(leaf: StageRun, edge: PlanEdge) -> Counted | None:
    return leaf.stdin if edge.target_port == STDIN else leaf.ends.get(edge.target_port)


def _stage_result(leaf: StageRun) -> StageResult:
    stage, running = leaf.stage, leaf.running
    kind = traits_of(stage).kind
    if running is None:
        return StageResult(stage.name, kind, error=leaf.error, id=leaf.node.id, branch=leaf.node.branch)
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
        leaf.node.branch,
    )


def _write_report(result: Result, path: str) -> None:
    with late_import:
        from penstock.profiling.files import write_report  # noqa: PLC0415 - few programs write one

    write_report(result, path)


def _write_trace(result: Result, path: str) -> None:
    with late_import:
        from penstock.profiling.files import write_trace  # noqa: PLC0415 - as above

    write_trace(result, path)


file_writers.update(report=_write_report, trace=_write_trace)

"""The parts of a plan that only a graph has, not a line: its other ends, and the carriers of its edges.

An edge at a port other than stdin and stdout, or at a node with several inputs or outputs, is a pipe of the
kernel: copying, and waiting for one of several, is done with descriptors, and the state of such an edge can
be seen from outside.
"""

from __future__ import annotations

from penstock.core.options import DEFAULTS
from penstock.core.plan import drain_kind, edge_kind, feed_kind
from penstock.core.requirements import Stream
from penstock.engine.graph_parts import STDIN, STDOUT
from penstock.engine.stdin_endpoints import stdin_endpoint
from penstock.engine.stdout_choice import stdout_endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.engine.graph import Graph
    from penstock.engine.graph_parts import PlanEdge
    from penstock.engine.run_plan import RunPlan
    from penstock.engine.stdin_endpoints import StdinEndpoint
    from penstock.engine.stdout_endpoints import StdoutEndpoint

__all__ = ["graph_kinds", "other_ends", "wanted_input", "wanted_output"]


def other_ends(graph: Graph) -> tuple[Sequence[StdinEndpoint], Sequence[StdoutEndpoint]]:
    """Return the endpoints besides the stdin and stdout of the whole pipeline.

    Raises TypeError or ValueError, naming the branch, for an end that cannot be used.
    """
    sources = [
        stdin_endpoint(end.options.get("stdin", DEFAULTS["stdin"]), end.options.get("input"))
        for end in graph.sources[1:]
    ]
    sinks = []
    for end in graph.sinks[1:]:
        try:
            sinks.append(stdout_endpoint(end.options["stdout"], end.options.get("max_output")))
        except (TypeError, ValueError) as error:
            raise type(error)(f"branch {end.branch!r}: {error}") from error
    return sources, sinks


def graph_kinds(plan: RunPlan) -> list[str]:
    """Return the carrier of each edge; ValueError naming the stage if it has a stream that it forbids."""
    graph = plan.graph
    sources = dict(zip((end.id for end in graph.sources), plan.sources, strict=True))
    sinks = dict(zip((end.id for end in graph.sinks), plan.sinks, strict=True))
    kinds = []
    for edge in graph.edges:
        source, sink = sources.get(edge.source), sinks.get(edge.target)
        _check_stdin(plan, edge, source)
        _check_stdout(plan, edge, sink)
        if source is not None:
            kinds.append(feed_kind(source.kind, wanted_input(plan, edge), source.carrier))
        elif sink is not None:
            wants = wanted_output(plan, edge)
            planned = sink.planned_kind(wants_file=wants is Stream.PREFER_FILE)
            kinds.append(drain_kind(wants, planned, sink.carrier))
        elif edge.chained:
            kinds.append("fused")
        else:
            kinds.append(edge_kind(wanted_output(plan, edge), wanted_input(plan, edge)))
    return kinds


def wanted_input(plan: RunPlan, edge: PlanEdge) -> Stream:
    """Return the kind of stream that the stage at the head of an edge wants."""
    if edge.head is None:
        return Stream.ANY
    if edge.target_port != STDIN or len(plan.graph.nodes[edge.head].inputs) > 1:
        return Stream.PREFER_FILE
    return plan.requirements[edge.head].stdin


def wanted_output(plan: RunPlan, edge: PlanEdge) -> Stream:
    """Return the kind of stream that the stage at the tail of an edge wants."""
    if edge.tail is None:
        return Stream.ANY
    if edge.source_port != STDOUT or len(plan.graph.nodes[edge.tail].outputs) > 1:
        return Stream.PREFER_FILE
    return plan.requirements[edge.tail].stdout


def _check_stdin(plan: RunPlan, edge: PlanEdge, source: StdinEndpoint | None) -> None:
    if edge.head is None or edge.target_port != STDIN:
        return
    forbids = plan.requirements[edge.head].stdin is Stream.FORBIDDEN
    if forbids and (source is None or source.kind != "null"):
        stage = plan.stages[edge.head]
        hint = "; the pipelines that it reads take stdin and input" if getattr(stage, "inlets", None) else ""
        raise ValueError(f"stage {stage.name!r} takes no stdin: it must be first, with stdin=DEVNULL{hint}")


def _check_stdout(plan: RunPlan, edge: PlanEdge, sink: StdoutEndpoint | None) -> None:
    if edge.tail is None or edge.source_port != STDOUT:
        return
    forbids = plan.requirements[edge.tail].stdout is Stream.FORBIDDEN
    if forbids and (sink is None or sink.kind not in ("null", "inherit")):
        raise ValueError(
            f"stage {plan.stages[edge.tail].name!r} has no stdout: it must be last, with stdout=DEVNULL"
        )

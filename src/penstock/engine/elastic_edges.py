"""Which edges of a graph may hold more than their pipe does, and what they wait for.

A node with several outputs copies or deals out what it gets. If one of them is full and nobody may read on,
the others run dry. If they go separate ways, this is right: the slowest sets the pace. But two ways may meet
again in a *join*, a node with several inputs, that first wants more of the dry one. Then nothing goes on. Two
ways that meet are a cycle of the undirected graph, and an edge that lies on no cycle is a bridge. So of the
outputs of a node with several the bridges are rigid, and the others elastic.

A merge is not a join: it waits for none of its inputs, so a full one means that its own reader is slow. The
lanes of a relay behind a program do not meet in it either: each has its own input and output, and goes on
while another one is full.

Bytes are spooled for an elastic edge that is full only if a join waits: its input on the way from that edge
is full, and another input empty. So each elastic edge knows the joins that it leads to.

Out of scope: looking at pipes (`stage_ports`), and copying (`streams.relay`).
"""

from __future__ import annotations

from penstock.core.bridges import find_bridges
from penstock.engine.graph_parts import STDIN, STDOUT
from penstock.stages.base import traits_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from penstock.engine.graph_parts import PlanEdge, PlanNode

__all__ = ["mark_elastic", "writers_to_elastic"]


def mark_elastic(nodes: Sequence[PlanNode], edges: Sequence[PlanEdge]) -> None:
    """Set `elastic` and `joins` of each edge."""
    bridges = find_bridges([_places(nodes, edge) for edge in edges])
    for edge in edges:
        if edge.tail is not None and len(nodes[edge.tail].outputs) > 1 and edge.index not in bridges:
            edge.elastic = True
            edge.joins = tuple(_joins(nodes, edge))


def writers_to_elastic(nodes: Sequence[PlanNode], edges: Sequence[PlanEdge]) -> frozenset[int]:
    """Return the ids of those stages that write to elastic edges without being relays."""
    return frozenset(
        id(nodes[edge.tail].stage)
        for edge in edges
        if edge.elastic and edge.tail is not None and not traits_of(nodes[edge.tail].stage).is_relay
    )


def _places(nodes: Sequence[PlanNode], edge: PlanEdge) -> tuple[Hashable, Hashable]:
    """Return what an edge joins: nodes or ends, or lanes of a relay."""
    source: Hashable = edge.source
    target: Hashable = edge.target
    if edge.tail is not None and _has_lanes(nodes[edge.tail]):
        source = edge.source, _lane(edge.source_port)
    if edge.head is not None and _has_lanes(nodes[edge.head]):
        target = edge.target, _lane(edge.target_port)
    return source, target


def _has_lanes(node: PlanNode) -> bool:
    """Whether it is a relay with one output for each of its inputs."""
    traits = traits_of(node.stage)
    return traits.is_relay and traits.reads_any_input


def _lane(port: str) -> str:
    """Return the name of the lane at a port: the first one leads from stdin to stdout."""
    return STDIN if port == STDOUT else port


def _joins(nodes: Sequence[PlanNode], edge: PlanEdge) -> Iterator[tuple[int, Sequence[int]]]:
    """Yield each input of a join that `edge` is or leads to, with the other inputs of that join."""
    seen: set[int] = set()
    pending = [edge]
    while pending:
        each = pending.pop()
        if each.index in seen or each.head is None:
            continue
        seen.add(each.index)
        node = nodes[each.head]
        if len(node.inputs) > 1 and not traits_of(node.stage).reads_any_input:
            yield each.index, tuple(other.index for other in node.inputs if other is not each)
        lane = _lane(each.target_port) if _has_lanes(node) else None
        pending += [next_ for next_ in node.outputs if lane in (None, _lane(next_.source_port))]

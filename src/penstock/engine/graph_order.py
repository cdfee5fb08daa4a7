"""The order of a pipeline's children in a graph that is not a line, and which of them read which.

The verdict walks over the children of each pipeline from the last to the first. In a line each is read by the
next. In a graph a child may be read by several, and a shared pipeline, which belongs to the outermost one,
may have been written within a later child. So the places are given anew: a child comes after all that it
reads, and else they lie as written.

Out of scope: the rule of the verdict (`core.verdict`).
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from penstock.engine.graph_parts import STDOUT, PlanEnd, PlanFilter, PlanGroup, PlanNode, place_within
from penstock.stages.base import traits_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.engine.graph_parts import PlanEdge

    Child = PlanNode | PlanFilter | PlanGroup

__all__ = ["order_children"]


def order_children(
    root: PlanGroup,
    parents: Sequence[PlanGroup | PlanFilter],
    nodes: Sequence[PlanNode],
    edges: Sequence[PlanEdge],
    sources: Sequence[PlanEnd],
) -> None:
    """Set the places of all children, and the `consumers` and `head` of each pipeline."""
    children = _children(root, parents, nodes)
    readers: dict[PlanGroup, dict[int, set[int]]] = {
        group: {child.place: set() for child in below} for group, below in children.items()
    }
    for edge in edges:
        if edge.tail is not None and edge.head is not None and _can_break(nodes[edge.tail], edge):
            group, source, target = _meeting(nodes[edge.tail], nodes[edge.head])
            readers[group][source].add(target)
    for group, below in children.items():
        order = _sorted(readers[group])
        for child in below:
            child.place = order[child.place]
        consumers: list[Sequence[int]] = [()] * len(below)
        for place, found in readers[group].items():
            consumers[order[place]] = sorted(order[each] for each in found)
        line = [[place + 1] for place in range(len(below) - 1)]
        # The outermost one may have further endpoints, whose outcomes count.
        group.consumers = None if consumers[:-1] == line and group is not root else consumers
    ends = {end.id: end for end in sources}
    for group in children:
        group.head = _head(group, nodes, edges, ends)


def _children(
    root: PlanGroup, parents: Sequence[PlanGroup | PlanFilter], nodes: Sequence[PlanNode]
) -> dict[PlanGroup, list[Child]]:
    """Return the children of each pipeline."""
    groups = [root, *(parent for parent in parents if isinstance(parent, PlanGroup))]
    children: dict[PlanGroup, list[Child]] = {group: [] for group in groups}
    for child in (*parents, *nodes):
        if isinstance(child.parent, PlanGroup):
            children[child.parent].append(child)
    return children


def _can_break(tail: PlanNode, edge: PlanEdge) -> bool:
    """Whether the stage at the tail of an edge may fail because nobody reads from it.

    A `tee(until="main")` fails for its stdout alone, and what a branch had enough of excuses nothing then.
    """
    return edge.source_port == STDOUT or not traits_of(tail.stage).ends_with_stdout


def _meeting(source: PlanNode, target: PlanNode) -> tuple[PlanGroup, int, int]:
    """Return the innermost pipeline that both belong to, and the places of its children above them."""
    group: PlanGroup | None = source.group
    while group is not None:
        place = place_within(group, target)
        if place is not None:
            own = place_within(group, source)
            assert own is not None
            return group, own, place
        group = None if group.parent is None else group.parent.group
    raise AssertionError("two nodes of a graph have no pipeline in common")


def _sorted(readers: dict[int, set[int]]) -> dict[int, int]:
    """Return the new place of each old one: topological, and else as they were."""
    waiting = dict.fromkeys(readers, 0)
    for found in readers.values():
        for place in found:
            waiting[place] += 1
    ready = [place for place, count in waiting.items() if not count]
    heapify(ready)
    order: dict[int, int] = {}
    while ready:
        place = heappop(ready)
        order[place] = len(order)
        for each in readers[place]:
            waiting[each] -= 1
            if not waiting[each]:
                heappush(ready, each)
    return order


def _head(
    group: PlanGroup, nodes: Sequence[PlanNode], edges: Sequence[PlanEdge], ends: Mapping[str, PlanEnd]
) -> int:
    """Return the place of the child that reads the stdin of a pipeline."""
    for edge in edges:
        if edge.head is None:
            continue
        if not _is_within(ends[edge.source] if edge.tail is None else nodes[edge.tail], group):
            place = place_within(group, nodes[edge.head])
            if place is not None:
                return place
    return 0


def _is_within(thing: PlanNode | PlanEnd, group: PlanGroup) -> bool:
    """Whether a node is below a pipeline, or an end belongs to something in it."""
    if isinstance(thing, PlanEnd) and thing.is_main:
        return False
    inner: PlanGroup | None = thing.group
    while inner is not None:
        if inner is group:
            return True
        inner = None if inner.parent is None else inner.parent.group
    return False

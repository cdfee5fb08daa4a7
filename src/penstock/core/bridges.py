"""Find the bridges of a graph: the edges that are the only way between their two ends.

Strategy: a depth-first search numbers the nodes in the order in which it arrives at them. Every edge that it
does not arrive by then joins a node to one of its ancestors. One walk back finds the lowest number that each
node reaches without the edge by which the search arrived at it. If that is not lower than the node's own
number, nothing else leads out of the part behind this edge, so the edge is a bridge. Both walks use a list
instead of recursion, and take a time linear in the number of edges.

Out of scope: directions, and the meaning of a bridge for the pace of a run.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    # The edges at each node: the index of the edge, and the node at its other end.
    Neighbours = dict[Hashable, list[tuple[int, Hashable]]]

__all__ = ["find_bridges"]


def find_bridges(edges: Sequence[tuple[Hashable, Hashable]]) -> frozenset[int]:
    """Return the indices of the bridges among the edges of an undirected graph.

    An edge is a bridge if its two ends are no longer connected once it is removed. So neither one of several
    edges between the same two nodes nor an edge from a node to itself is a bridge.

    >>> sorted(find_bridges([("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")]))
    [0]
    """
    neighbours = _neighbours_of(edges)
    arrivals = _search(neighbours)
    lowest = {node: number for number, node in enumerate(arrivals)}
    bridges = set()
    for node in reversed(arrivals):
        arrival = arrivals[node]
        reached = min([lowest[other] for index, other in neighbours[node] if index != arrival], default=None)
        if reached is not None and reached < lowest[node]:
            lowest[node] = reached
        elif arrival is not None:
            bridges.add(arrival)
    return frozenset(bridges)


def _neighbours_of(edges: Sequence[tuple[Hashable, Hashable]]) -> Neighbours:
    neighbours: Neighbours = {}
    for index, (left, right) in enumerate(edges):
        neighbours.setdefault(left, []).append((index, right))
        neighbours.setdefault(right, []).append((index, left))
    return neighbours


def _search(neighbours: Neighbours) -> dict[Hashable, int | None]:
    """Return the edge by which a depth-first search arrives at each node, in the order of arrival.

    It is None for the first node of each part that is not connected to the others.
    """
    arrivals: dict[Hashable, int | None] = {}
    for start in neighbours:
        waiting: list[tuple[int | None, Hashable]] = [(None, start)]
        while waiting:
            # A node may wait more than once. Its last entry is the edge by which a recursive search would
            # arrive, so the search is depth-first.
            edge, node = waiting.pop()
            if node not in arrivals:
                arrivals[node] = edge
                waiting += neighbours[node]
    return arrivals

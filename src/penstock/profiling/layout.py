"""Lay out a graph in layers, from the top down. A pure function.

Strategy: a node stands one layer below the lowest node that leads to it, and a node that nothing leads to one
layer above the highest one that it leads to. An edge that passes a layer gets a place of its own there, so
that it runs beside the boxes. Then a few passes down and up sort each layer by the mean place of its
neighbours, which keeps most edges from crossing. A few more move each node below or above its neighbours, as
far as those beside it leave room.

Out of scope: drawing.
"""

from __future__ import annotations

from itertools import pairwise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Layout", "lay_out"]

BOX = 1.0
"""The width that a node takes in its layer, in widths of a node."""
LANE = 0.15
"""The width that an edge takes in a layer that it passes."""
_PASSES = 4


class Layout:
    """Places of nodes and edges. `x` is in widths of a node from the middle, `y` in layers from the top."""

    __slots__ = ("nodes", "routes", "width")

    def __init__(
        self,
        nodes: dict[str, tuple[float, int]],
        routes: list[list[tuple[float, int]]],
        width: float,
    ) -> None:
        self.nodes = nodes
        self.routes = routes
        """For each edge the places that it leads through: the two nodes, and those between."""
        self.width = width


def lay_out(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> Layout:
    """Return the layout of a graph without circles, given by the ids of its nodes.

    >>> made = lay_out(["a", "b", "c"], [("a", "b"), ("b", "c"), ("a", "c")])
    >>> [y for _, y in made.nodes.values()], [len(route) for route in made.routes]
    ([0, 1, 2], [2, 2, 3])
    """
    layer = _layers(nodes, edges)
    layers: list[list[str]] = [[] for _ in range(max(layer.values(), default=0) + 1)]
    for node in nodes:
        layers[layer[node]].append(node)
    chains = []
    for number, (source, target) in enumerate(edges):
        lanes = [f"\0{number}:{place}" for place in range(layer[source] + 1, layer[target])]
        for place, lane in enumerate(lanes, layer[source] + 1):
            layers[place].append(lane)
        chains.append([source, *lanes, target])
    _sort(layers, chains)
    x = _places(layers, chains)
    y = {key: place for place, row in enumerate(layers) for key in row}
    half = max((abs(x[node]) for node in nodes), default=0.0) + BOX / 2
    routes = [[(x[key], y[key]) for key in chain] for chain in chains]
    return Layout({node: (x[node], y[node]) for node in nodes}, routes, 2 * half)


def _layers(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    before: dict[str, list[str]] = {node: [] for node in nodes}
    after: dict[str, list[str]] = {node: [] for node in nodes}
    for source, target in edges:
        before[target].append(source)
        after[source].append(target)
    waiting = {node: len(before[node]) for node in nodes}
    ready = [node for node in nodes if not waiting[node]]
    layer: dict[str, int] = {}
    for node in ready:  # it grows meanwhile
        layer[node] = max((layer[other] + 1 for other in before[node]), default=0)
        for other in after[node]:
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    for node in nodes:
        layer.setdefault(node, 0)
        if not before[node] and after[node]:
            layer[node] = max(0, min(layer.get(other, 1) for other in after[node]) - 1)
    return layer


def _neighbours(chains: Sequence[Sequence[str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the neighbours above and below each node."""
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for upper, lower in (pair for chain in chains for pair in pairwise(chain)):
        above.setdefault(lower, []).append(upper)
        below.setdefault(upper, []).append(lower)
    return above, below


def _sort(layers: list[list[str]], chains: Sequence[Sequence[str]]) -> None:
    above, below = _neighbours(chains)
    for number in range(_PASSES):
        down = number % 2 == 0
        for row in layers if down else reversed(layers):
            places = {key: float(place) for other in layers for place, key in enumerate(other)}
            wanted = _means(row, above if down else below, places)
            row.sort(key=wanted.__getitem__)


def _places(layers: Sequence[Sequence[str]], chains: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the place of each node in its layer, in widths of a node from the middle."""
    above, below = _neighbours(chains)
    x: dict[str, float] = {}
    for row in layers:
        _put(row, dict.fromkeys(row, 0.0), x)
    for number in range(_PASSES):
        down = number % 2 == 0
        for row in layers if down else reversed(layers):
            _put(row, _means(row, above if down else below, x), x)
    leftmost, rightmost = min(x.values(), default=0.0), max(x.values(), default=0.0)
    return {key: place - (leftmost + rightmost) / 2 for key, place in x.items()}


def _put(row: Sequence[str], wanted: Mapping[str, float], x: dict[str, float]) -> None:
    """Put the nodes of a layer as near to the places that they want as their order and widths allow.

    Neighbours that want the same room form a group, which stands at the mean of what its members want.
    """
    groups: list[list[float]] = []
    """For each group the sum of the places that its members want for the first node, and their number."""
    offset, offsets = 0.0, []
    for place, key in enumerate(row):
        if place:
            offset += (_width(row[place - 1]) + _width(key)) / 2
        offsets.append(offset)
        groups.append([wanted[key] - offset, 1.0])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] >= groups[-1][0] / groups[-1][1]:
            total, members = groups.pop()
            groups[-1][0] += total
            groups[-1][1] += members
    firsts = [total / members for total, members in groups for _ in range(int(members))]
    x.update({key: first + offset for key, first, offset in zip(row, firsts, offsets, strict=True)})


def _width(key: str) -> float:
    return LANE if key.startswith("\0") else BOX


def _means(
    row: Sequence[str], neighbours: Mapping[str, Sequence[str]], places: Mapping[str, float]
) -> dict[str, float]:
    """Return the mean place of the neighbours of each node; its own if it has none."""
    found = {}
    for key in row:
        others = [places[other] for other in neighbours.get(key, ())]
        found[key] = sum(others) / len(others) if others else places[key]
    return found

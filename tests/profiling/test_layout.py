"""Layouts: each node below those that lead to it, none upon another, and edges beside the boxes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.profiling.layout import lay_out

GRAPHS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda pair: pair[0] < pair[1]), unique=True
)


@settings(max_examples=200, deadline=None)
@given(GRAPHS)
def test_any_graph(pairs: list[tuple[int, int]]) -> None:
    nodes = [str(number) for number in range(10)]
    edges = [(str(source), str(target)) for source, target in pairs]
    made = lay_out(nodes, edges)
    for (source, target), route in zip(edges, made.routes, strict=True):
        assert made.nodes[source] == route[0]
        assert made.nodes[target] == route[-1]
        assert all(after[1] - before[1] == 1 for before, after in pairwise(route))
    for layer in range(10):
        row = sorted(x for x, y in made.nodes.values() if y == layer)
        assert all(right - left >= 0.999 for left, right in pairwise(row))
    assert all(abs(x) + 0.5 <= made.width / 2 + 1e-9 for x, _ in made.nodes.values())


def test_a_line_is_straight() -> None:
    nodes = [str(number) for number in range(100)]
    made = lay_out(nodes, list(pairwise(nodes)))
    assert [made.nodes[node] for node in nodes] == [(0.0, layer) for layer in range(100)]
    assert made.width == 1.0


def test_branches_stand_beside_each_other_below_their_split() -> None:
    made = lay_out(["a", "b", "c", "d"], [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])
    assert made.nodes == {"a": (0.0, 0), "b": (-0.5, 1), "c": (0.5, 1), "d": (0.0, 2)}


def test_a_source_that_is_read_late_stands_above_its_reader() -> None:
    made = lay_out(["a", "b", "c", "file"], [("a", "b"), ("b", "c"), ("file", "c")])
    assert made.nodes["file"][1] == 1


@pytest.mark.parametrize("nodes", [[], ["a"], ["a", "b"]])
def test_no_edges(nodes: list[str]) -> None:
    assert set(lay_out(nodes, []).nodes) == set(nodes)

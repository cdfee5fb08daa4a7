"""The bridges of a graph, as a table and as a property."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.bridges import find_bridges

TABLE = [
    # The edges, and those of them that are bridges; each edge is written as its two nodes.
    pytest.param("", "", id="no-edges"),
    pytest.param("ab", "ab", id="one-edge"),
    pytest.param("ab bc cd", "ab bc cd", id="a-line"),
    pytest.param("ab ac ad", "ab ac ad", id="a-star"),
    pytest.param("ab bd ac ce", "ab bd ac ce", id="a-tree"),
    pytest.param("ab cd", "ab cd", id="two-parts"),
    pytest.param("ab bc ca", "", id="a-triangle"),
    pytest.param("ab bc ca xy", "xy", id="a-triangle-and-another-part"),
    pytest.param("ab bd ac cd", "", id="a-diamond"),
    pytest.param("sa ab bd ac cd dt", "sa dt", id="a-diamond-between-two-stages"),
    pytest.param("ab bd ac cd ax xy", "ax xy", id="a-tail-on-a-node-of-a-diamond"),
    pytest.param("ab bc ca cd de ef fd", "cd", id="two-triangles-joined-by-an-edge"),
    pytest.param("ab bc ca cd de ec", "", id="two-triangles-joined-by-a-node"),
    pytest.param("ab bc cd da ac", "", id="a-square-with-a-diagonal"),
    pytest.param("aa", "", id="an-edge-to-itself"),
    pytest.param("aa ab bb", "ab", id="a-bridge-between-edges-to-themselves"),
]


@pytest.mark.parametrize(("edges", "bridges"), TABLE)
def test_the_table(edges: str, bridges: str) -> None:
    """The bridges are the same whichever way the edges are written, and in whichever order."""
    pairs = [(edge[0], edge[1]) for edge in edges.split()]
    for written in (pairs, pairs[::-1], [(right, left) for left, right in pairs]):
        found = {frozenset(written[index]) for index in find_bridges(written)}
        assert found == {frozenset(edge) for edge in bridges.split()}


def test_parallel_edges_are_not_bridges() -> None:
    """Each of the two is a way around the other, whichever way they are written."""
    assert find_bridges([(1, 2), (2, 3), (3, 2)]) == {0}
    assert find_bridges([(2, 3), (2, 3)]) == frozenset()


def test_nodes_may_be_any_hashable_values() -> None:
    """None is a node like any other, and equal values are one node."""
    assert find_bridges([(None, 1), (1.0, ("a", 2)), (("a", 2), 1)]) == {0}


def test_a_long_line_and_a_long_ring_need_no_recursion() -> None:
    """Of 100,000 edges in a line all are bridges; one more that closes the ring leaves none."""
    line = [(node, node + 1) for node in range(100_000)]
    assert len(find_bridges(line)) == len(line)
    assert find_bridges([*line, (len(line), 0)]) == frozenset()


# --- the definition as a property


def is_bridge(edges: list[tuple[int, int]], index: int) -> bool:
    """Remove the edge, and look whether its ends are still connected."""
    left, right = edges[index]
    rest = edges[:index] + edges[index + 1 :]
    connected = {left}
    for _ in edges:
        for one, other in rest:
            if one in connected or other in connected:
                connected |= {one, other}
    return right not in connected


@given(
    st.integers(1, 10).flatmap(
        lambda n: st.lists(st.tuples(st.integers(1, n), st.integers(1, n)), max_size=14)
    )
)
def test_the_bridges_are_those_that_the_definition_names(edges: list[tuple[int, int]]) -> None:
    """Random graphs, with parallel edges and edges to themselves, have the bridges of the definition."""
    assert find_bridges(edges) == {index for index in range(len(edges)) if is_bridge(edges, index)}

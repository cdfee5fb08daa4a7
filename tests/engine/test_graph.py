"""The structure of a pipeline: nodes and edges by id, in a topological order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock import Pipeline, command, ignore_error, is_sigpipe, map_lines
from penstock.engine.graph import STDIN, STDOUT, Graph, PlanFilter, PlanGroup
from penstock.engine.run_plan import plan_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.engine.graph import PlanEdge

CAT = command("cat")
UPPER = map_lines(bytes.upper)


def _ends(edges: Sequence[PlanEdge]) -> list[tuple[str, str]]:
    return [(edge.source, edge.target) for edge in edges]


def test_equal_stages_are_different_nodes() -> None:
    """Each has an id of its own, and edges that lead forwards."""
    graph = (CAT | CAT | CAT).graph
    assert [node.id for node in graph.nodes] == ["0", "1", "2"]
    assert len({id(node.stage) for node in graph.nodes}) == 1
    assert _ends(graph.edges) == [(STDIN, "0"), ("0", "1"), ("1", "2"), ("2", STDOUT)]
    assert [edge.index for edge in graph.edges] == [0, 1, 2, 3]
    assert {(edge.source_port, edge.target_port) for edge in graph.edges} == {("stdout", "stdin")}
    for node in graph.nodes:
        assert [edge.target for edge in node.inputs] == [node.id]
        assert [edge.source for edge in node.outputs] == [node.id]


def test_nested_pipelines_and_filters_are_the_tree_above_the_nodes() -> None:
    """Each knows which child of its parent it is, in the order in which they were written."""
    inner = Pipeline(UPPER, CAT, name="inner")
    graph = (CAT | ignore_error(inner, is_sigpipe) | UPPER).graph
    wrapper, group = graph.parents
    assert isinstance(wrapper, PlanFilter)
    assert isinstance(group, PlanGroup)
    assert group.parent is wrapper
    assert (wrapper.parent, wrapper.place, graph.root.children) == (graph.root, 1, 3)
    assert [node.place for node in graph.nodes] == [0, 0, 1, 2]
    assert [node.group for node in graph.nodes] == [graph.root, group, group, graph.root]


def test_only_neighbours_of_one_pipeline_are_chained() -> None:
    """A border between pipelines ends a chain."""
    graph = (UPPER | UPPER | Pipeline(UPPER, UPPER, name="inner")).graph
    assert [edge.chained for edge in graph.edges] == [False, True, False, True, False]


def test_the_structure_is_made_once_and_each_run_has_a_plan() -> None:
    """Options given for one call make another plan of the same structure."""
    pipeline = CAT | UPPER
    assert isinstance(pipeline.graph, Graph)
    plans = [plan_run(pipeline, {"input": b"x"}), plan_run(pipeline, {})]
    assert {id(plan.graph) for plan in plans} == {id(pipeline.graph)}
    assert [next(iter(plan.kinds)) for plan in plans] == ["pooled", "discard"]
    assert pipeline.output(input=b"a") == pipeline.output(input=b"a") == b"A\n"

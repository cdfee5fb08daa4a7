"""The structure of graphs: nodes, edges, ends, elastic edges, and the order of a pipeline's children."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from penstock import (
    CAPTURE,
    DEVNULL,
    Arg,
    Pipeline,
    appending,
    command,
    concat,
    ignore_error,
    is_sigpipe,
    merge,
    reading,
    shared,
    tee,
    writing,
)
from penstock.engine.graph import STDIN, STDOUT, Graph, PlanGroup
from penstock.engine.graph_parts import place_within

if TYPE_CHECKING:
    from penstock.engine.graph import PlanEdge, PlanNode

SEQ = command("seq", "9")
CAT = command("cat")


def named(name: str) -> Pipeline:
    """Return a stage of this name."""
    return Pipeline(command("cat", name=name))


def edges(graph: Graph) -> list[str]:
    """Return the edges, each as "tail.port > head.port"; stdout and stdin are left out."""
    found = []
    for edge in graph.edges:
        tail = _name(graph, edge.tail, edge.source) + (
            "" if edge.source_port == "stdout" else f".{edge.source_port}"
        )
        head = _name(graph, edge.head, edge.target) + (
            "" if edge.target_port == "stdin" else f".{edge.target_port}"
        )
        found.append(f"{tail} > {head}")
    return found


def _name(graph: Graph, index: int | None, end: str) -> str:
    return end if index is None else str(graph.nodes[index].stage.name)


def _joined(graph: Graph, edge: PlanEdge) -> str:
    heads = {graph.edges[one].head for one, _ in edge.joins}
    return ", ".join(sorted(_name(graph, head, "") for head in heads))


def node(graph: Graph, name: str) -> PlanNode:
    """Return the node of this name."""
    (found,) = [each for each in graph.nodes if each.stage.name == name]
    return found


def elastic(graph: Graph) -> list[str]:
    """Return the edges that may hold more than their pipe, and the joins that each one leads to."""
    return sorted(
        f"{text} [{_joined(graph, edge)}]"
        for text, edge in zip(edges(graph), graph.edges, strict=True)
        if edge.elastic
    )


GRAPHS: dict[str, tuple[Pipeline, list[str]]] = {
    "tee": (
        SEQ | tee(named("a") | named("b"), "file", CAPTURE) | named("c"),
        [
            "stdin > seq", "seq > tee", "tee.1 > a", "a > b", "b > stdout-1", "tee.2 > stdout-2",
            "tee.3 > stdout-3", "tee > c", "c > stdout",
        ],
    ),
    "tee-in-tee": (
        SEQ | tee(named("a") | tee(named("b")) | named("c")),
        [
            "stdin > seq", "seq > tee", "tee.1 > a", "a > tee", "tee.1 > b", "b > stdout-1", "tee > c",
            "c > stdout-2", "tee > stdout",
        ],
    ),
    "merge": (
        merge(SEQ | named("a"), Pipeline(named("b"), input=b"")) | named("c"),
        [
            "stdin-1 > seq", "seq > a", "stdin-2 > b", "stdin > merge", "a > merge.1", "b > merge.2",
            "merge > c", "c > stdout",
        ],
    ),
    "reading": (
        SEQ | command("paste", "-", reading(named("a")), Arg("x", reading(named("b")))),
        [
            "stdin > seq", "stdin-1 > a", "stdin-2 > b", "seq > paste", "a > paste.reading 1",
            "b > paste.reading 2", "paste > stdout",
        ],
    ),
    "fifo": (
        Pipeline(command("paste", reading(named("a"), via="fifo"))),
        [
            "stdin-1 > a", "a > reading 1 of paste", "stdin > paste",
            "reading 1 of paste > paste.reading 1", "paste > stdout",
        ],
    ),
    "writing": (
        SEQ | command("split", writing(named("a")), writing(appending("file"))) | named("b"),
        [
            "stdin > seq", "seq > split", "split.writing 1 > writing of split",
            "split.writing 2 > writing of split.writing 2", "writing of split > a", "a > stdout-1",
            "writing of split.writing 2 > stdout-2", "split > b", "b > stdout",
        ],
    ),
    "writing to files": (
        SEQ | command("split", writing("f"), writing(named("a")), writing(DEVNULL), writing("g", via="fifo")),
        [
            "stdin > seq", "seq > split", "split.writing 1 > stdout-1", "split.writing 3 > stdout-3",
            "split.writing 2 > writing of split",
            "split.writing 4 > writing of split.writing 4", "writing of split > a", "a > stdout-2",
            "writing of split.writing 4 > stdout-4", "split > stdout",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("pipeline", "expected"), GRAPHS.values(), ids=GRAPHS)
def test_stages_become_nodes_and_edges(pipeline: Pipeline, expected: list[str]) -> None:
    """With ends of their own, which are known by ids."""
    assert sorted(edges(pipeline.graph)) == sorted(expected)


def test_names_of_one_program_do_not_meet_in_its_relay() -> None:
    """Each is a lane of its own, so nothing is elastic, and the stdout of the program needs no relay."""
    graph = Pipeline(SEQ, command("split", writing(named("a")), writing(named("b"))), CAT).graph
    assert not any(edge.elastic for edge in graph.edges)
    assert "split > cat" in edges(graph)


def test_only_the_lane_of_an_edge_leads_to_a_join() -> None:
    """The other one goes elsewhere."""
    both = shared(SEQ)
    join = Pipeline(command("cat", "-", reading(both), name="join"))
    program = both | command("split", writing(join), writing(named("b")))
    joined = {edge.source_port: _joined(program.graph, edge) for edge in program.graph.edges if edge.elastic}
    assert joined == {"stdout": "join", "2": "join", "writing 1": "join"}


def test_a_shared_pipeline_becomes_nodes_once() -> None:
    """A node of its own copies its output, if it is used more than once."""
    lines = shared(SEQ | named("a"))
    once = (lines | CAT).graph
    assert edges(once) == ["stdin > seq", "seq > a", "a > cat", "cat > stdout"]
    graph = concat(lines, lines | named("b"), Pipeline(lines, cwd="/")).graph
    split = graph.nodes[2].stage.name
    assert sorted(edges(graph)) == sorted([
        "stdin-1 > seq", "seq > a", f"a > {split}", f"{split}.2 > b", "stdin > concat", f"{split} > concat.1",
        "b > concat.2", f"{split}.3 > concat.3", "concat > stdout",
    ])  # fmt: skip
    assert split.startswith("shared ")


def test_a_shared_pipeline_that_begins_the_run_reads_its_stdin() -> None:
    """And belongs to the outermost pipeline, wherever it is used first."""
    lines = shared(named("a"))
    inner = Pipeline(lines, named("b"), cwd="/")
    graph = (inner | command("paste", "-", reading(lines))).graph
    assert graph.first.stage.name == "a"
    assert node(graph, "a").group is graph.root
    assert node(graph, "b").group is not graph.root
    assert [end.id for end in graph.sources] == [STDIN]


def all_graphs() -> list[Any]:
    """Return graphs of every kind, with nested pipelines, filters and shared sources."""
    lines, words = shared(SEQ), shared(Pipeline(named("w"), input=b"x"))
    nested = Pipeline(
        command("comm", reading(lines), reading(words)), tee(named("n")), cwd="/", name="nested"
    )
    both = shared(merge(nested, lines, words))
    return [
        *(pipeline for pipeline, _ in GRAPHS.values()),
        concat(lines, lines),
        concat(nested, nested),
        both | CAT,
        command("cat", reading(both | named("b"), via="fifo"), reading(both), writing(named("c"))) | tee(),
        lines | tee(Pipeline(command("paste", "-", reading(lines)), cwd="/")) | ignore_error(CAT, is_sigpipe),
        ignore_error(concat(nested | CAT, lines), is_sigpipe) | Pipeline(tee(named("x")), cwd="/") | nested,
    ]


@pytest.mark.parametrize("pipeline", all_graphs(), ids=str)
def test_nodes_lie_in_a_topological_order(pipeline: Pipeline) -> None:
    """Ids and places are unique, and every edge leads forwards."""
    graph = pipeline.graph
    assert [each.index for each in graph.nodes] == list(range(len(graph.nodes)))
    ends = [*graph.sources, *graph.sinks]
    ids = [*(each.id for each in graph.nodes), *(each.id for each in ends)]
    assert len(set(ids)) == len(ids)
    for index, edge in enumerate(graph.edges):
        assert edge.index == index
        if edge.tail is not None and edge.head is not None:
            assert (edge.source, edge.target) == (graph.nodes[edge.tail].id, graph.nodes[edge.head].id)
            assert edge.tail < edge.head
    for each in graph.nodes:
        assert each.inputs[0].target_port == STDIN
        assert each.outputs[0].source_port == STDOUT
        assert len({edge.target_port for edge in each.inputs}) == len(each.inputs)
        assert len({edge.source_port for edge in each.outputs}) == len(each.outputs)
    for end in (*graph.sources, *graph.sinks):
        assert end.edge in {*end.node.inputs, *end.node.outputs}


@pytest.mark.parametrize("pipeline", all_graphs(), ids=str)
def test_a_child_comes_after_all_that_it_reads(pipeline: Pipeline) -> None:
    """In each pipeline, and the consumers of a child are those that read from below it."""
    graph = pipeline.graph
    groups = [graph.root, *(parent for parent in graph.parents if isinstance(parent, PlanGroup))]
    for group in groups:
        below = [child for child in (*graph.parents, *graph.nodes) if child.parent is group]
        assert sorted(child.place for child in below) == list(range(group.children))
        consumers = group.consumers
        if consumers is None:
            consumers = [[place + 1] for place in range(group.children - 1)] + [[]]
        for place, readers in enumerate(consumers):
            assert all(place < reader < group.children for reader in readers)
        assert 0 <= group.head <= max(group.children - 1, 0)
        for edge in graph.edges:
            if edge.tail is not None and edge.head is not None:
                source, target = (place_within(group, graph.nodes[each]) for each in (edge.tail, edge.head))
                if source is not None and target is not None and source != target:
                    assert target in consumers[source]


def test_the_head_of_a_nested_pipeline_reads_its_stdin() -> None:
    """Not the source of another input that is written before it."""
    inner = Pipeline(command("paste", "-", reading(SEQ | named("a"))), named("b"), cwd="/")
    graph = (CAT | inner).graph
    (group,) = [parent for parent in graph.parents if isinstance(parent, PlanGroup)]
    assert group.head == node(graph, "paste").place == 2
    assert graph.root.consumers is not None
    assert [list(each) for each in graph.root.consumers] == [[1], []]


def test_only_the_main_output_of_a_tee_until_main_excuses_it() -> None:
    """Its branches are no consumers then."""
    for until, readers in (("all", [2, 3]), ("main", [3])):
        graph = (SEQ | tee(named("a"), until=until) | named("b")).graph  # type: ignore[arg-type]
        assert graph.root.consumers is not None
        assert list(graph.root.consumers[1]) == readers


def test_a_line_has_no_consumers_and_needs_no_order() -> None:
    """Graphs cost nothing then."""
    graph = (SEQ | Pipeline(CAT, cwd="/") | CAT).graph
    assert graph.is_line
    assert graph.root.consumers is None
    assert not (SEQ | tee()).graph.is_line


def test_stages_know_their_branch() -> None:
    """The innermost; what a branch shares with others belongs to none."""
    lines = shared(named("s"))
    branch = Pipeline(
        command("paste", "-", reading(lines | named("r"))), tee(named("i")), named("e"), name="outer"
    )
    graph = (SEQ | tee(branch) | command("cat", "-", reading(lines), name="main")).graph
    found = {each.stage.name: each.branch for each in graph.nodes if each.stage.name != "tee"}
    assert {found.pop(name) for name in list(found) if name.startswith("shared")} == {""}
    assert found == {"seq": "", "s": "", "r": "outer", "paste": "outer", "i": "i", "e": "outer", "main": ""}
    assert [end.branch for end in graph.sinks] == ["", "i", "outer"]


def test_edges_between_ways_that_meet_are_elastic() -> None:
    """A bridge is rigid, and so are the edges of what does not split."""
    lines = shared(SEQ)
    join = command("comm", reading(lines | named("a")), reading(lines | named("b")))
    split = "shared seq"
    assert elastic(Pipeline(join).graph) == [f"{split} > a [comm]", f"{split}.2 > b [comm]"]
    assert elastic((SEQ | tee(named("a"), named("b")) | CAT).graph) == []
    tail = Pipeline(join) | tee(named("x"))
    assert elastic(tail.graph) == [f"{split} > a [comm]", f"{split}.2 > b [comm]"]
    third = concat(lines | named("a"), lines, merge(lines | named("m")) | named("n"))
    assert sorted(text.split(" > ")[1] for text in elastic(third.graph)) == [
        "a [concat]", "concat.2 [concat]", "m [concat]",
    ]  # fmt: skip


def test_a_merge_is_not_a_join() -> None:
    """It waits for none of its inputs, so nothing is kept for it."""
    lines = shared(SEQ)
    assert elastic(merge(lines, lines | named("a")).graph) == [
        "shared seq > merge.1 []",
        "shared seq.2 > a []",
    ]


def test_two_sources_crossed_into_two_joins_are_elastic() -> None:
    """Each edge leads to the joins that lie behind it."""
    one, two = shared(named("one")), shared(named("two"))
    joins = [
        command("comm", reading(a), reading(b), name=name)
        for a, b, name in ((one, two, "x"), (two, one, "y"))
    ]
    found = elastic(concat(*joins).graph)
    assert sorted(text.split(" > ")[1] for text in found) == [
        "x.reading 1 [concat, x]", "x.reading 2 [concat, x]", "y.reading 1 [concat, y]",
        "y.reading 2 [concat, y]",
    ]  # fmt: skip

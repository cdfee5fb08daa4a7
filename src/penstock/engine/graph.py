"""The structure of a pipeline: its stages, and the edges that join them. Immutable, and made once.

Nodes and edges are known by ids, because two stages may have the same name. An edge leads from a port of one
node to a port of another; `STDIN` and `STDOUT` stand for the two ends of the whole pipeline. The nodes lie in
a topological order: every edge leads forwards. Pipelines and error filters are the tree above the nodes.

For now every graph is a line: each node has one edge in and one edge out (`_join`). `core.plan.carriers`,
`run_plan`, `startup.start_stages`, `results.make_result` and `core.verdict` rely on that.

Out of scope: endpoints, the options of one run, and the carriers of edges (see `run_plan`); the state of a
run (see `tree`).
"""

from __future__ import annotations

from penstock.core.errors import StartError
from penstock.core.habits import method_hint
from penstock.core.stream_options import all_plain
from penstock.stages.base import traits_of
from penstock.stages.filters import Filtered
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from penstock.core.stage import Stage

__all__ = [
    "STDIN",
    "STDOUT",
    "Graph",
    "PipelineSpec",
    "PlanEdge",
    "PlanFilter",
    "PlanGroup",
    "PlanNode",
]

STDIN = "stdin"
STDOUT = "stdout"
"""Ids of the ends of a pipeline, and names of the ports that every node has."""
LONGEST_CHAIN = 50
"""Stages that may be fused."""


class PipelineSpec:
    """A pipeline as the engine sees it: stages, the options that were given, and how deep it is nested."""

    __slots__ = ("_graph", "_options", "_stages", "depth")
    _graph: Graph | None
    _options: Mapping[str, Any]
    _stages: tuple[Stage | PipelineSpec, ...]
    depth: int

    if not TYPE_CHECKING:  # to a type checker all names would be attributes then

        def __getattr__(self, name: str) -> Any:
            text = f"{type(self).__name__!r} object has no attribute {name!r}{method_hint(name)}"
            raise AttributeError(text, name=name, obj=self)

    @property
    def stages(self) -> tuple[Stage | PipelineSpec, ...]:
        """The pipeline's own stages, nested pipelines as one."""
        return self._stages

    @property
    def options(self) -> Mapping[str, Any]:
        """The options that were given, checked."""
        return self._options

    @property
    def graph(self) -> Graph:
        """The pipeline's structure, made when it is first asked for."""
        graph = self._graph
        if graph is None:
            graph = self._graph = Graph(self._stages)
        return graph


class PlanGroup:
    """A pipeline: the outermost one, or one within it.

    `place` is its index among its parent's children, `options` are the ones that a nested pipeline was given.
    """

    __slots__ = ("children", "options", "parent", "place")

    def __init__(self, parent: PlanGroup | PlanFilter | None, options: Mapping[str, Any]) -> None:
        self.parent = parent
        self.place = _next_place(parent)
        self.options = options
        self.children = 0

    @property
    def group(self) -> PlanGroup:
        """Itself."""
        return self


class PlanFilter:
    """An error filter around a stage or a pipeline."""

    __slots__ = ("fn", "group", "parent", "place")

    def __init__(
        self, parent: PlanGroup | PlanFilter, fn: Callable[[BaseException | None], BaseException | None]
    ) -> None:
        self.parent = parent
        self.place = _next_place(parent)
        self.group: PlanGroup = parent.group
        self.fn = fn


class PlanNode:
    """A stage at its place; a stage that is used twice is two nodes. `index` is the place among all nodes."""

    __slots__ = ("group", "id", "index", "inputs", "outputs", "parent", "place", "stage")

    def __init__(self, parent: PlanGroup | PlanFilter, index: int, stage: Stage) -> None:
        self.id = str(index)
        self.index = index
        self.stage = stage
        self.parent = parent
        self.place = _next_place(parent)
        self.group: PlanGroup = parent.group
        self.inputs: tuple[PlanEdge, ...] = ()
        self.outputs: tuple[PlanEdge, ...] = ()


class PlanEdge:
    """An edge from a port of one node to a port of another, both known by their ids.

    `index` is its place among all edges, `chained` whether it joins two stages that can be fused.
    """

    __slots__ = ("chained", "index", "source", "source_port", "target", "target_port")

    def __init__(self, index: int, source: str, target: str, *, chained: bool = False) -> None:
        self.index = index
        self.source = source
        self.source_port = STDOUT
        self.target = target
        self.target_port = STDIN
        self.chained = chained


class Graph:
    """The nodes in a topological order, the edges, and the pipelines and filters, outer ones first."""

    __slots__ = (
        "edges",
        "first_in_process",
        "has_own_outputs",
        "has_user_objects",
        "nodes",
        "parents",
        "root",
    )

    def __init__(self, stages: Sequence[Stage | PipelineSpec]) -> None:
        self.root = PlanGroup(None, {})
        """The outermost pipeline; its options are those of a run."""
        parents: list[PlanGroup | PlanFilter] = []
        nodes: list[PlanNode] = []
        _add_stages(self.root, stages, parents, nodes)
        self.parents = tuple(parents)
        """Those below the root."""
        self.nodes = tuple(nodes)
        self.first_in_process = next(
            (node.stage for node in nodes if not traits_of(node.stage).opens_devnull_itself), None
        )
        """The first stage that works in this process, with streams; None if all are commands."""
        self.edges = _join(nodes)
        self.has_user_objects = not (
            all(traits_of(node.stage).has_no_user_objects for node in nodes)
            and all(isinstance(parent, PlanGroup) and all_plain(parent.options) for parent in parents)
        )
        """Whether there may be user code in it, a finalizer for one: an object, a function."""
        self.has_own_outputs = any(
            traits_of(node.stage).stderr is not None or traits_of(node.stage).stdout is not None
            for node in nodes
        ) or any(isinstance(parent, PlanGroup) and "stderr" in parent.options for parent in parents)
        """Whether a command or a pipeline within it has a stdout or stderr of its own."""


def _add_stages(
    group: PlanGroup,
    stages: Sequence[Stage | PipelineSpec],
    parents: list[PlanGroup | PlanFilter],
    nodes: list[PlanNode],
) -> None:
    # As in go-pipe, a pipeline without stages copies its stdin to its stdout.
    for stage in stages or (_copying_stage(),):
        parent: PlanGroup | PlanFilter = group
        inner: Any = stage
        while isinstance(inner, Filtered):
            parent, inner = PlanFilter(parent, inner.fn), inner.stage
            parents.append(parent)
        if isinstance(inner, PipelineSpec):
            nested = PlanGroup(parent, inner.options)
            parents.append(nested)
            _add_stages(nested, inner.stages, parents, nodes)
        else:
            nodes.append(PlanNode(parent, len(nodes), inner))


def _join(nodes: Sequence[PlanNode]) -> tuple[PlanEdge, ...]:
    """Return the edges of a line of nodes, from the pipeline's stdin to its stdout."""
    edges = []
    before: PlanNode | None = None
    for node in nodes:
        edge = PlanEdge(
            node.index, STDIN if before is None else before.id, node.id, chained=_chained(before, node)
        )
        edges.append(edge)
        node.inputs = (edge,)
        if before is not None:
            before.outputs = (edge,)
        before = node
    assert before is not None
    edges.append(PlanEdge(len(nodes), before.id, STDOUT))
    before.outputs = (edges[-1],)
    return tuple(edges)


def _chained(left: PlanNode | None, right: PlanNode) -> bool:
    """Whether the two can be fused: each stage of a chain takes a few frames of its worker's stack."""
    return (
        left is not None
        and left.group is right.group
        and traits_of(left.stage).can_be_fused
        and traits_of(right.stage).can_be_fused
        and right.index % LONGEST_CHAIN > 0
    )


def _next_place(parent: PlanGroup | PlanFilter | None) -> int:
    if not isinstance(parent, PlanGroup):
        return 0
    parent.children += 1
    return parent.children - 1


def _copying_stage() -> Stage:
    try:
        with late_import:
            from penstock.stages.function import Function  # noqa: PLC0415 - few pipelines are empty
            from penstock.streams.copy import copy_stream  # noqa: PLC0415
    except OSError as error:  # there is no descriptor to load a module by
        raise StartError("copy", error) from error

    def copy(_ctx: object, stdin: Any, stdout: Any) -> None:
        copy_stream(stdin, stdout)

    return Function(copy, "copy")

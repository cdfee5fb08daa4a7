"""The structure of a pipeline: its stages, and the edges that join them. Immutable, and made once.

Most pipelines are lines: each stage reads what the one before it writes. A stage may also have *inlets*,
whose pipelines it reads besides its stdin (`reading`, `merge`), and *outlets*, branches that it writes
besides its stdout (`writing`, `tee`). Its traits name them, and the graph knows nothing else of its
kind. A `shared` pipeline becomes nodes once; if it is used more than once, a node of its own kind copies its
output.

The nodes lie in a topological order, as they are written: a stage comes after all that it reads, and before
its branches. Pipelines and error filters are the tree above the nodes. The pipelines of inlets and branches
belong to the pipeline around their stage, and those of a shared one to the outermost.

Out of scope: endpoints, the options of one run, and the carriers of edges (see `run_plan`); the state of a
run (see `tree`).
"""

from __future__ import annotations

from penstock.core.habits import method_hint
from penstock.core.loaded import is_template
from penstock.core.options import TEMPLATE, ends_stages
from penstock.core.stream_options import all_plain
from penstock.engine.graph_builder import Builder
from penstock.engine.graph_parts import (
    STDIN,
    STDOUT,
    PipelineBase,
    PlanEdge,
    PlanEnd,
    PlanFilter,
    PlanGroup,
    PlanNode,
)
from penstock.stages.base import traits_of
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Self

    from penstock.core.stage import Stage
    from penstock.stages.branch import Branch

__all__ = [
    "STDIN",
    "STDOUT",
    "Graph",
    "PipelineSpec",
    "PlanEdge",
    "PlanFilter",
    "PlanGroup",
    "PlanNode",
    "make_graph",
]


class PipelineSpec(PipelineBase):
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

    @classmethod
    def _of(cls, stages: tuple[Stage | PipelineSpec, ...], options: Mapping[str, Any]) -> Self:
        """Make a pipeline of parts that were checked before."""
        raise NotImplementedError

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
            graph = self._graph = make_graph(self._stages)
        return graph


def make_graph(
    stages: Sequence[Stage | PipelineSpec],
    keep: str | None = None,
    branches: frozenset[int] = frozenset(),
) -> Graph:
    """Return a new graph; `keep` is the folder that gets a file for each edge, if there is one.

    `branches`: the ids of those whose files are not for the program itself.
    """
    graph = Graph(stages, branches, keep)
    if graph.is_line:
        return graph
    with late_import:
        from penstock.engine.elastic_edges import writers_to_elastic  # noqa: PLC0415 - loaded already

    relayed = writers_to_elastic(graph.nodes, graph.edges)
    return Graph(stages, relayed | branches, keep) if relayed else graph


class Graph:
    """The nodes in a topological order, the edges, and the pipelines and filters, outer ones first.

    `sources` and `sinks` are its ends; the first of each are the stdin and stdout of the whole pipeline.
    `first` is the node that reads that stdin, `last` the one that writes that stdout.
    """

    __slots__ = (
        "direct",
        "edges",
        "first",
        "first_async",
        "first_in_process",
        "has_own_outputs",
        "has_user_objects",
        "is_line",
        "is_template",
        "last",
        "nodes",
        "parents",
        "plans_of_line",
        "root",
        "sinks",
        "sources",
        "works_in_threads",
    )

    def __init__(
        self,
        stages: Sequence[Stage | PipelineSpec],
        relayed: frozenset[int] = frozenset(),
        keep: str | None = None,
    ) -> None:
        """`relayed`: the ids of stages whose outputs go through a relay, and of branches that do.

        `keep`: the option of that name.
        """
        self.root = PlanGroup(None, {})
        """The outermost pipeline; its options are those of a run."""
        builder = Builder(self.root, stages, relayed, keep)
        self.parents = tuple(builder.parents)
        """Those below the root."""
        self.nodes: Sequence[PlanNode] = tuple(builder.nodes)
        self.edges: Sequence[PlanEdge] = tuple(builder.edges)
        self.sources: Sequence[PlanEnd] = builder.sources
        self.sinks: Sequence[PlanEnd] = builder.sinks
        self.direct: Sequence[Branch] = builder.direct
        """The branches whose files a stage gets itself, unless that would be wrong (`direct_files`)."""
        self.is_line = not builder.branched
        if self.is_line:
            self.first, self.last = self.nodes[0], self.nodes[-1]
        else:
            self.first, self.last = builder.first, builder.last
            with late_import:
                from penstock.engine.elastic_edges import mark_elastic  # noqa: PLC0415 - most are lines
                from penstock.engine.graph_order import order_children  # noqa: PLC0415

            order_children(self.root, self.parents, self.nodes, self.edges, self.sources)
            mark_elastic(self.nodes, self.edges)
        self.first_in_process = next(
            (node.stage for node in self.nodes if not traits_of(node.stage).opens_devnull_itself), None
        )
        """The first stage that works in this process, with streams; None if all are commands."""
        self.first_async = next(
            (node.stage for node in self.nodes if traits_of(node.stage).asynchronous), None
        )
        """The first stage that needs an event loop."""
        self.plans_of_line: dict[object, Sequence[str]] = {}
        """The carriers of a line's edges, by what its two ends are; see `run_plan`."""
        groups = [parent for parent in self.parents if isinstance(parent, PlanGroup)]
        self.works_in_threads = (
            self.is_line
            and all(traits_of(node.stage).works_in_thread for node in self.nodes)
            and not any(ends_stages(group.options) for group in groups)
        )
        """Whether threads of this process do all its work, and none has to be left in the middle of it."""
        self.has_user_objects = not (
            all(traits_of(node.stage).has_no_user_objects for node in self.nodes)
            and all(isinstance(parent, PlanGroup) and all_plain(parent.options) for parent in self.parents)
            and (self.is_line or all(all_plain(end.options) for end in (*self.sources, *self.sinks)))
        )
        """Whether there may be user code in it, a finalizer for one: an object, a function."""
        self.is_template = (
            any(traits_of(node.stage).has_placeholders for node in self.nodes)
            or any(TEMPLATE in group.options for group in groups)
            or any(
                is_template(value) for end in (*self.sources, *self.sinks) for value in end.options.values()
            )
        )
        """Whether a placeholder is in it, so that it can only be mapped."""
        self.has_own_outputs = (
            not self.is_line
            or any(
                traits_of(node.stage).stderr is not None or traits_of(node.stage).stdout is not None
                for node in self.nodes
            )
            or any(isinstance(parent, PlanGroup) and "stderr" in parent.options for parent in self.parents)
        )
        """Whether a stage or a pipeline within it has a stdout or stderr of its own."""

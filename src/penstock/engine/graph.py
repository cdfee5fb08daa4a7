"""The structure of a pipeline: its stages, and the edges that join them. Immutable, and made once.

Most pipelines are lines: each stage reads what the one before it writes. A stage may also have *inlets*,
whose pipelines it reads besides its stdin (`reading`, `merge`), and *outlets*, branches that it writes
besides its stdout (`writing`, `tee`). Its traits name them, and the graph
knows nothing else of its kind. A `shared` pipeline becomes nodes once; if it is used more than once, a node
of its own kind copies its output.

The nodes lie in a topological order, as they are written: a stage comes after all that it reads, and before
its branches. Pipelines and error filters are the tree above the nodes. The pipelines of inlets and branches
belong to the pipeline around their stage, and those of a shared one to the outermost.

Out of scope: endpoints, the options of one run, and the carriers of edges (see `run_plan`); the state of a
run (see `tree`).
"""

from __future__ import annotations

from penstock.core.errors import StartError
from penstock.core.habits import method_hint
from penstock.core.stream_options import all_plain
from penstock.engine.elastic_edges import mark_elastic
from penstock.engine.graph_order import order_children
from penstock.engine.graph_parts import STDIN, STDOUT, PlanEdge, PlanEnd, PlanFilter, PlanGroup, PlanNode
from penstock.stages.base import traits_of
from penstock.stages.filters import Filtered
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from penstock.core.stage import Stage
    from penstock.stages.base import StageTraits
    from penstock.stages.branch import Branch

    Tail = tuple[PlanNode | PlanEnd, str]
    """Where an edge begins: a node or an end, and the port of it."""

__all__ = ["STDIN", "STDOUT", "Graph", "PipelineSpec", "PlanEdge", "PlanFilter", "PlanGroup", "PlanNode"]

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


class Graph:
    """The nodes in a topological order, the edges, and the pipelines and filters, outer ones first.

    `sources` and `sinks` are its ends; the first of each are the stdin and stdout of the whole pipeline.
    `first` is the node that reads that stdin, `last` the one that writes that stdout.
    """

    __slots__ = (
        "edges",
        "first",
        "first_in_process",
        "has_own_outputs",
        "has_user_objects",
        "is_line",
        "last",
        "nodes",
        "parents",
        "root",
        "sinks",
        "sources",
    )

    def __init__(self, stages: Sequence[Stage | PipelineSpec]) -> None:
        self.root = PlanGroup(None, {})
        """The outermost pipeline; its options are those of a run."""
        builder = _Builder(self.root, stages)
        self.parents = tuple(builder.parents)
        """Those below the root."""
        self.nodes: Sequence[PlanNode] = tuple(builder.nodes)
        self.edges: Sequence[PlanEdge] = tuple(builder.edges)
        self.sources: Sequence[PlanEnd] = builder.sources
        self.sinks: Sequence[PlanEnd] = builder.sinks
        self.is_line = not builder.branched
        if self.is_line:
            self.first, self.last = self.nodes[0], self.nodes[-1]
        else:
            self.first, self.last = builder.first, builder.last
            order_children(self.root, self.parents, self.nodes, self.edges)
            mark_elastic(self.edges)
        self.first_in_process = next(
            (node.stage for node in self.nodes if not traits_of(node.stage).opens_devnull_itself), None
        )
        """The first stage that works in this process, with streams; None if all are commands."""
        self.has_user_objects = not (
            all(traits_of(node.stage).has_no_user_objects for node in self.nodes)
            and all(isinstance(parent, PlanGroup) and all_plain(parent.options) for parent in self.parents)
            and (self.is_line or all(all_plain(end.options) for end in (*self.sources, *self.sinks)))
        )
        """Whether there may be user code in it, a finalizer for one: an object, a function."""
        self.has_own_outputs = (
            not self.is_line
            or any(
                traits_of(node.stage).stderr is not None or traits_of(node.stage).stdout is not None
                for node in self.nodes
            )
            or any(isinstance(parent, PlanGroup) and "stderr" in parent.options for parent in self.parents)
        )
        """Whether a stage or a pipeline within it has a stdout or stderr of its own."""


class _Builder:
    """Turns stages into nodes and edges."""

    def __init__(self, root: PlanGroup, stages: Sequence[Stage | PipelineSpec]) -> None:
        self.root = root
        self.parents: list[PlanGroup | PlanFilter] = []
        self.nodes: list[PlanNode] = []
        self.edges: list[PlanEdge] = []
        self.sources = [PlanEnd(STDIN, STDIN, root, {})]
        self.sinks = [PlanEnd(STDOUT, STDOUT, root, {})]
        self.branched = False
        self._stages = stages
        self._branch = ""
        self._shared: dict[int, _Shared] = {}
        """Those that were added, by the ids of their stages."""
        tail = self._add_line(root, stages, (self.sources[0], STDOUT))
        self._join(tail, self.sinks[0])

    @property
    def first(self) -> PlanNode:
        """The node that reads the stdin of the whole pipeline."""
        return self.sources[0].node

    @property
    def last(self) -> PlanNode:
        """The node that writes the stdout of the whole pipeline."""
        return self.sinks[0].node

    def _add_line(self, group: PlanGroup, stages: Sequence[Stage | PipelineSpec], tail: Tail) -> Tail:
        """Add stages, the first of which reads from `tail`; return where the last one writes."""
        # As in go-pipe, a pipeline without stages copies its stdin to its stdout.
        for stage in stages or (_copying_stage(),):
            tail = self._add_stage(group, stage, tail)
        return tail

    def _add_stage(self, group: PlanGroup, joined: Any, tail: Tail) -> Tail:
        stage, filters = _unwrapped(joined)
        traits = None if isinstance(stage, PipelineSpec) else traits_of(stage)
        if traits is not None and traits.kind == "shared":
            return self._use_shared(stage, tail, filtered=bool(filters))
        # Before the filters, so that the places of a group's children are in a topological order as well.
        inlets = () if traits is None else self._add_inlets(group, stage, traits)
        parent: PlanGroup | PlanFilter = group
        for fn in filters:
            parent = PlanFilter(parent, fn)
            self.parents.append(parent)
        if traits is None:
            nested = PlanGroup(parent, stage.options)
            self.parents.append(nested)
            return self._add_line(nested, stage.stages, tail)
        node = PlanNode(parent, len(self.nodes), stage, self._branch)
        self.nodes.append(node)
        self.branched = self.branched or traits.starts_in_graph
        self._join(tail, node)
        for port, origin in inlets:
            self._join(origin, node, port)
        outlets: list[Tail] = [(node, port) for port in traits.outlets]
        if outlets and traits.kind == "command":
            outlets = self._add_relay(group, node, outlets)
        for outlet, branch in zip(outlets, traits.outlets.values(), strict=True):
            self._add_branch(group, outlet, branch)
        return node, STDOUT

    def _add_inlets(self, group: PlanGroup, stage: Stage, traits: StageTraits) -> list[tuple[str, Tail]]:
        """Add the pipelines that a stage reads; return where each of them writes, with the stage's port."""
        found = []
        for port, pipeline in traits.inlets.items():
            tail = self._add_source(group, pipeline)
            if port in traits.fifos:
                with late_import:
                    from penstock.stages.fifo_feed import FifoFeed  # noqa: PLC0415 - few commands have a FIFO

                feed = PlanNode(group, len(self.nodes), FifoFeed(f"{port} of {stage.name}"), self._branch)
                self.nodes.append(feed)
                self._join(tail, feed)
                tail = feed, STDOUT
            found.append((port, tail))
        return found

    def _add_relay(self, group: PlanGroup, node: PlanNode, tails: Sequence[Tail]) -> list[Tail]:
        """Put a relay behind the outlets of a command, whose pipes a process that it leaves may keep open."""
        with late_import:
            from penstock.stages.relay import Relaying  # noqa: PLC0415 - few commands have outlets

        relay = PlanNode(group, len(self.nodes), Relaying(f"writing of {node.stage.name}"), self._branch)
        self.nodes.append(relay)
        found: list[Tail] = []
        for tail in tails:
            port = tail[1] if found else STDIN
            self._join(tail, relay, port)
            found.append((relay, port if found else STDOUT))
        return found

    def _add_source(self, group: PlanGroup, pipeline: PipelineSpec, end: PlanEnd | None = None) -> Tail:
        """Add a pipeline that another stage reads; its stdin is its own, unless it is given."""
        self.branched = True
        ends = {
            option: pipeline.options[option] for option in ("stdin", "input") if option in pipeline.options
        }
        own = {option: value for option, value in pipeline.options.items() if option not in ends}
        inner = group
        if own:
            inner = PlanGroup(group, own)
            self.parents.append(inner)
        if end is None:
            end = PlanEnd(f"{STDIN}-{len(self.sources)}", STDIN, inner, ends, self._branch)
            self.sources.append(end)
        else:
            end.options = ends
        return self._add_line(inner, pipeline.stages, (end, STDOUT))

    def _add_branch(self, group: PlanGroup, tail: Tail, branch: Branch) -> None:
        """Add a branch: its stages, and the end that it writes to."""
        self.branched = True
        outer, self._branch = self._branch, branch.name
        if branch.pipeline is not None:
            inner = group
            if branch.pipeline.options:
                inner = PlanGroup(group, branch.pipeline.options)
                self.parents.append(inner)
            tail = self._add_line(inner, branch.pipeline.stages, tail)
            group = inner
        end = PlanEnd(f"{STDOUT}-{len(self.sinks)}", branch.name, group, branch.options, branch.name)
        self.sinks.append(end)
        self._join(tail, end)
        self._branch = outer

    def _use_shared(self, stage: Any, tail: Tail, *, filtered: bool) -> Tail:
        """Return where the output of a shared pipeline comes from; add it if this is its first use."""
        end, _ = tail
        if not isinstance(end, PlanEnd):
            raise ValueError(f"{stage!r} is a source, so it must be the first stage")  # noqa: TRY004 - it is at a wrong place
        if filtered:
            raise ValueError(f"{stage!r} has one outcome for all who read it: put the error filter into it")
        if end.options:
            raise ValueError(f"{stage!r} has a stdin of its own, so a pipeline that begins with it has none")
        is_main = end is self.sources[0]
        if not is_main:
            self.sources.remove(end)
        shared = self._shared.get(id(stage))
        if shared is None:
            branch, self._branch = self._branch, ""
            found = self._add_source(self.root, stage.pipeline, end if is_main else None)
            self._branch = branch
            self._shared[id(stage)] = shared = _Shared(found)
            if _uses_of(stage, self._stages) > 1:
                splitter = PlanNode(self.root, len(self.nodes), stage.splitter())
                self.nodes.append(splitter)
                self._join(found, splitter)
                shared.splitter = splitter
        return shared.next_tail()

    def _join(self, tail: Tail, head: PlanNode | PlanEnd, target_port: str = STDIN) -> None:
        origin, port = tail
        chained = (
            target_port == STDIN
            and isinstance(origin, PlanNode)
            and isinstance(head, PlanNode)
            and _can_be_chained(origin, head)
        )
        edge = PlanEdge(
            len(self.edges), origin, head, source_port=port, target_port=target_port, chained=chained
        )
        self.edges.append(edge)
        if isinstance(head, PlanNode):
            head.inputs += (edge,)
            if isinstance(origin, PlanEnd):
                origin.edge, origin.node = edge, head
        if isinstance(origin, PlanNode):
            # The next stage comes after the branches, but stdout is the first output.
            origin.outputs = (edge, *origin.outputs) if port == STDOUT else (*origin.outputs, edge)
            if isinstance(head, PlanEnd):
                head.edge, head.node = edge, origin


class _Shared:
    """A shared pipeline that was added."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self.splitter: PlanNode | None = None
        """The node that copies its output, if it is used more than once."""
        self._uses = 0

    def next_tail(self) -> Tail:
        """Return where the next user reads."""
        self._uses += 1
        if self.splitter is None:
            return self._tail
        return self.splitter, STDOUT if self._uses == 1 else str(self._uses)


def _unwrapped(stage: Any) -> tuple[Any, list[Any]]:
    """Return a stage without the error filters around it, and these, outer ones first."""
    filters = []
    while isinstance(stage, Filtered):
        filters.append(stage.fn)
        stage = stage.stage
    return stage, filters


def _uses_of(shared: Any, stages: Sequence[Any]) -> int:
    """Return how often a shared pipeline is used among these stages, and in all that they read and write."""
    seen: set[int] = set()
    pending = list(stages)
    count = 0
    while pending:
        stage, _ = _unwrapped(pending.pop())
        if stage is shared:
            count += 1
        if isinstance(stage, PipelineSpec):
            pending += stage.stages
            continue
        traits = traits_of(stage)
        if traits.kind == "shared" and id(stage) not in seen:  # its own stages become nodes once
            seen.add(id(stage))
            pending.append(stage.pipeline)
        pending += traits.inlets.values()
        pending += [branch.pipeline for branch in traits.outlets.values() if branch.pipeline is not None]
    return count


def _can_be_chained(left: PlanNode, right: PlanNode) -> bool:
    """Whether the two can be fused: each stage of a chain takes a few frames of its worker's stack."""
    return (
        left.group is right.group
        and right.index == left.index + 1
        and traits_of(left.stage).can_be_fused
        and traits_of(right.stage).can_be_fused
        and right.index % LONGEST_CHAIN > 0
    )


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

"""Turn the stages of a pipeline into the nodes and edges of its graph.

A stage's inlets become nodes before it, its branches after it. So the nodes are made in a topological order.
A shared pipeline becomes nodes at its first use; a node that copies its output follows if there are more
uses.

Out of scope: the parts themselves (`graph_parts`), and the order of a pipeline's children (`graph_order`).
"""

from __future__ import annotations

from penstock.core.errors import StartError
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
from penstock.stages.filters import Filtered
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from penstock.core.stage import Stage
    from penstock.engine.graph import PipelineSpec
    from penstock.stages.base import StageTraits
    from penstock.stages.branch import Branch

    Tail = tuple[PlanNode | PlanEnd, str]
    """Where an edge begins: a node or an end, and the port of it."""

__all__ = ["Builder"]

LONGEST_CHAIN = 50
"""Stages that may be fused."""


class Builder:
    """The nodes, edges and ends of a pipeline, made in its constructor."""

    def __init__(
        self,
        root: PlanGroup,
        stages: Sequence[Stage | PipelineSpec],
        relayed: frozenset[int],
        keep: str | None,
    ) -> None:
        """`relayed`: the ids of stages all of whose outputs are relayed, and of branches that are."""
        self.root = root
        self.parents: list[PlanGroup | PlanFilter] = []
        self.nodes: list[PlanNode] = []
        self.edges: list[PlanEdge] = []
        self.sources = [PlanEnd(STDIN, STDIN, root, {})]
        self.sinks = [PlanEnd(STDOUT, STDOUT, root, {})]
        self.branched = False
        self.direct: list[Branch] = []
        """Those whose files a stage gets itself, where a relay would be usual."""
        self._stages = stages
        self._relayed = relayed
        self._keep = keep
        self._branch = ""
        self._kept_edges = 0
        self._shared: dict[int, _Shared] = {}
        """Those that were added, by the ids of their stages."""
        if keep is None and all(map(_is_plain, stages)):
            self._add_plain_line(stages or (_copying_stage(),))
        else:
            tail = self._add_line(root, stages, (self.sources[0], STDOUT))
            self._join(self._kept(root, tail, STDOUT), self.sinks[0])

    @property
    def first(self) -> PlanNode:
        """The node that reads the stdin of the whole pipeline."""
        return self.sources[0].node

    @property
    def last(self) -> PlanNode:
        """The node that writes the stdout of the whole pipeline."""
        return self.sinks[0].node

    def _add_plain_line(self, stages: Sequence[Any]) -> None:
        """Add stages without filters, nested pipelines and further ends: most pipelines, so by few steps."""
        before: PlanNode | None = None
        source, sink = self.sources[0], self.sinks[0]
        nodes, edges = self.nodes, self.edges
        for index, stage in enumerate(stages):
            node = PlanNode(self.root, index, stage)
            nodes.append(node)
            if before is None:
                edge = PlanEdge(0, source, node)
                source.edge, source.node = edge, node
            else:
                edge = PlanEdge(index, before, node, chained=_can_be_chained(before, node))
                before.outputs = (edge,)
            edges.append(edge)
            node.inputs = (edge,)
            before = node
        assert before is not None
        edge = PlanEdge(len(stages), before, sink)
        sink.edge, sink.node = edge, before
        before.outputs = (edge,)
        edges.append(edge)

    def _add_line(self, group: PlanGroup, stages: Sequence[Stage | PipelineSpec], tail: Tail) -> Tail:
        """Add stages, the first of which reads from `tail`; return where the last one writes."""
        # As in go-pipe, a pipeline without stages copies its stdin to its stdout.
        for stage in stages or (_copying_stage(),):
            tail = self._add_stage(group, stage, tail)
        return tail

    def _add_stage(self, group: PlanGroup, joined: Any, tail: Tail) -> Tail:
        stage, filters = _unwrapped(joined)
        traits = _traits(stage)
        if traits is not None and traits.kind == "shared":
            return self._use_shared(stage, tail, filtered=bool(filters))
        # Before the filters, so that the places of a group's children are in a topological order as well.
        inlets = () if traits is None else self._add_inlets(group, stage, traits)
        if traits is not None:
            tail = self._kept(group, tail, stage.name)
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
        tails = self._add_relay(group, node, traits)
        for port, branch in traits.outlets.items():
            self._add_branch(group, tails.get(port, (node, port)), branch)
        return tails.get(STDOUT, (node, STDOUT))

    def _add_inlets(self, group: PlanGroup, stage: Stage, traits: StageTraits) -> list[tuple[str, Tail]]:
        """Add the pipelines that a stage reads; return where each of them writes, with the stage's port."""
        found = []
        for port, pipeline in traits.inlets.items():
            tail = self._add_source(group, pipeline)
            if port in traits.fifos or port in traits.files:
                name = f"{port} of {stage.name}"
                feed = PlanNode(group, len(self.nodes), _feed(name, traits, port), self._branch)
                self.nodes.append(feed)
                self._join(tail, feed)
                tail = feed, STDOUT
            else:
                tail = self._kept(group, tail, f"{stage.name}-{port}")
            found.append((port, tail))
        return found

    def _add_relay(self, group: PlanGroup, node: PlanNode, traits: StageTraits) -> dict[str, Tail]:
        """Put a relay behind the outlets of a command, or behind all outputs of a stage, if it needs one.

        A process that a command leaves behind may keep the pipes of its outlets open. And a stage that writes
        to elastic edges would wait for one of them while another runs dry. Neither is true of a file, so the
        stage gets that itself. Return where the relayed ports are to be found.
        """
        ports = [STDOUT] if id(node.stage) in self._relayed else []
        if ports or traits.kind == "command":
            for port, branch in traits.outlets.items():
                if self._is_direct(traits, port, branch):
                    self.direct.append(branch)
                else:
                    ports.append(port)
        if not ports:
            return {}
        with late_import:
            from penstock.stages.relay import Relaying  # noqa: PLC0415 - few commands have outlets

        relay = PlanNode(group, len(self.nodes), Relaying(f"writing of {node.stage.name}"), self._branch)
        self.nodes.append(relay)
        found: dict[str, Tail] = {}
        for port in ports:
            self._join((node, port), relay, port if found else STDIN)
            found[port] = relay, port if found else STDOUT
        return found

    def _is_direct(self, traits: StageTraits, port: str, branch: Branch) -> bool:
        """Whether a stage gets the file of a branch; `engine.direct_files` has the reasons why not."""
        relayed = id(branch) in self._relayed or self._keep is not None or port in traits.fifos
        return branch.is_plain_file and not relayed

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
        self._join(self._kept(group, tail, end.name), end)
        self._branch = outer

    def _kept(self, group: PlanGroup, tail: Tail, target: str) -> Tail:
        """Put a stage into an edge that keeps what crosses it in a file, if that is asked for."""
        node, _ = tail
        if self._keep is None or isinstance(node, PlanEnd):
            return tail
        with late_import:
            from penstock.stages.keep import Keeping  # noqa: PLC0415 - few runs keep anything

        self._kept_edges += 1
        keeping = Keeping(self._keep, self._kept_edges, node.stage.name, target)
        copier = PlanNode(group, len(self.nodes), keeping, self._branch)
        self.nodes.append(copier)
        self.branched = True
        self._join(tail, copier)
        path = keeping.path
        end = PlanEnd(f"{STDOUT}-{len(self.sinks)}", path, group, {"stdout": path, "max_output": None})
        end.is_kept = True
        self.sinks.append(end)
        self._join((copier, "kept"), end)
        return copier, STDOUT

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


def _feed(name: str, traits: StageTraits, port: str) -> Stage:
    """Return the stage that feeds a FIFO or a file."""
    with late_import:
        if port in traits.files:
            from penstock.stages.file_feed import FileFeed  # noqa: PLC0415 - few commands read whole files

            return FileFeed(name)
        from penstock.stages.fifo_feed import FifoFeed  # noqa: PLC0415 - few commands have a FIFO

        return FifoFeed(name)


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


def _is_plain(stage: Any) -> bool:
    """Whether it is one stage, without filters around it, that has no ends besides stdin and stdout."""
    if isinstance(stage, PipelineBase | Filtered):
        return False
    return not (getattr(stage, "starts_in_graph", False) or getattr(stage, "is_source", False))


def _traits(stage: Any) -> StageTraits | None:
    """Return the traits of a stage; None for a pipeline."""
    return None if isinstance(stage, PipelineBase) else traits_of(stage)


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
        if isinstance(stage, PipelineBase):
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

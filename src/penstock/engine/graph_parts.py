"""The parts of a pipeline's structure: nodes, edges, ends, and the tree of pipelines and filters above the
nodes.

All of them are immutable once the graph is made. Nodes and edges are known by ids, because two stages may
have the same name. An edge leads from a port of one node to a port of another, or from or to an end of the
graph: what a line of stages reads first, or where its output goes.

Out of scope: how a pipeline becomes nodes and edges (`graph`), and which edges may spool (`elastic_edges`).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from penstock.core.stage import Stage

__all__ = [
    "STDIN",
    "STDOUT",
    "PipelineBase",
    "PlanEdge",
    "PlanEnd",
    "PlanFilter",
    "PlanGroup",
    "PlanNode",
    "place_within",
]

STDIN = "stdin"
STDOUT = "stdout"
"""Ids of the two ends of a whole pipeline, and names of the ports that every node has."""


class PipelineBase:
    """The base of pipelines, which are defined above all that makes a graph of them."""

    __slots__ = ()

    @property
    def stages(self) -> tuple[Any, ...]:
        """The pipeline's own stages, nested pipelines as one."""
        raise NotImplementedError


class PlanGroup:
    """A pipeline: the outermost one, or one within it.

    `place` is its index among its parent's children, `options` are the ones that a nested pipeline was given.
    `consumers` says for each child which later ones read what it writes; None for a line, where the next
    does. `head` is the child that reads the stdin of the pipeline.
    """

    __slots__ = ("children", "consumers", "head", "options", "parent", "place")

    def __init__(self, parent: PlanGroup | PlanFilter | None, options: Mapping[str, Any]) -> None:
        self.parent = parent
        self.place = _next_place(parent)
        self.options = options
        self.children = 0
        self.consumers: Sequence[Sequence[int]] | None = None
        self.head = 0

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
    """A stage at its place; a stage that is used twice is two nodes. `index` is the place among all nodes.

    The first of its inputs is its stdin, the first of its outputs its stdout. `branch` is the name of the
    branch that it belongs to, "" for none.
    """

    __slots__ = ("branch", "group", "id", "index", "inputs", "outputs", "parent", "place", "stage")

    def __init__(self, parent: PlanGroup | PlanFilter, index: int, stage: Stage, branch: str = "") -> None:
        self.id = str(index)
        self.index = index
        self.stage = stage
        self.parent = parent
        self.place = _next_place(parent)
        self.group: PlanGroup = parent.group
        self.branch = branch
        self.inputs: tuple[PlanEdge, ...] = ()
        self.outputs: tuple[PlanEdge, ...] = ()


class PlanEnd:
    """An end of the graph. `options` are the ones that say what it is: stdin and input, or stdout.

    `group` is the pipeline whose end it is, and `name` how errors and plans call it. `edge` is the one that
    begins or ends here, and `node` the stage at its other end.
    """

    __slots__ = ("branch", "edge", "group", "id", "is_kept", "name", "node", "options")
    edge: PlanEdge
    node: PlanNode
    index = None

    def __init__(
        self,
        id: str,  # noqa: A002 - as of a node
        name: str,
        group: PlanGroup,
        options: Mapping[str, Any],
        branch: str = "",
    ) -> None:
        self.id = id
        self.name = name
        self.group = group
        self.options = options
        self.branch = branch
        self.is_kept = False
        """Whether it is a file of the option `keep`."""

    @property
    def is_main(self) -> bool:
        """Whether it is the stdin or the stdout of the whole pipeline."""
        return self.id in (STDIN, STDOUT)


class PlanEdge:
    """An edge from a port of one node, or an end, to a port of another.

    `index` is its place among all edges, `chained` whether it joins two stages that can be fused. `elastic`
    says whether it may hold more than its pipe does, and then `joins` are the joins that it leads to: an
    input of each, and the other inputs of that, by their indices.
    """

    __slots__ = (
        "chained",
        "elastic",
        "head",
        "index",
        "joins",
        "source",
        "source_port",
        "tail",
        "target",
        "target_port",
    )

    def __init__(  # noqa: PLR0913 - its two ports
        self,
        index: int,
        tail: PlanNode | PlanEnd,
        head: PlanNode | PlanEnd,
        *,
        source_port: str = STDOUT,
        target_port: str = STDIN,
        chained: bool = False,
    ) -> None:
        self.index = index
        # By index, because a node refers to its edges, and a line is to leave no cycles.
        self.tail = tail.index
        """The index of the node that the bytes come from; None for an end."""
        self.head = head.index
        """The index of the node that they go to; None for an end."""
        self.source = tail.id
        self.source_port = source_port
        self.target = head.id
        self.target_port = target_port
        self.chained = chained
        self.elastic = False
        self.joins: Sequence[tuple[int, Sequence[int]]] = ()

    @property
    def port(self) -> str | None:
        """The name of the port of an edge that does not lead from a stdout to a stdin; else None."""
        if self.source_port != STDOUT:
            return self.source_port
        return None if self.target_port == STDIN else self.target_port


def place_within(group: PlanGroup, node: PlanNode) -> int | None:
    """Return the place of the child of a pipeline that a node is, or is below; None if it is elsewhere."""
    child: PlanNode | PlanFilter | PlanGroup = node
    while child.parent is not None:
        if child.parent is group:
            return child.place
        child = child.parent
    return None


def _next_place(parent: PlanGroup | PlanFilter | None) -> int:
    if not isinstance(parent, PlanGroup):
        return 0
    parent.children += 1
    return parent.children - 1

"""Choose what carries the bytes of each edge: a pure function of the stages' requirements and the endpoints.

The engine and `explain()` call the same function, so `explain()` shows what a run does.

Out of scope: looking at a descriptor or an object; the engine's endpoints classify them first, into the names
below.
"""

from __future__ import annotations

from itertools import pairwise, zip_longest

from penstock.core.public import exported
from penstock.core.requirements import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Self

    from penstock.core.requirements import Requirements

__all__ = ["Edge", "Node", "Plan", "carriers", "drain_kind", "edge_kind", "feed_kind"]

_PREFER_FILE = Stream.PREFER_FILE

# Endpoint kinds whose edge does not depend on the stage at its other end.
_FIXED = {
    "null": "discard",
    "inherit": "inherit",
    "descriptor": "pass-fd",
    "path": "pass-fd",
    "pipe": "os-pipe",
    "given": "memory",
    "capture": "capture",
    "copier": "read-from",
    "async": "pooled",
    "aiterate": "os-pipe",
}


def carriers(
    requirements: Sequence[Requirements],
    source: str,
    sink: str,
    fused: Sequence[bool] = (),
    copies: tuple[str, str] = ("pooled", "pooled"),
) -> list[str]:
    """Return the kind of each edge, from the one that feeds the first stage to the one that drains the last.

    `source` and `sink` are endpoint kinds: `null`, `inherit`, `descriptor`, `path`, `pipe`, `capture`,
    `input` (bytes in memory), `relayed` (a descriptor that a command may not have as it is, so it is copied),
    `object` (copied by its own read or write, or as a descriptor that may not be passed), `copier` (an object
    that copies by itself: `write_to`, `read_from`), `async` (copied by a task of an event loop), `iterate`
    (the caller reads chunks as they come), `aiterate` (a task reads them) or `given` (an end that a custom
    stage passes on). A `relayed` sink is copied to from a pipe, whatever the last stage is. `fused` says for
    each pair of neighbours whether they may run as one chain of iterators. `copies` names the means of a copy
    between the source and a pipe, and between a pipe and the sink.
    """
    between = [edge_kind(left.stdout, right.stdin) for left, right in pairwise(requirements)]
    between = ["fused" if chained else kind for kind, chained in zip_longest(between, fused)]
    # These two are looked up here already, because nearly every run comes by.
    feed = _FIXED.get(source) or feed_kind(source, requirements[0].stdin, copies[0])
    drain = _FIXED.get(sink) or drain_kind(requirements[-1].stdout, sink, copies[1])
    return [feed, *between, drain]


def feed_kind(source: str, wants: Stream, copy: str) -> str:
    """Return the kind of an edge from an endpoint to a stage that wants such a stream; see `carriers`."""
    direct = "pass-fd" if source == "relayed" else "memory"
    return _FIXED.get(source) or (copy if wants is _PREFER_FILE else direct)


def edge_kind(left: Stream, right: Stream) -> str:
    """Return the kind of an edge between two stages that are not fused."""
    return "os-pipe" if left is _PREFER_FILE or right is _PREFER_FILE else "memory"


def drain_kind(wants: Stream, sink: str, copy: str) -> str:
    """Return the kind of an edge from a stage that wants such a stream to an endpoint; see `carriers`."""
    if sink == "iterate":
        return "os-pipe" if wants is _PREFER_FILE else "memory"
    if sink == "relayed":
        return copy
    return _FIXED.get(sink) or (copy if wants is _PREFER_FILE else "memory")


@exported
class Node(str):
    """A node of a plan, known by its `id`. As a str it is its name, which other nodes may have too.

    `kind` is `endpoint` for stdin and stdout, else the kind of the stage as in a `Result`.
    """

    __slots__ = ("id", "kind")
    id: str
    kind: str

    def __new__(cls, name: str, id: str, kind: str) -> Self:  # noqa: A002 - the public name of the attribute
        """Make a node."""
        node = super().__new__(cls, name)
        node.id = id
        node.kind = kind
        return node

    @property
    def name(self) -> str:
        """The name: of the stage, or of the endpoint."""
        return str(self)

    def __str__(self) -> str:
        return str.__str__(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return Node, (str(self), self.id, self.kind)


@exported
class Edge:
    """One edge of a plan: the names and ids of its nodes, and the `kind` of carrier, such as "os-pipe".

    `port` says what leaves the source by it: `main` is its stdout, `stderr` its stderr alone (`stderr=NEXT`
    with `stdout=`), `main+stderr` both (`stderr=NEXT` or `STDOUT`). In a graph, if one end of the edge has
    several ports, it is the name of the one. `elastic` says whether the edge may hold more than its pipe
    does, so that no join waits for ever.
    """

    __slots__ = ("elastic", "kind", "port", "source", "source_id", "target", "target_id")

    def __init__(  # noqa: PLR0913 - its attributes
        self,
        source: str,
        target: str,
        kind: str,
        source_id: str | None = None,
        target_id: str | None = None,
        port: str = "main",
        *,
        elastic: bool = False,
    ) -> None:
        self.source = source
        self.target = target
        self.kind = kind
        self.source_id = source if source_id is None else source_id
        self.target_id = target if target_id is None else target_id
        self.port = port
        self.elastic = elastic

    def __repr__(self) -> str:
        return f"Edge({self.source!r}, {self.target!r}, {self.kind!r})"

    def shown_source(self) -> str:
        """Return the name of the source, and which of its streams these are unless it is its stdout."""
        shown = {"stderr": " (stderr)", "main+stderr": " (stdout, stderr)"}
        return self.source + shown.get(self.port, "")

    def shown_kind(self) -> str:
        """Return the kind, and whether the edge is elastic."""
        return f"{self.kind}, elastic" if self.elastic else self.kind

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Edge) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, ...]:
        return self.source, self.target, self.kind, self.source_id, self.target_id


@exported
class Plan:
    """The nodes of a pipeline and the edges between them, as `Pipeline.explain` returns them.

    `nodes` are names: `stdin`, the leaf stages in a topological order, `stdout`, and the targets of branches.
    `edges` join them; each has `source`, `target`, `port`, `kind` and `elastic`. `str()` is a small table;
    for a graph it has the ports too, and numbers stages of the same name. `to_mermaid()` and `to_dot()` are
    drawings. The kinds of edge:

    - `inherit`, `discard`, `pass-fd`: the stage gets the process's own stdin or stdout, /dev/null, or the
      caller's file or descriptor.
    - `os-pipe`: a pipe of the kernel. `memory`: an in-memory pipe between threads, or a stream in memory.
      `fused`: both stages run as one chain of iterators in one thread.
    - `pooled`: Penstock copies from `input` or an object into a pipe, or from a pipe into an object.
      `splice`: the kernel does so. `read-from`: the object does so by its own `write_to` or `read_from`.
    - `capture`: the bytes are kept for the result.
    """

    __slots__ = ("edges", "nodes")

    def __init__(self, nodes: Sequence[Node], edges: Sequence[Edge]) -> None:
        self.nodes = tuple(nodes)
        self.edges = tuple(edges)

    def __repr__(self) -> str:
        return f"Plan({list(self.nodes)!r}, {list(self.edges)!r})"

    def to_mermaid(self) -> str:
        """Return a flowchart in the language of Mermaid: a text of lines with LF."""
        from penstock.core.drawing import mermaid  # noqa: PLC0415 - few programs draw

        return mermaid(self.nodes, self.edges)

    def to_dot(self) -> str:
        """Return a digraph in the language of Graphviz: a text of lines with LF."""
        from penstock.core.drawing import dot  # noqa: PLC0415 - as above

        return dot(self.nodes, self.edges)

    def _repr_html_(self) -> str:
        from penstock.core.table import html_table  # noqa: PLC0415 - as below

        return html_table(*self._rows())

    def __str__(self) -> str:
        from penstock.core.table import table  # noqa: PLC0415 - only printing a plan needs it

        return table(*self._rows())

    def _rows(self) -> tuple[list[str], list[list[str]]]:
        """Return a header, and a row for each edge; in a graph with its port, and with names that differ."""
        if self._is_line():
            rows = [[edge.shown_source(), edge.target, edge.kind] for edge in self.edges]
            return ["from", "to", "carried by"], rows
        labels = self._labels()
        rows = []
        for edge in self.edges:
            source = edge.shown_source().replace(edge.source, labels[edge.source_id], 1)
            port = "" if edge.port in ("main", "stderr", "main+stderr") else edge.port
            rows.append([source, labels[edge.target_id], port, edge.shown_kind()])
        return ["from", "to", "port", "carried by"], rows

    def _is_line(self) -> bool:
        joined = [(edge.source_id, edge.target_id) for edge in self.edges]
        return joined == [(source.id, target.id) for source, target in pairwise(self.nodes)]

    def _labels(self) -> dict[str, str]:
        """Return a name for each node, by its id. Stages of the same name are numbered."""
        writers = {edge.target_id: edge.source for edge in self.edges}
        stages: dict[str, list[str]] = {}
        for node in self.nodes:
            if node.kind != "endpoint":
                stages.setdefault(node.name, []).append(node.id)
        labels = {}
        for node in self.nodes:
            label = node.name
            if node.kind != "endpoint" and len(stages[label]) > 1:
                label += f" [{stages[label].index(node.id) + 1}]"
            elif node.kind == "endpoint" and writers.get(node.id) == label:
                label = f"output of {label}"
            labels[node.id] = label
        return labels

"""Drawings of a plan, as texts for Mermaid and for Graphviz.

A node is known by its id, so two stages of one name are two boxes. A label says the port if it is not stdout
to stdin, and the carrier; an elastic edge is dotted.
"""

from __future__ import annotations

from penstock.core.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.core.plan import Edge, Node

__all__ = ["dot", "mermaid"]


def mermaid(nodes: Sequence[Node], edges: Sequence[Edge]) -> str:
    """Return a flowchart."""
    places = {node.id: f"n{place}" for place, node in enumerate(nodes)}
    lines = ["flowchart LR"]
    for node in nodes:
        start, end = ("([", "])") if node.kind == "endpoint" else ("[", "]")
        lines.append(f'    {places[node.id]}{start}"{_html(node.name)}"{end}')
    for edge in edges:
        arrow = "-.->" if edge.elastic else "-->"
        source, target = places[edge.source_id], places[edge.target_id]
        lines.append(f'    {source} {arrow}|"{_html(_label(edge))}"| {target}')
    return "\n".join(lines) + "\n"


def dot(nodes: Sequence[Node], edges: Sequence[Edge]) -> str:
    """Return a digraph."""
    lines = ["digraph pipeline {", "    rankdir=LR;"]
    for node in nodes:
        shape = "ellipse" if node.kind == "endpoint" else "box"
        lines.append(f"    {_quoted(node.id)} [label={_quoted(node.name)}, shape={shape}];")
    for edge in edges:
        style = ", style=dashed" if edge.elastic else ""
        ends = f"{_quoted(edge.source_id)} -> {_quoted(edge.target_id)}"
        lines.append(f"    {ends} [label={_quoted(_label(edge))}{style}];")
    return "\n".join([*lines, "}"]) + "\n"


def _label(edge: Edge) -> str:
    return edge.kind if edge.port == "main" else f"{edge.port}: {edge.kind}"


def _html(text: str) -> str:
    for character, entity in (("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, entity)
    return printable(text, keep="")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped, keep="")}"'

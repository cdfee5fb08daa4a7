"""Draw the graph of a run: boxes for its stages and ends, lines for its edges, with the bytes they carried.

Out of scope: where the boxes stand (`layout`).
"""

from __future__ import annotations

from penstock.core.sizes import binary_size
from penstock.profiling.layout import lay_out
from penstock.profiling.markup import cut, number, text
from penstock.profiling.words import outcome_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.core.result import EdgeResult, Result

__all__ = ["draw_graph"]

_STEP_X, _STEP_Y = 180, 96
_BOX_X, _BOX_Y = 164, 38
_COLUMNS = 20
"""Columns of a name that fit into a box."""
_MARGIN = 8
_NEAR = 0.62
"""The place of a label that is nearer to one end of its edge, as a share of the way."""


def draw_graph(result: Result) -> str:
    """Return an SVG element."""
    names = {edge.source_id: edge.source for edge in result.edges}
    names |= {edge.target_id: edge.target for edge in result.edges}
    names |= {stage.id: stage.name for stage in result.stages}
    pairs: dict[tuple[str, str], list[EdgeResult]] = {}
    for edge in result.edges:
        pairs.setdefault((edge.source_id, edge.target_id), []).append(edge)
    made = lay_out(list(names), list(pairs))
    width = made.width * _STEP_X + 2 * _MARGIN
    rows = max((y for _, y in made.nodes.values()), default=0) + 1
    height = (rows - 1) * _STEP_Y + _BOX_Y + 2 * _MARGIN
    outcomes = {stage.id: outcome_of(result, index) for index, stage in enumerate(result.stages)}

    def at(place: tuple[float, int]) -> tuple[float, float]:
        return width / 2 + place[0] * _STEP_X, _MARGIN + _BOX_Y / 2 + place[1] * _STEP_Y

    parts = [_line([at(place) for place in route]) for route in made.routes]
    parts += [_box(names[node], *at(place), outcomes.get(node)) for node, place in made.nodes.items()]
    for route, ((source, target), edges) in zip(made.routes, pairs.items(), strict=True):
        # Where edges part or meet, a label stands near that end which is not shared.
        parted = sum(pair[0] == source for pair in pairs) > 1
        met = sum(pair[1] == target for pair in pairs) > 1
        start, end = (route[-2], route[-1]) if parted else (route[0], route[1])
        share = _NEAR if parted and not met else 1 - _NEAR if met and not parted else 0.5
        parts.append(_label(at(start), at(end), share, edges))
    title = f"The graph of the run: {len(result.stages)} stages, {len(result.edges)} edges"
    return (
        f'<svg class="graph" role="img" width="{number(width)}" height="{number(height)}" '
        f'viewBox="0 0 {number(width)} {number(height)}"><title>{text(title)}</title>{"".join(parts)}</svg>'
    )


def _line(points: Sequence[tuple[float, float]]) -> str:
    (x, y), *rest = points
    y += _BOX_Y / 2
    path = f"M{number(x)} {number(y)}"
    for place, (to_x, to_y) in enumerate(rest, 1):
        end = to_y - (_BOX_Y / 2 if place == len(rest) else 0)
        middle = number((y + end) / 2)
        path += f"C{number(x)} {middle} {number(to_x)} {middle} {number(to_x)} {number(end)}"
        x, y = to_x, end
    arrow = f"M{number(x - 4)} {number(y - 7)}L{number(x)} {number(y)}L{number(x + 4)} {number(y - 7)}"
    return f'<path class="edge" d="{path}{arrow}"/>'


def _box(name: str, x: float, y: float, outcome: str | None) -> str:
    kind = "end" if outcome is None else outcome.replace(" ", "-")
    radius = _BOX_Y / 2 if outcome is None else 5
    shown = outcome not in (None, "ok")
    lines = f'<text x="{number(x)}" y="{number(y + (-2 if shown else 4))}">{text(cut(name, _COLUMNS))}</text>'
    if shown and outcome is not None:
        lines += f'<text class="small" x="{number(x)}" y="{number(y + 13)}">{text(outcome)}</text>'
    return (
        f'<g class="node {kind}"><title>{text(name)}</title>'
        f'<rect x="{number(x - _BOX_X / 2)}" y="{number(y - _BOX_Y / 2)}" width="{_BOX_X}" height="{_BOX_Y}" '
        f'rx="{number(radius)}"/>{lines}</g>'
    )


def _label(
    start: tuple[float, float], end: tuple[float, float], share: float, edges: Sequence[EdgeResult]
) -> str:
    """Return the carriers of the edges between two nodes, and their bytes below."""
    ports = ["" if edge.port == "main" else f"{edge.port}: " for edge in edges]
    lines = ["; ".join(f"{port}{edge.kind}" for port, edge in zip(ports, edges, strict=True))]
    counts = [binary_size(edge.bytes) for edge in edges if edge.bytes is not None]
    if counts:
        lines.append("; ".join(counts))
    along = share * share * (3 - 2 * share)  # the curve leaves and arrives upright
    x = start[0] + (end[0] - start[0]) * along
    top, bottom = start[1] + _BOX_Y / 2, end[1] - _BOX_Y / 2
    y = top + (bottom - top) * share + (4 if len(lines) == 1 else -2)
    return "".join(
        f'<text class="label" x="{number(x)}" y="{number(y + place * 13)}">{text(cut(line, _COLUMNS))}</text>'
        for place, line in enumerate(lines)
    )

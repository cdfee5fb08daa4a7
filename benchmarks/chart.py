"""The ratios with a bar as an SVG chart: how much better than the peer each is, and where its bar is.

Written by hand, so that nothing has to be installed. The scale is logarithmic and turned so that right is
better for times and throughputs alike: twice as fast as the peer is at 2, half as fast at 1/2.
"""

from __future__ import annotations

import math
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.table import Row, rows

__all__ = ["chart"]

WIDTH, LABELS, RIGHT, LINE, TOP = 920, 450, 70, 24, 56
LOW, HIGH = 1 / 8, 8.0
MET, MISSED, BAR, TEXT, GRID = "#2e7d4f", "#b3541e", "#1f2933", "#1f2933", "#d5dae0"


def chart(results: dict[str, Any]) -> str:
    """Return the chart as the text of an SVG file."""
    compared = [row for row in rows(results) if row.passed is not None and row.number is not None]
    height = TOP + LINE * len(compared) + 44
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" font-family="system-ui, sans-serif" font-size="12" role="img">'
        ),
        "<title>Penstock beside its peers</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(
            12, 24, "Penstock beside its peers: speed as a multiple of the peer's, right is faster", size=14
        ),
    ]
    bottom = TOP + LINE * len(compared)
    for tick in (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0):
        x = _place(tick)
        parts.append(_rule(x, TOP - 8, bottom, GRID, 1.5 if tick == 1.0 else 0.75))
        label = f"{tick:g}x" if tick >= 1 else f"1/{1 / tick:g}x"
        parts.append(_text(x, TOP - 14, label, anchor="middle"))
    for number, row in enumerate(compared):
        parts.extend(_line(row, TOP + LINE * number))
    parts.append(_legend(bottom + 26))
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _line(row: Row, top: int) -> list[str]:
    ratio = row.number or 1.0
    limit = float(row.bar.split()[1])
    speed, wanted = (1 / ratio, 1 / limit) if row.lower else (ratio, limit)
    middle, one, x, bar = top + LINE / 2, _place(1.0), _place(speed), _place(wanted)
    colour = MET if row.passed else MISSED
    left, width = min(one, x), max(1.5, abs(x - one))
    name = f"{row.work.replace('`', '')} / {row.peer}"
    outside = max(x, one, bar) + 6
    return [
        _text(LABELS - 10, middle + 4, name, anchor="end"),
        f'<rect x="{left:.1f}" y="{middle - 7:.1f}" width="{width:.1f}" height="14" fill="{colour}"/>',
        _rule(bar, middle - 10, middle + 10, BAR, 2),
        _text(outside, middle + 4, f"{speed:.2f}x"),
    ]


def _legend(y: float) -> str:
    return "".join(
        (
            f'<rect x="12" y="{y - 9}" width="12" height="10" fill="{MET}"/>',
            _text(30, y, "bar met"),
            f'<rect x="100" y="{y - 9}" width="12" height="10" fill="{MISSED}"/>',
            _text(118, y, "bar missed"),
            _rule(206, y - 11, y + 3, BAR, 2),
            _text(214, y, "the bar"),
        )
    )


def _rule(x: float, top: float, bottom: float, colour: str, width: float) -> str:
    return (
        f'<line x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="{colour}" '
        f'stroke-width="{width}"/>'
    )


def _place(value: float) -> float:
    """Return the x position of a multiple; one that is off the scale lies at its end."""
    held = min(max(value, LOW), HIGH)
    span = WIDTH - LABELS - RIGHT
    return LABELS + span * (math.log(held) - math.log(LOW)) / (math.log(HIGH) - math.log(LOW))


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{TEXT}">'
        f"{escape(text)}</text>"
    )

"""Charts of a profile: small multiples, one for each stage, and the bars of the timeline. Pure functions.

Each chart is a small picture with its own text, so that many of them flow into columns on a wide screen, and
stand below each other on a phone, without becoming too small to read. All of one figure have the same scale.
"""

from __future__ import annotations

from penstock.profiling.markup import number, seconds, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.profiling.series import Point, Step

__all__ = ["area_of", "bar", "chart", "curve_of", "nice_top", "steps_of"]

_WIDTH, _HEIGHT = 300, 112
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 6, 8, 20
_PLOT_X, _PLOT_Y = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_BAR_X, _BAR_Y = 1000, 16


def nice_top(most: float, base: int = 10) -> float:
    """Return the top of a scale: 1, 2 or 5 times a power of ten, or of two if `base` is 2.

    >>> nice_top(0.7), nice_top(3.0), nice_top(0.0), nice_top(5_000_000, 2)
    (1.0, 5.0, 1.0, 8388608.0)
    """
    if most <= 0:
        return 1.0
    top = 1.0
    if base == 2:
        while top < most:
            top *= 2
        return top
    while top >= most * 10:
        top /= 10
    while top < most:
        top *= 10
    return next(round(top * part, 12) for part in (0.1, 0.2, 0.5, 1.0) if top * part >= most)


def chart(
    title: str, paths: Sequence[tuple[str, str]], top: float, elapsed: float, show: Callable[[float], str]
) -> str:
    """Return an SVG element; `paths` are pairs of a class and the data of a path, from the functions below.

    The scale goes up to `top`, which `show` makes a text of, and to `elapsed` seconds.
    """
    bottom, right = _TOP + _PLOT_Y, _LEFT + _PLOT_X
    grid = "".join(
        f'<path class="grid" d="M{_LEFT} {number(y)}H{right}"/>' for y in (_TOP, _TOP + _PLOT_Y / 2, bottom)
    )
    labels = [
        (_LEFT - 5, _TOP + 4, "end", show(top)),
        (_LEFT - 5, _TOP + _PLOT_Y / 2 + 4, "end", show(top / 2)),
        (_LEFT - 5, bottom + 4, "end", "0"),
        (_LEFT, _HEIGHT - 5, "start", "0 s"),
        (right, _HEIGHT - 5, "end", seconds(elapsed)),
    ]
    texts = "".join(
        f'<text x="{x}" y="{number(y)}" text-anchor="{anchor}">{text(value)}</text>'
        for x, y, anchor, value in labels
    )
    curves = "".join(f'<path class="{kind}" d="{data}"/>' for kind, data in paths if data)
    return (
        f'<svg class="chart" role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}"><title>{text(title)}</title>'
        f"{grid}{curves}{texts}</svg>"
    )


def steps_of(steps: Sequence[Step], top: float, elapsed: float) -> str:
    """Return the data of a path with a level for each step; a gap between two interrupts it."""
    path, last = "", None
    for start, end, value in steps:
        y = number(_y(value, top))
        path += f"V{y}" if start == last else f"M{number(_x(start, elapsed))} {y}"
        path += f"H{number(_x(end, elapsed))}"
        last = end
    return path


def area_of(steps: Sequence[Step], top: float, elapsed: float) -> str:
    """Return the data of a path around the area below the steps."""
    bottom = number(_TOP + _PLOT_Y)
    path = ""
    for start, end, value in steps:
        if value > 0:
            x, y, right = _x(start, elapsed), _y(value, top), _x(end, elapsed)
            path += f"M{number(x)} {bottom}V{number(y)}H{number(right)}V{bottom}Z"
    return path


def curve_of(pieces: Sequence[Sequence[Point]], top: float, elapsed: float) -> str:
    """Return the data of a path through the points of each piece. A point alone is a short line."""
    path = ""
    for piece in pieces:
        points = [(_x(when, elapsed), _y(value, top)) for when, value in piece]
        path += "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)
        if len(points) == 1:
            path += "h2"
    return path


def bar(title: str, parts: Sequence[tuple[float, float, str]], elapsed: float) -> str:
    """Return an SVG element with the states of a stage from the start to the end of the run."""
    shown = []
    for start, end, state in parts:
        x, right = (min(when / elapsed, 1.0) * _BAR_X if elapsed else 0.0 for when in (start, end))
        wide = max(right - x, 2.0)  # a stage of a moment shows too
        x = min(x, _BAR_X - wide)
        y, high = (0, _BAR_Y) if state == "running" else (_BAR_Y / 4, _BAR_Y / 2)
        shown.append(
            f'<rect class="{text(state)}" x="{number(x)}" y="{number(y)}" '
            f'width="{number(wide)}" height="{number(high)}"/>'
        )
    return (
        f'<svg class="bar" role="img" viewBox="0 0 {_BAR_X} {_BAR_Y}" preserveAspectRatio="none">'
        f"<title>{text(title)}</title>{''.join(shown)}</svg>"
    )


def _x(when: float, elapsed: float) -> float:
    return _LEFT + (min(when / elapsed, 1.0) * _PLOT_X if elapsed else 0.0)


def _y(value: float, top: float) -> float:
    return _TOP + _PLOT_Y * (1 - min(value / top, 1.0))

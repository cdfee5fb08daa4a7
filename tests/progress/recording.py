"""The picture of the live view in the docs: `python -m tests.progress.recording` takes it anew.

A real run is watched on a terminal of the suite, in the middle and at its end, and what stands on the screen
becomes an SVG. The figures are those of the machine that the picture was taken on.
"""

from __future__ import annotations

import html
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.screens import TerminalScreen
from tests.support.terminals import Desk

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FILE", "STAGES", "lines_of"]

FILE = Path(__file__).parents[2] / "docs" / "live_view.svg"
LINE = "filter:tools:is_error < access.log | tr a-z A-Z | bzip2 -v > errors.bz2"
STAGES = ("filter:tools:is_error", "tr", "bzip2")
_TOOLS = """
def is_error(line):
    return b" 50" in line
"""
_COLUMNS, _ROWS = 84, 12
_CHAR, _ROW, _EDGE = 8.43, 19, 14
_COLOURS = {"brown": "#e5c07b", "red": "#e06c75"}


def main() -> None:
    """Take the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tools.py").write_text(_TOOLS)
        with (folder / "access.log").open("wb") as log:
            for start in range(0, 2_000_000, 100_000):
                log.writelines(
                    b'192.0.2.7 "GET /item/%d HTTP/1.1" 50%d\n' % (n * 7919 % 10**7, n % 4)
                    for n in range(start, start + 100_000)
                )
        desk = Desk(folder)
        try:
            pictures = _watch(desk)
        finally:
            desk.close()
    prompt = f"$ penstock run --progress '{LINE}'"
    FILE.write_text(_svg(prompt, pictures), encoding="utf-8")
    sys.stdout.write(f"wrote {FILE.name}\n")


def _watch(desk: Desk) -> Sequence[Sequence[Sequence[tuple[str, str]]]]:
    """Return two screens: rows of pieces of text, with the style of each."""
    words = (sys.executable, "-m", "penstock", "run", "--progress", LINE)
    terminal = desk.start(*words, env={"TERM": "xterm"}, size=(_COLUMNS, _ROWS))
    screen = TerminalScreen(terminal, _COLUMNS, _ROWS)
    screen.wait_until(lambda: screen.rows and re.search(r"^[2-9][0-9.]*s .*left.*slowest", screen.rows[-1]))
    middle = screen.styled
    assert screen.status(120) == 0
    return middle, screen.styled


def _svg(prompt: str, pictures: Sequence[Sequence[Sequence[tuple[str, str]]]]) -> str:
    rows: list[str] = []
    top = _EDGE
    for picture in pictures:
        for row in ([(prompt, "")], *picture):
            top += _ROW
            pieces = "".join(
                f"<tspan{_style(style)}>{html.escape(text, quote=False)}</tspan>" for text, style in row
            )
            rows.append(f'<text x="{_EDGE}" y="{top}" xml:space="preserve">{pieces}</text>')
        top += _ROW
    width = max(_COLUMNS, len(prompt)) * _CHAR + 2 * _EDGE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {top}" role="img"\n'
        '     font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14" fill="#d4d4d4">\n'
        "<title>The live view of a run, in the middle and at the end</title>\n"
        f'<rect width="100%" height="100%" rx="6" fill="#1e1e1e"/>\n{chr(10).join(rows)}\n</svg>\n'
    )


def _style(style: str) -> str:
    colour, _, weight = style.partition(" ")
    shown = f' fill="{_COLOURS[colour]}"' if colour in _COLOURS else ""
    return shown + (' font-weight="bold"' if weight else "")


def lines_of(svg: str) -> list[str]:
    """Return the lines of text in the picture."""
    rows = re.findall(r"<text[^>]*>(.*?)</text>", svg)
    return [html.unescape(re.sub(r"<[^>]*>", "", row)) for row in rows]


if __name__ == "__main__":
    main()

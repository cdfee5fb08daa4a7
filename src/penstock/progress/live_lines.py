"""The lines of the live view: one for each stage, between a head and a foot, cut to the size of the terminal.

No line is as wide as the terminal: the last column stays free, because a terminal that has written there may
wrap or not. Columns that do not fit are left out, the least important first. If the lines are more than the
rows, the head goes first, then the stages of least interest.

Rich measures the text (a Chinese character takes two columns) and chooses the colours: by TERM, COLORTERM
and NO_COLOR. Out of scope: where the lines go on the screen (`runtime.live_area`).
"""

from __future__ import annotations

import io
import sys

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from penstock.core.printable import printable
from penstock.core.sizes import binary_size
from penstock.progress.figures import duration, input_fill, name_of, outlook, percent, rate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.core.snapshot import Snapshot, StageSnapshot

__all__ = ["LiveLines"]

_GAP = "  "
_MIN_NAME, _USUAL_NAME = 5, 14
"""Columns that names get before the rate, and before other figures, if they need them."""
_WIDTHS = {"rate": 10, "cpu": 5, "bytes": 8, "state": 8, "input": 5, "rss": 8}
"""The widths of the figures, the most important ones first."""
_ORDER = ("state", "bytes", "rate", "cpu", "input", "rss")
_LEFT = frozenset({"state"})
_STYLES = {"ended": "dim", "stopped": "red"}
_ASCII = str.maketrans({"▶": ">", "…": "~"})
_WIDE = 10_000
"""Columns of the terminal that rich lays the lines out for, because it is not to wrap anything."""


class LiveLines:
    """Makes the frames of one run."""

    def __init__(self) -> None:
        self._encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        self._console = Console(
            file=io.StringIO(),
            force_terminal=True,
            force_jupyter=False,
            width=_WIDE,
            markup=False,
            emoji=False,
            highlight=False,
        )
        self._columns = 80
        self._known = {"state"}
        """The figures that were known of some stage."""

    def frame(self, snapshot: Snapshot, columns: int, rows: int) -> list[bytes]:
        """Return the lines for a terminal of that size; at most `rows - 2` of them, but one at least.

        One row is for the cursor, and one for an open line of a command.
        """
        self._columns = columns
        self._known.update(
            title for title in _WIDTHS if any(_content(title, snapshot, stage) for stage in snapshot.stages)
        )
        free = max(1, rows - 2)
        stages = list(enumerate(snapshot.stages))
        has_head = free > len(stages) + 1
        left_out = 0
        if len(stages) > free - 1:
            stages = _most_interesting(snapshot, free - 1)
            left_out = len(snapshot.stages) - len(stages)
        shown = self._figures(stages)
        table = [self._row(snapshot, *stage, shown) for stage in stages]
        head = [self._head(shown)] if has_head else []
        return self._encoded([*head, *table, self._foot(snapshot, left_out)])

    def open_line(self, text: bytes) -> bytes:
        """Return a line that shows the end of a line of a command which is not whole yet."""
        shown = printable(text.decode("utf-8", "replace").replace("\r", ""), keep="").replace("\t", " ")
        room, tail = self._columns - 2, ""
        for char in reversed(shown):
            room -= cell_len(char)
            if room < 0:
                tail = f"…{tail}"
                break
            tail = char + tail
        return self._encoded([Text(tail)])[0]

    def _figures(self, stages: Sequence[tuple[int, StageSnapshot]]) -> dict[str, int]:
        """Return the widths of the columns that fit: the names first."""
        names = max((cell_len(name_of(stage)) for _, stage in stages), default=0)
        free = self._columns - 3  # the mark, and the last column of the terminal
        shown: dict[str, int] = {}
        for figure, width in _WIDTHS.items():
            if figure not in self._known:
                continue
            kept = min(names, _USUAL_NAME if shown else _MIN_NAME)
            if free - kept < width + len(_GAP):
                break
            shown[figure] = width
            free -= width + len(_GAP)
        widths = {figure: shown[figure] for figure in _ORDER if figure in shown}
        return {"stage": max(1, min(max(names, _MIN_NAME), free)), **widths}

    def _head(self, shown: dict[str, int]) -> Text:
        cells = [
            _cell(title, width, left=title in _LEFT or title == "stage") for title, width in shown.items()
        ]
        return Text("  " + _GAP.join(cells).rstrip(), style="dim")

    def _row(self, snapshot: Snapshot, index: int, stage: StageSnapshot, shown: dict[str, int]) -> Text:
        is_bottleneck = index == snapshot.bottleneck_index and not snapshot.done
        cells = []
        for title, width in shown.items():
            content = name_of(stage) if title == "stage" else _content(title, snapshot, stage)
            cells.append(_cell(content, width, left=title in _LEFT or title == "stage"))
        style = "bold yellow" if is_bottleneck else _STYLES.get("" if snapshot.done else stage.state, "")
        return Text(("▶ " if is_bottleneck else "  ") + _GAP.join(cells).rstrip(), style=style)

    def _foot(self, snapshot: Snapshot, left_out: int) -> Text:
        parts = [f"{'ended after ' if snapshot.done else ''}{duration(snapshot.elapsed)}"]
        if left_out:
            parts.insert(0, f"... {left_out} more")
        if not snapshot.done:
            parts += outlook(snapshot)
        return Text(_GAP.join(parts), style="bold")

    def _encoded(self, lines: Sequence[Text]) -> list[bytes]:
        for line in lines:
            line.truncate(self._columns - 1, overflow="ellipsis")
        with self._console.capture() as capture:
            self._console.print(Text("\n").join(lines), end="", soft_wrap=True)
        text = capture.get()
        try:
            data = text.encode(self._encoding)
        except (UnicodeEncodeError, LookupError):
            data = text.translate(_ASCII).encode("ascii", "replace")
        return data.split(b"\n")


def _most_interesting(snapshot: Snapshot, count: int) -> list[tuple[int, StageSnapshot]]:
    """Return that many stages with their indices: the bottleneck, then what is stopped, then what goes on."""
    interest = {"stopped": 1, "ended": 3}
    ranked = sorted(
        enumerate(snapshot.stages),
        key=lambda stage: 0 if stage[0] == snapshot.bottleneck_index else interest.get(stage[1].state, 2),
    )
    return sorted(ranked[: max(count, 0)], key=lambda stage: stage[0])


def _content(title: str, snapshot: Snapshot, stage: StageSnapshot) -> str:
    """Return the text of a figure; "" if it is unknown, or of no interest because the stage has ended."""
    if title == "state":
        return stage.state
    by_output = stage.bytes_out is not None
    if title == "bytes":
        return _shown(binary_size, stage.bytes_out if by_output else stage.bytes_in)
    if stage.state == "ended":
        return ""
    if title == "rate":
        return _shown(rate, stage.rate_out if by_output else stage.rate_in)
    if title == "input":
        return _shown(percent, input_fill(snapshot, stage))
    return _shown(percent, stage.cpu) if title == "cpu" else _shown(binary_size, stage.rss)


def _shown(show: Callable[[float], str], figure: float | None) -> str:
    return "" if figure is None else show(figure)


def _cell(content: str, width: int, *, left: bool) -> str:
    """Return the text in exactly that many columns."""
    if left:
        text = Text(content)
        text.truncate(width, overflow="ellipsis")
        return text.plain + " " * (width - cell_len(text.plain))
    return content.rjust(width)

"""What stands on the screen of a terminal, as its user sees it, and what has scrolled out at its top."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import pyte
import pyte.modes
from tests.support.waiting import DEADLINE, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.terminals import Terminal

__all__ = ["Screen", "TerminalScreen"]


class Screen:
    """A screen that is fed with the bytes for a terminal."""

    def __init__(self, columns: int, rows: int) -> None:
        self._screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self._screen.set_mode(pyte.modes.LNM)  # a LF is also a CR, as a terminal's driver makes it (ONLCR)
        self._stream = pyte.ByteStream(self._screen)

    def feed(self, data: bytes) -> None:
        """Show bytes."""
        self._stream.feed(data)

    @property
    def rows(self) -> list[str]:
        """The rows of the screen, without blanks at their ends; empty ones at the bottom are left out."""
        return _without_empty_end([row.rstrip() for row in self._screen.display])

    @property
    def everything(self) -> list[str]:
        """The same, after the lines that have scrolled out at the top."""
        out = ["".join(line[column].data for column in sorted(line)) for line in self._screen.history.top]
        return _without_empty_end([*map(str.rstrip, out), *self.rows])

    @property
    def cursor(self) -> tuple[int, int]:
        """The column and the row of the cursor, from 0."""
        return self._screen.cursor.x, self._screen.cursor.y

    @property
    def cursor_is_shown(self) -> bool:
        """Whether a user sees the cursor."""
        return not self._screen.cursor.hidden

    @property
    def colours(self) -> set[str]:
        """The colours in which something is written, but the terminal's own."""
        cells = [char for line in self._screen.buffer.values() for char in line.values() if char.data.strip()]
        return {char.fg for char in cells} - {"default"}

    @property
    def styled(self) -> list[list[tuple[str, str]]]:
        """The rows, as pieces of text with the colour of each, and "bold" if it is."""
        cells = [self._screen.buffer[row] for row in range(len(self.rows))]
        found = []
        for row, text in zip(cells, self.rows, strict=True):
            styles = [f"{row[x].fg}{' bold' if row[x].bold else ''}" for x in range(len(text))]
            pieces = [
                "".join(char for char, _ in group)
                for _, group in groupby(zip(text, styles, strict=True), itemgetter(1))
            ]
            found.append(list(zip(pieces, [style for style, _ in groupby(styles)], strict=True)))
        return found

    def resize(self, columns: int, rows: int) -> None:
        """Make it larger or smaller, as a terminal that wraps no line anew."""
        self._screen.resize(rows, columns)


class TerminalScreen(Screen):
    """The screen of a terminal on which a program runs."""

    def __init__(self, terminal: Terminal, columns: int, rows: int) -> None:
        super().__init__(columns, rows)
        self.terminal = terminal
        self._fed = 0

    def resize(self, columns: int, rows: int) -> None:
        """Make the window larger or smaller."""
        self.update()
        super().resize(columns, rows)
        self.terminal.resize(columns, rows)

    def update(self) -> None:
        """Show what the program has written by now."""
        self.terminal.read_ready()
        written = self.terminal.everything
        self.feed(written[self._fed :])
        self._fed = len(written)

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition is true of what the screen shows."""

        def look() -> object:
            self.update()
            return condition()

        try:
            until(look)
        except AssertionError as error:
            raise AssertionError(f"this did not come: {self.everything}") from error

    def wait_for(self, text: str) -> None:
        """Wait until a text stands in some row."""
        self.wait_until(lambda: any(text in row for row in self.rows))

    def status(self, timeout: float = DEADLINE) -> int:
        """Wait for the end of the program; return its exit status."""
        status = self.terminal.status(timeout)
        self.update()
        return status


def _without_empty_end(rows: list[str]) -> list[str]:
    while rows and not rows[-1]:
        rows.pop()
    return rows

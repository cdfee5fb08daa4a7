r"""The lines at the bottom of the terminal that a live view draws again and again.

There is one area in a process, because there is one terminal. Each write to the terminal while there is an
area belongs to the area: it holds `lock`, and writes what the methods here return. They only compute, so the
bytes of a step reach the terminal in one piece. Text that goes above the area takes its place, and the area
follows below.

The cursor rests in the column 0 of the line below the area, and is never hidden. So what somebody else
writes, a prompt at /dev/tty for one, begins on a line of its own. A frame of the same height leaves that
line alone. Nothing has to be repaired if this process is killed: the area just stays.

While a program uses the terminal, the area is *suspended*: nothing is drawn, and what goes above it is
written as it is. The cursor may be anywhere afterwards. So the old frame stays, and a new one begins below.
The same holds after a gap in the time that the view notes: a shell had the terminal, while this process was
stopped. The text of a command may be the first to come then, so each step looks for such a gap.

Text of commands is filtered, because a cursor that moves would take the area for the text: control
characters are shown with backslashes, but for the colours (SGR), tabs, and CR.

Out of scope: the content of the lines, and writing.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time

from penstock.core.noop import noop
from penstock.system.fork_guard import reset_in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["LiveArea", "claim", "current", "lock", "release", "write_above"]

lock = threading.RLock()
"""Held while something is written to a terminal that may have a live area."""
_current: LiveArea | None = None
_write: Callable[[bytes], object] = noop

_COLOUR = rb"\x1b\[[0-9;:]*m"
_TO_FILTER = re.compile(_COLOUR + rb"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_MAX_HELD = 8192
"""Bytes of a line without an end that are held."""
_GAP_S = 0.7
"""Seconds without `note_time` after which this process counts as stopped meanwhile, perhaps by Ctrl-Z."""


class LiveArea:
    """The area of one run. Every method is called with `lock` held, and returns the bytes to write."""

    def __init__(self, show_open_line: Callable[[bytes], bytes]) -> None:
        """`show_open_line(text)` makes a line of the area from a line of commands that has no end yet."""
        self._show_open_line = show_open_line
        self._lines: Sequence[bytes] = ()
        self._rows = 0
        """Lines of the area that stand on the screen, above the cursor."""
        self._held = b""
        """The beginning of a line whose end is yet to come."""
        self.suspended = False
        self._in_line = False
        """Whether the last text that was written while it was suspended ends in the middle of a line."""
        self._noted: float | None = None
        self._lost = False
        """Whether somebody may have used the terminal unnoticed."""

    def note_time(self) -> None:
        """Note that this process runs; from any thread, several times in `_GAP_S`, without the lock."""
        noted, self._noted = self._noted, time.monotonic()
        if noted is not None and self._noted - noted > _GAP_S:
            self._lost = True

    def draw(self, lines: Sequence[bytes]) -> bytes:
        """Draw the area with these lines: each has less than a row, no control characters but colours."""
        before = self._leave_if_lost() + self._resume()
        self._lines = lines
        shown = self._all_lines()
        if before or not self._rows or len(shown) != self._rows:
            return before + self._erase() + self._put(shown)
        # The same rows again: the cursor returns to its old place, which may be behind a prompt.
        return b"\x1b7\x1b[%dA\r%s\x1b8" % (self._rows, b"\r\n".join([line + b"\x1b[K" for line in shown]))

    def above(self, data: bytes) -> bytes:
        """Show text of commands above the area. The last line is held until it is whole."""
        left = self._leave_if_lost()
        if self.suspended:
            self._in_line = not data.endswith(b"\n")
            return left + data
        end = data.rfind(b"\n") + 1
        whole = self._held + data[:end] if end else b""
        rest = data[end:] if end else self._held + data
        if len(rest) > _MAX_HELD:
            whole, rest = whole + rest + b"\n", b""
        # A meter, which draws over itself from CR to CR: its last state is what a terminal would show.
        self._held = rest[rest.rfind(b"\r", 0, len(rest) - 1) + 1 :]
        if not whole:
            return b""  # the next frame shows it
        return self._erase() + _filtered(whole) + self._put(self._all_lines())

    def suspend(self) -> bytes:
        """Leave the terminal to a program. A line that is held may be its prompt, and is given out."""
        if self.suspended:
            return b""
        self.suspended = True
        self._rows = 0
        held, self._held = self._held, b""
        self._in_line = bool(held)
        return _filtered(held)

    def finish(self, lines: Sequence[bytes]) -> bytes:
        """Draw the last frame, which stays; a line without an end gets one."""
        before = self._leave_if_lost() + self._resume()
        held, self._held = self._held, b""
        above = self._erase() + (_filtered(held) + b"\r\n" if held else b"")
        return before + above + self._put(lines)

    def _leave_if_lost(self) -> bytes:
        if self._noted is not None:
            self.note_time()
        lost, self._lost = self._lost, False
        return self.suspend() if lost else b""

    def _resume(self) -> bytes:
        if not self.suspended:
            return b""
        self.suspended = False
        return b"\r\n" if self._in_line else b"\r"

    def _all_lines(self) -> Sequence[bytes]:
        return [self._show_open_line(self._held), *self._lines] if self._held else self._lines

    def _erase(self) -> bytes:
        rows, self._rows = self._rows, 0
        return b"\x1b[%dA\r\x1b[J" % rows if rows else b""

    def _put(self, lines: Sequence[bytes]) -> bytes:
        self._rows = len(lines)
        return b"".join([line + b"\r\n" for line in lines])


def current() -> LiveArea | None:
    """Return the area that is on the terminal, if there is one."""
    return _current


def claim(area: LiveArea, write: Callable[[bytes], object]) -> bool:
    """Make it the area of the process; False if another run has one. `write` writes to its terminal."""
    global _current, _write  # noqa: PLW0603 - one for the process, as the terminal is
    with lock:
        if _current is None:
            _write = write
            _current = area
        return _current is area


def write_above(text: bytes) -> bool:
    """Write a text above the area; return False, and write nothing, if there is none."""
    if _current is None:  # a look without the lock: most programs never have one
        return False
    with lock:
        area = _current
        if area is None:
            return False
        with contextlib.suppress(Exception):  # the terminal is gone, or takes nothing
            _write(area.above(text))
        return True


def release(area: LiveArea) -> None:
    """Give the terminal back. Takes no lock: a worker may hold it in a write that blocks."""
    global _current, _write  # noqa: PLW0603
    if _current is area:
        _current = None
        _write = noop


def _filtered(text: bytes) -> bytes:
    """Return the text with all control characters shown that are neither colours nor white space."""
    shown = _TO_FILTER.sub(_keep_colour, text)
    return shown + b"\x1b[0m" if b"\x1b" in shown else shown


def _keep_colour(match: re.Match[bytes]) -> bytes:
    found = match[0]
    return found if len(found) > 1 else b"\\x%02x" % found[0]


def _after_fork_in_child() -> None:
    global _current, lock  # noqa: PLW0603 - a thread that is not there may have held it
    lock = threading.RLock()
    _current = None


reset_in_child(_after_fork_in_child, "state")

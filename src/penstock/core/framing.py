"""Split chunks into lines, wherever the chunks were cut.

Strategy: `bytes.split` finds the lines of a chunk in C. The bytes after the last LF wait for the next chunk
in one growing bytearray. Appending to it costs only the new bytes, so a long line in many chunks stays
linear. A line that comes byte by byte takes its own size of memory, not a list entry for each byte.

LF alone ends a line; CR is data, as is every other byte. `iter_blocks` and `next_block` draw chunks from the
caller, and raise an error before they ask for more input. Out of scope: reading, flushing, and the decision
when held lines are passed on.
"""

from __future__ import annotations

from penstock.core.errors import LineTooLong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator
    from typing import Final

__all__ = ["DEFAULT_MAX_LINE", "LineCutter", "LineSplitter", "check_max_line"]

DEFAULT_MAX_LINE: Final = 16 * 1024 * 1024
"""Bytes in the longest line that line functions accept unless told otherwise; its LF is not counted."""


def check_max_line(value: object) -> int:
    """Return the value of the option `max_line`, in bytes; raise TypeError or ValueError if it is invalid."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"max_line must be an int (bytes), not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"max_line must be at least 1 byte, not {value}")
    return value


class LineSplitter:
    r"""Turn chunks of bytes into lines without their LF.

    A line of more than `max_line` bytes ends it: the lines before it are delivered first, and every later
    call raises `LineTooLong`. `error` is set at once, so that a caller can fail before it waits for more
    input.

    >>> splitter = LineSplitter()
    >>> splitter.feed(b"one\ntw"), splitter.feed(b"o\r\nthr"), splitter.finish()
    ([b'one'], [b'two\r'], [b'thr'])
    """

    __slots__ = ("_held", "_too_long", "max_line")

    def __init__(self, max_line: int = DEFAULT_MAX_LINE) -> None:
        self.max_line = check_max_line(max_line)
        self._too_long = False
        self._held = bytearray()  # the beginning of a line whose LF has not come yet

    @property
    def error(self) -> LineTooLong | None:
        """The error that the next call will raise, or None.

        Always a new object, because a kept one would keep frames alive.
        """
        return LineTooLong(self.max_line) if self._too_long else None

    def iter_blocks(
        self, chunks: Iterator[bytes], before_read: Callable[[], object] | None = None
    ) -> Generator[list[bytes]]:
        """Yield the lines that each chunk completes, if any, and at the end a last line without LF.

        Calls `before_read()` ahead of each read from `chunks`, which may block. Raises `LineTooLong` once the
        lines before it were taken, without waiting for more input.
        """
        while not self._too_long:
            if before_read is not None:
                before_read()
            chunk = next(chunks, None)
            lines = self.finish() if chunk is None else self.feed(chunk)
            if lines:
                yield lines
            if chunk is None:
                return
        raise LineTooLong(self.max_line)

    async def next_block(self, receive: Callable[[], Awaitable[bytes | None]]) -> list[bytes]:
        """Await chunks until one completes a line; return its lines. `receive()` gives None at the end.

        Returns the last line at the end, if that has no LF, or no line. Raises as `iter_blocks` does.
        """
        while not self._too_long:
            chunk = await receive()
            if chunk is None:
                return self.finish()
            if lines := self.feed(chunk):
                return lines
        raise LineTooLong(self.max_line)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take a chunk of any size; return the lines that it completes, without LF.

        Raises `LineTooLong` if a line is longer than `max_line` and no earlier line is left to return.
        Otherwise the lines are returned, and the next call raises it.
        """
        if self._too_long:
            raise LineTooLong(self.max_line)
        lines = chunk.split(b"\n")
        rest = lines.pop()
        held = self._held
        if not lines:
            if len(held) + len(rest) > self.max_line:
                return self._fail(lines)
            held += rest
            return lines
        if held:
            if len(held) + len(lines[0]) > self.max_line:
                return self._fail([])
            held += lines[0]
            lines[0] = bytes(held)
            self._held = held = bytearray()
        # No line inside a chunk can be longer than the chunk, so lengths are checked only for longer chunks.
        if len(chunk) > self.max_line:
            for count, line in enumerate(lines):
                if len(line) > self.max_line:
                    return self._fail(lines[:count])
            if len(rest) > self.max_line:
                return self._fail(lines)
        held += rest
        return lines

    def finish(self) -> list[bytes]:
        """End the input; return its last line if that had no LF, else an empty list.

        Raises `LineTooLong` if a line was too long.
        """
        if self._too_long:
            raise LineTooLong(self.max_line)
        held, self._held = self._held, bytearray()
        return [bytes(held)] if held else []

    def _fail(self, before: list[bytes]) -> list[bytes]:
        self._held = bytearray()  # a line that will never be delivered need not be kept
        self._too_long = True
        if before:
            return before
        raise LineTooLong(self.max_line)


class LineCutter:
    r"""Turn chunks of bytes into lines without their LF, as `LineSplitter` does; cut a line that is too long.

    It is one line still: its first `max_line` bytes, and a mark that says how many more there were. This is
    for text that people read, where an error would hide the rest.

    >>> cutter = LineCutter(max_line=4)
    >>> cutter.feed(b"abcde"), cutter.feed(b"fg\nhi"), cutter.finish()
    ([], [b'abcd... 3 bytes omitted ...'], [b'hi'])
    """

    __slots__ = ("_held", "_max_line", "_omitted")

    def __init__(self, max_line: int = DEFAULT_MAX_LINE) -> None:
        self._max_line = max_line
        self._held = bytearray()
        self._omitted = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take a chunk of any size; return the lines that it completes."""
        *ends, rest = chunk.split(b"\n")
        lines = []
        for end in ends:
            if self._held or len(end) > self._max_line:
                self._hold(end)
                lines.append(self._take())
            else:
                lines.append(end)
        self._hold(rest)
        return lines

    def finish(self) -> list[bytes]:
        """End the input; return its last line if that had no LF, else an empty list."""
        return [self._take()] if self._held else []

    def _hold(self, part: bytes) -> None:
        room = self._max_line - len(self._held)
        self._held += part[:room]
        self._omitted += max(len(part) - room, 0)

    def _take(self) -> bytes:
        line = bytes(self._held)
        if self._omitted:
            line += b"... %d bytes omitted ..." % self._omitted
        self._held = bytearray()
        self._omitted = 0
        return line

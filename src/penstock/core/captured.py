"""The bytes that a run captures, held once.

A list of chunks that is joined at the end holds everything twice for a moment. `io.BytesIO` grows in place,
and hands out its buffer without a copy. It begins when the chunks are worth it, because most outputs are one
chunk, which is then the result itself.

With a limit, bytes past it are dropped and not held, so that the last stage can still write and end, and
`on_exceeded` is called once.
"""

from __future__ import annotations

from io import BytesIO

from penstock.core.errors import CaptureLimitExceeded
from penstock.core.noop import noop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Captured"]

_MIN_BUFFER_SIZE = 1 << 18
"""Bytes from which on a growing buffer takes the chunks."""


class Captured:
    """Chunks in their order. One thread appends; any thread may ask for the value."""

    __slots__ = ("_buffer", "_chunks", "_limit", "_room", "_size", "exceeded", "on_exceeded")

    def __init__(self, limit: int | None = None) -> None:
        self._chunks: list[bytes] = []
        self._buffer: BytesIO | None = None
        self._size = 0
        self._limit = self._room = limit
        self.exceeded: CaptureLimitExceeded | None = None
        """Says that there was more than `limit` bytes."""
        self.on_exceeded: Callable[[], object] = noop
        """Called once, in the thread that appends, when that is found."""

    def append(self, chunk: bytes) -> None:
        """Take a chunk, or as much of it as the limit allows."""
        if self._room is not None:
            chunk = self._within_limit(chunk, self._room)
            if not chunk:
                return
        if self._buffer is not None:
            self._buffer.write(chunk)
            return
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size >= _MIN_BUFFER_SIZE:
            buffer = BytesIO()
            buffer.writelines(self._chunks)
            self._buffer = buffer  # only now: somebody may ask for the value meanwhile
            self._chunks = []

    def _within_limit(self, chunk: bytes, room: int) -> bytes:
        if len(chunk) > room:
            chunk = chunk[:room]
            if self.exceeded is None and self._limit is not None:
                self.exceeded = CaptureLimitExceeded(self._limit)
                self.on_exceeded()
        self._room = room - len(chunk)
        return chunk

    def value(self) -> bytes:
        """Return everything so far. It costs no copy, unless more is appended afterwards."""
        return b"".join(self._chunks) if self._buffer is None else self._buffer.getvalue()

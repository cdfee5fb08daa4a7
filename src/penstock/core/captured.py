"""The bytes that a run captures, held once.

A list of chunks that is joined at the end holds everything twice for a moment. `io.BytesIO` grows in place,
and hands out its buffer without a copy. It begins when the chunks are worth it, because most outputs are one
chunk, which is then the result itself.
"""

from __future__ import annotations

from io import BytesIO

__all__ = ["Captured"]

_MIN_BUFFER_SIZE = 1 << 18
"""Bytes from which on a growing buffer takes the chunks."""


class Captured:
    """Chunks in their order. One thread appends; any thread may ask for the value."""

    __slots__ = ("_buffer", "_chunks", "_size")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._buffer: BytesIO | None = None
        self._size = 0

    def append(self, chunk: bytes) -> None:
        """Take a chunk."""
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

    def value(self) -> bytes:
        """Return everything so far. It costs no copy, unless more is appended afterwards."""
        return b"".join(self._chunks) if self._buffer is None else self._buffer.getvalue()

"""The reading end of a stream: every way to read, built on one method that gets the next chunk.

A chunk that was delivered in part stays whole, together with the offset of the rest. So many small reads of a
large chunk, and a large read over many small chunks, both cost time in proportion to the bytes. One thread at
a time reads; any thread may interrupt or close. Out of scope: where the chunks come from, and how to wait for
them.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod

from penstock.streams.base import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from typing import Self

    from _typeshed import WriteableBuffer

__all__ = ["BytesReader", "Reader"]


class Reader(Stream, metaclass=ABCMeta):
    """A readable binary stream; a function gets one as its stdin.

    Every method blocks until it can deliver bytes. It raises the reason after `interrupt()`, and ValueError
    after `close()`. At EOF every read returns `b""` (0 for `readinto`), however often it is called. `count`
    is the number of bytes delivered.
    """

    __slots__ = ("_at_eof", "_offset", "_rest")

    def __init__(self, lock: threading.Lock | None = None) -> None:
        super().__init__(lock)
        self._rest = b""  # the chunk that is being delivered ...
        self._offset = 0  # ... and how many bytes of it were
        self._at_eof = False

    @abstractmethod
    def _read_chunk(self) -> bytes:
        """Wait for the next chunk, which is not empty, or return `b""` at EOF."""

    def readable(self) -> bool:
        """Return True: this end is for reading."""
        return True

    def flush(self) -> None:
        """Do nothing; file objects have it (`io.TextIOWrapper` calls it when it closes)."""

    def read(self, n: int | None = -1, /) -> bytes:
        """Return `n` bytes, fewer only if EOF comes first; all up to EOF if `n` is negative or None."""
        if n is None or n < 0:
            return b"".join(self.chunks())
        data = self._take(n)
        missing = n - len(data)
        if missing and data:
            pieces = [data]
            while missing and (data := self._take(missing)):
                pieces.append(data)
                missing -= len(data)
            data = b"".join(pieces)
        self._count += len(data)
        return data

    def read1(self, n: int | None = -1, /) -> bytes:
        """Return the bytes that are there, at most `n` or a whole chunk; wait only if there are none."""
        data = self._next() if n is None or n < 0 else self._take(n)
        self._count += len(data)
        return data

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer and return the number of bytes, less than its length only if EOF comes first."""
        with _flat(buffer, "readinto") as view:
            size = done = self._readinto(view)
            while size and done < len(view):
                with view[done:] as rest:
                    size = self._readinto(rest)
                done += size
        self._count += done
        return done

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        """Read the bytes that are there into a buffer and return their number; wait only if there are none.

        The number is at least one, except at EOF and for an empty buffer.
        """
        with _flat(buffer, "readinto1") as view:
            size = self._readinto(view)
        self._count += size
        return size

    def readline(self, limit: int | None = -1, /) -> bytes:
        """Return a line with its LF; without LF at EOF, or if `limit` bytes came before it."""
        if self._stopped:
            raise self._stop_error()
        if limit is None or limit < 0:
            end = self._rest.find(b"\n", self._offset) + 1
            line = self._take(end - self._offset) if end else self._gather_line(None)
        else:
            line = self._gather_line(limit)
        self._count += len(line)
        return line

    def __iter__(self) -> Self:
        if self._stopped:
            raise self._stop_error()
        return self

    def __next__(self) -> bytes:
        # A short cut for a line that is all in hand: most are, and half the time goes into calls.
        start = self._offset
        end = self._rest.find(b"\n", start) + 1
        if end and not self._stopped:
            self._offset = end
            self._count += end - start
            return self._rest[start:end]
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    has_unread = False
    """A thread that waits in it takes at once what comes; only a busy event loop does not."""

    @property
    def waiting_since(self) -> float | None:
        """The `time.monotonic()` since which a thread has waited in it for bytes; None if none waits."""
        return None

    def chunks(self) -> Iterator[bytes]:
        """Iterate over the chunks as they come, none empty; first what an earlier read left of a chunk."""
        while chunk := self._next():
            self._count += len(chunk)
            yield chunk

    def lend_chunk(self, borrower: Stream) -> bytes:
        """Return the next chunk as `read1` does; raise the reason of `borrower` once that is stopped."""
        if borrower._stopped:  # noqa: SLF001 - of its own kind
            raise borrower._stop_error()  # noqa: SLF001
        return self.read1()

    def take_back(self, data: bytes) -> None:
        """Deliver bytes once more, before all others."""
        self._rest = data + self._rest[self._offset :]
        self._offset = 0
        self._count -= len(data)

    def _release(self) -> None:
        self._rest = b""
        self._offset = 0

    def _load(self) -> bool:
        """Make sure that there is something in `_rest` past `_offset`; False at EOF."""
        if self._stopped:
            raise self._stop_error()
        if self._offset < len(self._rest):
            return True
        if self._at_eof:
            return False
        # In this order, so that after an exception out of `_read_chunk` nothing is delivered twice.
        self._rest = b""
        self._offset = 0
        self._rest = self._read_chunk()
        if not self._rest and self._stopped:  # not EOF: the writer was cancelled as well
            raise self._stop_error()
        self._at_eof = not self._rest
        return not self._at_eof

    def _next(self) -> bytes:
        """Return the rest of the chunk in hand, or else the next chunk; `b""` at EOF."""
        if self._stopped:
            raise self._stop_error()
        rest, offset = self._rest, self._offset
        if rest:
            self._rest = b""
            self._offset = 0
            if offset < len(rest):
                return rest[offset:] if offset else rest
        if self._at_eof:
            return b""
        chunk = self._read_chunk()
        self._at_eof = not chunk
        return chunk

    def _take(self, n: int) -> bytes:
        """Return at most `n` bytes of the chunk in hand, or else of the next; `b""` at EOF or if `n` is 0."""
        if n == 0:
            if self._stopped:
                raise self._stop_error()
            return b""
        if not self._load():
            return b""
        start = self._offset
        end = start + n
        if start == 0 and end >= len(self._rest):
            return self._next()
        self._offset = end
        return self._rest[start:end]

    def _gather_line(self, limit: int | None) -> bytes:
        """Read a line that ends in a later chunk, or at `limit` bytes."""
        pieces: list[bytes] = []
        missing = limit
        while missing != 0 and self._load():
            start = self._offset
            stop = len(self._rest) if missing is None else min(len(self._rest), start + missing)
            end = self._rest.find(b"\n", start, stop) + 1
            piece = self._take((end or stop) - start)
            pieces.append(piece)
            if end:
                break
            if missing is not None:
                missing -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _readinto(self, view: memoryview) -> int:
        """Put at least one byte into `view`, unless it is empty, or return 0 at EOF.

        This one copies. Override it in a class that can read into a buffer.
        """
        data = self._take(len(view))
        view[: len(data)] = data
        return len(data)


def _flat(buffer: WriteableBuffer, method: str) -> memoryview:
    """Return the buffer as bytes. TypeError, naming the method, if it cannot be written."""
    with memoryview(buffer) as view:
        if view.readonly:
            raise TypeError(f"{method}() takes a writable buffer, not {type(buffer).__name__!r}")
        return view.cast("B")


class BytesReader(Reader):
    """A stream of bytes at hand, in one chunk; without bytes it is at EOF at once, for stdin from DEVNULL."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes = b"") -> None:
        super().__init__()
        self._data = data

    def _read_chunk(self) -> bytes:
        data, self._data = self._data, b""
        return data

    def _release(self) -> None:
        super()._release()
        self._data = b""

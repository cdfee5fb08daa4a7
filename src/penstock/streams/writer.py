"""The writing end of a stream: the types that may be written, and how they are passed on.

`bytes` cannot change, so they are passed on by reference. The caller may reuse any other buffer as soon as
`write()` returns, so a stream that keeps it longer copies it. Out of scope: how to wait for room.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod

from penstock.streams.base import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed import ReadableBuffer

    from penstock.core.captured import Captured

__all__ = ["CaptureWriter", "NullWriter", "Writer"]


class Writer(Stream, metaclass=ABCMeta):
    """A writable binary stream; a function gets one as its stdout.

    Every method blocks until it is done. It raises the reason after `interrupt()`, and ValueError after
    `close()`. An OSError is passed on as the kernel gave it (EPIPE is a BrokenPipeError). `count` is the
    number of bytes taken.
    """

    __slots__ = ()
    joins_small = False
    """Whether it is worth it to join small writes, because each is a system call."""

    @abstractmethod
    def _write_chunk(self, data: bytes | memoryview) -> None:
        """Take all of `data`, which is not empty, and add the number of bytes taken to `count`.

        A memoryview is flat, and must not be used once this returns.
        """

    def writable(self) -> bool:
        """Return True: this end is for writing."""
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of `data` and return its length in bytes. Writing nothing does nothing.

        `data` is bytes, or anything else with a buffer (bytearray, memoryview, array, mmap ...), which the
        caller may reuse afterwards. Raises TypeError for str, because a stream has no encoding.
        """
        if self._stopped:
            raise self._stop_error()
        try:
            if type(data) is bytes:
                if data:
                    self._write_chunk(data)
                return len(data)
            return self._write_view(data)
        except BrokenPipeError:
            if self._reason is not None:  # the reader was cancelled as well
                raise self._stop_error() from None
            raise

    def _write_view(self, data: ReadableBuffer) -> int:
        """Write an object that has a buffer and is not bytes."""
        if isinstance(data, str):
            raise TypeError("write() takes bytes, not str: encode the text first, as in text.encode()")
        with memoryview(data) as view:
            size = view.nbytes
            if size == 0:
                return 0
            if view.c_contiguous:
                # Release the view even if this raises: a bytearray cannot be resized while it is exported.
                with view.cast("B") as flat:
                    self._write_chunk(flat)
            else:
                self._write_chunk(view.tobytes())
        return size

    def writelines(self, lines: Iterable[ReadableBuffer], /) -> None:
        """Write each of `lines`, adding nothing between them."""
        if isinstance(lines, str):
            raise TypeError("writelines() takes an iterable of bytes, not str")
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Do nothing, because `write()` keeps nothing back. Raises as `write()` does once stopped."""
        if self._stopped:
            raise self._stop_error()


class NullWriter(Writer):
    """A stream that counts and drops all bytes, for stdout to DEVNULL."""

    __slots__ = ()

    def _write_chunk(self, data: bytes | memoryview) -> None:
        with self._lock:
            self._count += len(data)


class CaptureWriter(Writer):
    """A stream that appends each chunk to what a run captures."""

    __slots__ = ("_sink",)

    def __init__(self, sink: Captured) -> None:
        super().__init__()
        self._sink = sink

    def _write_chunk(self, data: bytes | memoryview) -> None:
        with self._lock:
            self._sink.append(bytes(data))
            self._count += len(data)

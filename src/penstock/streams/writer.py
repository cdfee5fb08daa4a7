"""The writing end of a stream: what may be written, and how it is handed on.

`bytes` cannot change, so they go on by reference. Whatever else has a buffer may be reused by the caller as
soon as `write()` returns, so it is copied wherever it is kept beyond that. How to wait for room does not
belong here.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import TYPE_CHECKING

from penstock.streams.base import Stream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed import ReadableBuffer

__all__ = ["CaptureWriter", "NullWriter", "Writer"]


class Writer(Stream, metaclass=ABCMeta):
    """A writable binary stream: what a function gets as its stdout.

    Every method blocks until it is done, raises the reason after `interrupt()`, and ValueError after
    `close()`; an OSError comes as the kernel gave it (EPIPE is a BrokenPipeError). `count` is the number of
    bytes taken.
    """

    __slots__ = ()

    @abstractmethod
    def _write_chunk(self, data: bytes | memoryview) -> None:
        """Take all of `data`, which is not empty, and add to `count` what was taken.

        A memoryview is flat, and of no use once this returns.
        """

    def writable(self) -> bool:
        """Whether this end is for writing: it is."""
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of `data` and return its length in bytes. Writing nothing does nothing.

        `data` is bytes, or anything else with a buffer (bytearray, memoryview, array, mmap ...), which the
        caller may reuse afterwards. TypeError for str: a stream has no encoding of its own.
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
            if self._reason is not None:  # whoever read it was cancelled as well
                raise self._stop_error() from None
            raise

    def _write_view(self, data: ReadableBuffer) -> int:
        """Push what is no bytes object."""
        if isinstance(data, str):
            raise TypeError("write() takes bytes, not str: encode the text first, as in text.encode()")
        with memoryview(data) as view:
            size = view.nbytes
            if size == 0:
                return 0
            if view.c_contiguous:
                # Let go of the export even where this raises: a bytearray cannot be resized while it has one.
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
        """Do nothing: what `write()` took is on its way already. Raises as `write()` does once stopped."""
        if self._stopped:
            raise self._stop_error()


class NullWriter(Writer):
    """A stream that drops and counts what it is given: stdout to DEVNULL."""

    __slots__ = ()

    def _write_chunk(self, data: bytes | memoryview) -> None:
        with self._lock:
            self._count += len(data)


class CaptureWriter(Writer):
    """A stream that appends each chunk to a list of bytes, which stays the caller's."""

    __slots__ = ("_sink",)

    def __init__(self, sink: list[bytes]) -> None:
        super().__init__()
        self._sink = sink

    def _write_chunk(self, data: bytes | memoryview) -> None:
        with self._lock:
            self._sink.append(bytes(data))
            self._count += len(data)

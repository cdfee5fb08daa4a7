"""Streams over a FIFO that the user named by its path; each opens it when it is first used.

Opening a FIFO waits for its other end, perhaps for ever. `start()` must not wait, because the user may open
the other end only afterwards. So a FIFO is never opened for a child. A worker reads or writes it, and waits
for it there; a cancellation wakes the worker as it does in any stream.
"""

from __future__ import annotations

from penstock.streams.fd_streams import FdReader, FdWriter
from penstock.streams.reader import Reader
from penstock.streams.writer import Writer
from penstock.system.fifo_open import Opening

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.system.fds import Path

__all__ = ["FifoReader", "FifoWriter"]


class FifoReader(Reader):
    """The reading end; the first read waits for a writer. EOF comes when the last writer has gone."""

    __slots__ = ("_inner", "_opening")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._opening = Opening(path, writing=False)
        self._inner: FdReader | None = None

    def _opened(self) -> FdReader:
        if self._inner is None:
            fd = self._opening.open()
            if fd is None:
                raise self._stop_error()
            self._inner = FdReader(fd, owned_description=True)
            if self._stopped:  # the stopping thread may have looked before `_inner` was there to be stopped
                self._inner.close()
                raise self._stop_error()
        return self._inner

    def _read_chunk(self) -> bytes:
        return self._opened().read1()

    def _readinto(self, view: memoryview) -> int:
        if self._stopped or self._at_eof or self._offset < len(self._rest) or not view:
            return super()._readinto(view)
        size = self._opened().readinto1(view)
        self._at_eof = size == 0
        return size

    def _wake(self) -> None:
        self._opening.cancel()
        if self._inner is not None:
            self._inner.interrupt(self._stop_error())

    def _release(self) -> None:
        super()._release()
        if self._inner is not None:
            self._inner.close()


class FifoWriter(Writer):
    """The writing end; the first write or `flush` waits for a reader."""

    __slots__ = ("_inner", "_opening")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._opening = Opening(path, writing=True)
        self._inner: FdWriter | None = None

    def _opened(self) -> FdWriter:
        if self._inner is None:
            fd = self._opening.open()
            if fd is None:
                raise self._stop_error()
            self._inner = FdWriter(fd, owned_description=True)
            if self._stopped:  # as in the reader
                self._inner.close()
                raise self._stop_error()
        return self._inner

    def _write_chunk(self, data: bytes | memoryview) -> None:
        self._count += self._opened().write(data)

    def flush(self) -> None:
        """Open it if it is not open yet: a reader waits for that even if nothing is written."""
        super().flush()
        self._opened()

    def _wake(self) -> None:
        self._opening.cancel()
        if self._inner is not None:
            self._inner.interrupt(self._stop_error())

    def _release(self) -> None:
        if self._inner is not None:
            self._inner.close()

"""The two ends of edges as stages get them: `Input` and `Output`, each a descriptor or an in-memory stream.

A stage closes what it was given. An end that is borrowed (the process's own stdin, say) is not closed by
that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.data.descriptor import FdReader, FdWriter
from penstock.system.fds import duplicate

if TYPE_CHECKING:
    from penstock.data.reader import Reader
    from penstock.data.writer import Writer
    from penstock.system.fds import Fd

__all__ = ["Input", "Output"]


class Input:
    """What a stage reads: `fd` where it is a descriptor, and in any case `reader`, a file-like object.

    `close()` is idempotent. Use either `fd` or `reader`, not both: a reader may have taken bytes off the
    descriptor.
    """

    __slots__ = ("_borrowed", "_fd", "_ours", "_reader")

    def __init__(
        self,
        fd: Fd | None = None,
        *,
        reader: Reader | None = None,
        borrowed: int | None = None,
        owned_description: bool = True,
    ) -> None:
        self._fd = fd
        self._reader = reader
        self._borrowed = borrowed
        self._ours = owned_description

    @property
    def fd(self) -> int | None:
        """The descriptor's number; None where the stream is in memory."""
        return self._borrowed if self._fd is None else self._fd.fileno()

    @property
    def reader(self) -> Reader:
        """A file-like object with `read`, `readline`, `chunks()` and so on. Closing it closes the input."""
        if self._reader is None:
            fd = _own(self._fd, self._borrowed)
            self._reader = FdReader(fd, owned_description=self._ours)
        return self._reader

    @property
    def count(self) -> int | None:
        """Bytes that were read through `reader`; None where the stage used the descriptor."""
        return None if self._reader is None else self._reader.count

    def close(self) -> None:
        """Close the stream, unless it is only borrowed."""
        if self._reader is not None:
            self._reader.close()
        elif self._fd is not None:
            self._fd.close()


class Output:
    """What a stage writes: `fd` where it is a descriptor, and in any case `writer`, a file-like object.

    `close()` is idempotent. A writer is not buffered: what was written is on its way.
    """

    __slots__ = ("_borrowed", "_fd", "_ours", "_writer")

    def __init__(
        self,
        fd: Fd | None = None,
        *,
        writer: Writer | None = None,
        borrowed: int | None = None,
        owned_description: bool = True,
    ) -> None:
        self._fd = fd
        self._writer = writer
        self._borrowed = borrowed
        self._ours = owned_description

    @property
    def fd(self) -> int | None:
        """The descriptor's number; None where the stream is in memory."""
        return self._borrowed if self._fd is None else self._fd.fileno()

    @property
    def writer(self) -> Writer:
        """A file-like object with `write`, `writelines` and `flush`. Closing it closes the output."""
        if self._writer is None:
            fd = _own(self._fd, self._borrowed)
            self._writer = FdWriter(fd, owned_description=self._ours)
        return self._writer

    @property
    def count(self) -> int | None:
        """Bytes that were written through `writer`; None where the stage used the descriptor."""
        return None if self._writer is None else self._writer.count

    def close(self) -> None:
        """Close the stream, unless it is only borrowed."""
        if self._writer is not None:
            self._writer.close()
        elif self._fd is not None:
            self._fd.close()


def _own(fd: Fd | None, borrowed: int | None) -> Fd:
    """A descriptor that a reader or writer may close."""
    if fd is not None:
        return fd
    if borrowed is None:
        raise ValueError("an end is made of a descriptor or of an in-memory stream")
    return duplicate(borrowed)

"""The ends of pipes as Python's own file objects, for `run.stdin` and `run.stdout`."""

from __future__ import annotations

import contextlib
import io

from penstock.core.errors import raised_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from penstock.system.fds import Fd

__all__ = ["PipeWriter", "pipe_reader"]

_READ_SIZE = 1 << 16
"""Bytes that are read at once if there are so many: all that a pipe holds."""


class _PipeFile(io.FileIO):
    """The read end of a pipe, which gives its pages back when it is closed."""

    ended = False
    """Whether a read has met the end."""

    def __init__(self, end: Fd) -> None:
        self._pages = end.pages
        super().__init__(end.detach(), "rb")

    def raised(self, error: BaseException) -> bool:
        """Return whether `error` comes from here; so does the StopIteration of a `next()` at the end."""
        return raised_by(error, self) or (isinstance(error, StopIteration) and self.ended)

    # In Python, so that they stand in the traceback of an error. One call reads all that a pipe holds.

    def readinto(self, buffer: Any, /) -> int | None:
        """Read once."""
        size = super().readinto(buffer)
        self.ended = size == 0
        return size

    def readall(self) -> bytes:
        """Read to the end."""
        data = super().readall()
        self.ended = True
        return data

    def close(self) -> None:
        super().close()
        if self._pages is not None:
            self._pages.release()


def pipe_reader(end: Fd) -> io.BufferedReader:
    """Return a pipe from the last stage as a file object.

    It is exactly a `BufferedReader`, whose lines are read in C. Those of a subclass take twice as long.
    """
    return io.BufferedReader(_PipeFile(end), _READ_SIZE)


class PipeWriter(io.BufferedWriter):
    """A pipe to the first stage as a file object.

    Each write goes into the pipe at once, so that a dialogue needs no flush().
    """

    def __init__(self, end: Fd) -> None:
        self._pages = end.pages
        super().__init__(io.FileIO(end.detach(), "wb"))

    def raised(self, error: BaseException) -> bool:
        """Return whether `error` comes from here."""
        return raised_by(error, self)

    def write(self, data: Any, /) -> int:
        """Write all of `data`."""
        size = super().write(data)
        super().flush()
        return size

    def flush(self) -> None:
        """Write what a failed write has left."""
        super().flush()

    def close(self) -> None:
        """Close the pipe. It is not an error if nobody reads any more."""
        with contextlib.suppress(BrokenPipeError):
            super().close()
        if self._pages is not None:
            self._pages.release()

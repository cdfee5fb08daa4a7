"""The ends of pipes as Python's own file objects, for `run.stdin` and `run.stdout`."""

from __future__ import annotations

import contextlib
import io

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from penstock.system.fds import Fd

__all__ = ["PipeWriter", "pipe_reader"]

_READ_SIZE = 1 << 16
"""Bytes that are read at once if there are so many: all that a pipe holds."""


class _PipeFile(io.FileIO):
    """The read end of a pipe, which gives its pages back when it is closed."""

    def __init__(self, end: Fd) -> None:
        self._pages = end.pages
        super().__init__(end.detach(), "rb")

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

    def write(self, data: Any, /) -> int:
        """Write all of `data`."""
        size = super().write(data)
        self.flush()
        return size

    def close(self) -> None:
        """Close the pipe. It is not an error if nobody reads any more."""
        with contextlib.suppress(BrokenPipeError):
            super().close()
        if self._pages is not None:
            self._pages.release()

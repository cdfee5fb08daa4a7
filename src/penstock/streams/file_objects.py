"""The end of a pipe as one of Python's own file objects: what `run.stdin` and `run.stdout` are."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.system.fds import Fd

__all__ = ["PipeReader", "PipeWriter"]


class PipeReader(io.BufferedReader):
    """A pipe from the last stage as a file object."""

    def __init__(self, end: Fd) -> None:
        self._pages = end.pages
        super().__init__(io.FileIO(end.detach(), "rb"))

    def close(self) -> None:
        """Close the pipe."""
        super().close()
        if self._pages is not None:
            self._pages.release()


class PipeWriter(io.BufferedWriter):
    """A pipe to the first stage as a file object: what was written is on its way, so that a dialogue
    needs no flush().
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
        """Close the pipe; that nobody reads any more is no error of who closes it."""
        with contextlib.suppress(BrokenPipeError):
            super().close()
        if self._pages is not None:
            self._pages.release()

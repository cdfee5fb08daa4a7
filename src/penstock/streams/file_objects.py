"""The ends of pipes as Python's own file objects, for `run.stdin` and `run.stdout`."""

from __future__ import annotations

import contextlib
import io

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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

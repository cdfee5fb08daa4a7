"""The output of jobs that goes to the stdout of this process: each job's bytes in one piece.

A job writes to a file without a name, on disk if TMPDIR is in memory, so its size does not matter. When the
job has ended, the file is copied to our descriptor 1. The copy reads by offset: processes that the job left
behind share the file's position, and may still write.

Out of scope: the order of the jobs (`map_run`).
"""

from __future__ import annotations

import os

from penstock.streams.fd_streams import FdWriter
from penstock.system.fds import duplicate
from penstock.system.unnamed_file import open_unnamed, storage_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.system.fds import Fd

__all__ = ["WholeOutputs"]

_STDOUT = 1
_PIECE_BYTES = 1 << 18


class WholeOutputs:
    """Writes the files of jobs. One thread writes; any may interrupt it."""

    def __init__(self) -> None:
        self._folder: str | None = None
        self._writer: FdWriter | None = None
        self._reason: BaseException | None = None

    def open(self) -> Fd:
        """Return a file for a job. OSError if there is no descriptor, or no room, for it."""
        if self._folder is None:
            self._folder = storage_folder()
        return open_unnamed(self._folder)

    def write(self, file: Fd) -> None:
        """Copy a file to our stdout. OSError if that fails, and the reason if `interrupt` was called."""
        place = 0
        while piece := os.pread(file.fileno(), _PIECE_BYTES, place):
            if self._writer is None:
                self._writer = FdWriter(duplicate(_STDOUT), owned_description=False)
            if self._reason is not None:
                raise self._reason
            self._writer.write(piece)
            place += len(piece)

    def interrupt(self, reason: BaseException) -> None:
        """End a write that is under way, and every later one. From any thread."""
        self._reason = reason
        if self._writer is not None:
            self._writer.interrupt(reason)

    def close(self) -> None:
        """Close the writer."""
        if self._writer is not None:
            self._writer.close()

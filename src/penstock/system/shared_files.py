"""The files that one run writes to, so that each is opened once, whichever names it has.

Two open file descriptions of a regular file have a position each, and one overwrites the bytes of the other.
So an output whose file the run writes to already gets a duplicate of that description: the position and
O_APPEND are shared, and no byte is lost. Files are the same by device and inode, which sees through links and
spellings. Anything but a regular file has no position that counts, and is opened each time.

A file is emptied at most once, before anything is started, and never if the caller has it open: what stands
in it by then was written on purpose. The run keeps a duplicate of each description until it ends, for a
command that is started late.

The starter's thread uses it, and nobody else before the run has ended.
"""

from __future__ import annotations

import os
import stat

from penstock.system import fds
from penstock.system.atomic_file import AtomicFile, target_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.system.fds import Fd, Path

__all__ = ["SharedFiles"]


class SharedFiles:
    """The descriptions of one run; `close` ends it."""

    def __init__(self) -> None:
        self._files: dict[object, Fd] = {}
        self._full: set[object] = set()
        """Files that were opened by a path, and were not emptied."""
        self.started = False
        """Whether a stage may have written something."""

    def add(self, number: int) -> None:
        """Share a descriptor that the caller has. Do nothing if it is not open, or not a regular file.

        Raises OSError if no descriptor is left.
        """
        try:
            key = _key(number)
        except OSError:  # the output itself will say what is wrong
            return
        if key is not None and key not in self._files:
            self._files[key] = fds.duplicate(number)

    def open_write(self, path: Path, *, append: bool = False) -> Fd:
        """Open a path as `fds.open_write` does, or return a duplicate if the run has the file open."""
        opened = fds.open_write(path, append=append, truncate=False)
        try:
            key = _key(opened.fileno())
            if key is None:
                return opened
            known = self._files.get(key)
            if known is None:
                self._files[key] = fds.duplicate(opened.fileno())
                self._full.add(key)
            else:
                opened.close()
                opened = fds.duplicate(known.fileno())
            if not append and key in self._full and (known is None or not self.started):
                _empty(opened.fileno())
                self._full.discard(key)
        except BaseException:
            opened.close()
            raise
        return opened

    def open_part(self, path: str, files: list[AtomicFile]) -> Fd:
        """Return the descriptor of the part for `path`, made at the first call, and then a duplicate."""
        key = target_of(path)
        if key in self._files:
            return fds.duplicate(self._files[key].fileno())
        output = AtomicFile(path, files).output
        self._files[key] = fds.duplicate(output.fileno())
        return output

    def close(self) -> None:
        """Let go of all. Idempotent."""
        for file in self._files.values():
            file.close()
        self._files.clear()


def _empty(number: int) -> None:
    try:
        os.ftruncate(number, 0)
    except OSError:  # of a file of the kernel, which has no size and takes O_TRUNC
        if os.fstat(number).st_size:
            raise


def _key(number: int) -> object:
    """Return the identity of a regular file; None for anything else."""
    status = os.fstat(number)
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None

"""Opening a FIFO by its path: a wait for a process at its other end (fifo(7)), which another thread can end.

Nothing tells a poller that somebody has opened the other end, so a thread has to block in open(2). It is let
go by an opener of the other end, and that is what `cancel` becomes: it opens the FIFO for both directions,
which waits for nobody (Linux, macOS; POSIX leaves it open), and holds on to that until the thread has
returned. A third process that waits for the same end is woken by that too, and sees EOF or a closed pipe. A
FIFO that has been unlinked by then cannot be opened again: then the thread stays where it is.

`_lock` guards the three facts below; it is not held during the open. What may not live here: reading and
writing.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from penstock.system import fds

if TYPE_CHECKING:
    from penstock.system.fds import Fd, Path

__all__ = ["Opening", "is_fifo"]


def is_fifo(path: Path) -> bool:
    """Whether there is a FIFO of that name."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)  # noqa: PTH116 - pathlib is dear to import
    except (OSError, ValueError):
        return False


class Opening:
    """One end of a FIFO that is going to be opened. PermissionError at once, where that will not be allowed.

    A relative path is that of the current folder of now.
    """

    def __init__(self, path: Path, *, writing: bool) -> None:
        if not os.access(path, os.W_OK if writing else os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        self.path = os.path.abspath(path)  # noqa: PTH100 - as above
        self._writing = writing
        self._lock = threading.Lock()
        self._waiting = False
        self._stopped = False
        self._unblocking_fd: Fd | None = None

    def open(self) -> Fd | None:
        """Wait for the other end, and return ours; None where it was stopped. Call it once."""
        with self._lock:
            if self._stopped:
                return None
            self._waiting = True
        fd: Fd | None = None
        try:
            fd = fds.open_write(self.path, waits=True) if self._writing else fds.open_read(self.path)
        finally:
            with self._lock:
                self._waiting = False
                stopped, partner = self._stopped, self._unblocking_fd
            if stopped and fd is not None:
                fd.close()
            if partner is not None:
                partner.close()
        return None if stopped else fd

    def cancel(self) -> None:
        """Let `open` return, now and later. From any thread, idempotent."""
        with self._lock:
            self._stopped = True
            if self._waiting and self._unblocking_fd is None:
                with suppress(OSError):
                    self._unblocking_fd = fds.open_both(self.path)

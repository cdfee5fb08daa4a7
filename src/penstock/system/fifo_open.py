"""Open a FIFO by its path, in a way that another thread can cancel.

Opening a FIFO waits for a process at its other end (fifo(7)). No poller reports that the other end was
opened, so a thread has to block in open(2) until someone opens it. `cancel` does just that: it opens the FIFO
for both directions, which does not wait (on Linux and macOS; POSIX leaves it undefined), and keeps it open
until the thread has returned. This also wakes a third process that waits for the same end: it sees EOF or a
closed pipe. If the FIFO has been unlinked by then, it cannot be opened again, and the thread stays blocked.

`_lock` guards the three flags below; it is not held during the open. Out of scope: reading and writing.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from contextlib import suppress

from penstock.system import fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.system.fds import Fd, Path

__all__ = ["Opening", "is_fifo"]


def is_fifo(path: Path) -> bool:
    """Whether there is a FIFO at this path."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)  # noqa: PTH116 - pathlib is slow to import
    except (OSError, ValueError):
        return False


class Opening:
    """One end of a FIFO that is to be opened. Raises PermissionError at once if access is denied.

    A relative path is resolved now, in the current working directory.
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
        """Wait for the other end, and return ours; None if it was cancelled. Call it once."""
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
        """Make `open` return, a current call or a later one. From any thread; idempotent."""
        with self._lock:
            self._stopped = True
            if self._waiting and self._unblocking_fd is None:
                with suppress(OSError):
                    self._unblocking_fd = fds.open_both(self.path)

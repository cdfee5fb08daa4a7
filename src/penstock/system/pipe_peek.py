"""Look at a pipe from outside: whether it is empty, full, or at EOF.

A `PipePeek` holds an O_PATH descriptor. The kernel does not count that as a reader or a writer, so the real
ends still get EOF and EPIPE while the handle is open, for hours if need be. Each look opens the pipe through
/proc/self/fd for an instant and closes it again. During that instant this process is a reader and a writer of
the pipe. The real ends notice nothing but a delay:

* A real reader sees EOF when the last writer closes. If that is our look, the kernel wakes the reader then
  (`pipe_release` wakes both sides whenever one of the two has gone and the other has not).
* A real writer gets EPIPE when the last reader closes, in the same way. A write during the instant may still
  succeed, as if the real reader had gone a moment later.
* A look reads and writes nothing, and it is non-blocking, because it opens an existing pipe of both kinds.

`at_eof` opens the pipe for reading alone: poll(2) reports POLLHUP only if there is no writer, and an end that
may write would be one.

A handle outlives the pipe. If both real ends are closed, a look finds a new and empty pipe.

Out of scope: sockets, files and pipes in memory.
"""

from __future__ import annotations

import os
import select
import stat

from penstock.system import features
from penstock.system.fds import open_path
from penstock.system.unread import unread_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from penstock.system.fds import Fd

__all__ = ["PipeLook", "PipePeek"]


class PipeLook:
    """The state of a pipe at one instant."""

    __slots__ = ("empty", "full", "unread")

    def __init__(self, unread: int, *, full: bool) -> None:
        self.unread = unread
        """Bytes that wait to be read."""
        self.empty = unread == 0
        self.full = full
        """Whether a write would have to wait."""

    def __repr__(self) -> str:
        return f"<PipeLook unread={self.unread} full={self.full}>"


class PipePeek:
    """A handle to look at a pipe without being its reader or writer; close it in the end."""

    __slots__ = ("_fd",)

    def __init__(self, fd: Fd) -> None:
        self._fd = fd

    @classmethod
    def of(cls, number: int) -> Self | None:
        """Return a handle for the pipe that a descriptor is an end of.

        None if it is not a pipe, or without procfs.
        """
        if not features.PROCFS or not stat.S_ISFIFO(os.fstat(number).st_mode):
            return None
        return cls(open_path(f"/proc/self/fd/{number}", os.O_PATH))

    def look(self) -> PipeLook | None:
        """Return the state of the pipe; None if the kernel refuses (a changed user, no descriptors left)."""
        end = self._open(os.O_RDWR)
        if end is None:
            return None
        try:
            number = end.fileno()
            return PipeLook(unread_bytes(number), full=not _poll(number, select.POLLOUT))
        finally:
            end.close()

    def at_eof(self) -> bool:
        """Whether a read would return EOF: the pipe is empty and has no writer any more.

        For a FIFO with a name this is always False: the kernel reports a hang-up only to a reader that has
        seen a writer.
        """
        end = self._open(os.O_RDONLY)
        if end is None:
            return False
        try:
            return _poll(end.fileno(), select.POLLIN) == select.POLLHUP
        finally:
            end.close()

    def close(self) -> None:
        """Close the handle. Idempotent."""
        self._fd.close()

    def _open(self, mode: int) -> Fd | None:
        try:
            return open_path(f"/proc/self/fd/{self._fd.fileno()}", mode | os.O_NONBLOCK)
        except OSError:
            return None


def _poll(number: int, event: int) -> int:
    """Return the events that are there at once, 0 if there are none."""
    poll = select.poll()
    poll.register(number, event)
    return sum(mask for _, mask in poll.poll(0))

"""The kernel's movers of bytes between descriptors, and what their errors mean.

Each mover takes two numbers and a length, moves at most that many bytes from the source's position to the
sink's, and returns how many; 0 is EOF. No byte passes through this process, so what was not moved is still in
the source: after any error another mover may go on from there. Where `features` says that a mover is missing
it fails as a kernel without it does, with ENOSYS.

Who may block, by the kernel's rules:

* `splice`: SPLICE_F_NONBLOCK is about its pipes, whatever their O_NONBLOCK says. A socket or a terminal on
  the other side goes by its own O_NONBLOCK alone.
* `sendfile` waits for a first piece of room in a pipe, and until all is sent in a socket, unless the sink has
  O_NONBLOCK.
* `copy_file_range` works on regular files, which never block.

What may not live here: waiting, and the choice of a mover.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Final

from penstock.system import features

__all__ = ["cannot", "copy_file_range", "movers", "sendfile", "splice"]

# EBADF is how copy_file_range refuses an O_APPEND sink, EPERM and EACCES are how sandboxes refuse, and EIO
# comes from network file systems that do not carry their own copies through. Where the error is real after
# all (the descriptor is bad, the disk is broken) the plain read or write that follows meets it again.
_CANNOT: Final = frozenset({
    errno.ENOSYS, errno.EINVAL, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF, errno.EPERM,
    errno.EACCES, errno.EIO, errno.ESPIPE, errno.ENOTSOCK, errno.EOVERFLOW, errno.ETXTBSY,
})  # fmt: skip


def cannot(error: OSError) -> bool:
    """Whether a mover's error means that this pair is not for it, so that another one may be tried.

    EAGAIN (BlockingIOError) means to wait; everything else, EPIPE, ENOSPC or ECONNRESET, is real.
    """
    return error.errno in _CANNOT


def movers() -> frozenset[str]:
    """Return the names of those that this platform has: "copy-file-range", "sendfile", "splice"."""
    found = {
        "copy-file-range": features.COPY_FILE_RANGE,
        "sendfile": _has_sendfile(),
        "splice": features.SPLICE,
    }
    return frozenset(name for name, there in found.items() if there)


def splice(source: int, sink: int, length: int) -> int:
    """Move bytes where one side is a pipe; at most what that pipe holds, or has room for.

    BlockingIOError where a pipe is empty or full (splice(2)). Without SPLICE_F_MORE, which would hold back
    the end of what was written until more comes. What comes out of a regular file is the page cache's own
    pages: who changes the file before the pipe is read changes what is read.
    """
    if not features.SPLICE:
        raise _missing()
    return os.splice(source, sink, length, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)


def sendfile(source: int, sink: int, length: int) -> int:
    """Move bytes of a regular file, at its position, into anything but an O_APPEND file.

    BlockingIOError where a non-blocking sink has no room (sendfile(2)). As with `splice`, a pipe or socket
    may refer to the file's own pages until its reader has taken them.
    """
    if not _has_sendfile():
        raise _missing()
    return os.sendfile(sink, source, None, length)


def copy_file_range(source: int, sink: int, length: int) -> int:
    """Move bytes between two regular files, each at its position; a file system that can shares the blocks.

    The sink must not be O_APPEND (EBADF). 0 also comes for files that do not know their size, as those of
    /proc, so a copy that begins with 0 is no proof of EOF. copy_file_range(2).
    """
    if not features.COPY_FILE_RANGE:
        raise _missing()
    return os.copy_file_range(source, sink, length)


def _has_sendfile() -> bool:
    # Elsewhere the call of that name takes sockets only, and no position of the file's own.
    return features.SENDFILE and sys.platform == "linux"


def _missing() -> OSError:
    return OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

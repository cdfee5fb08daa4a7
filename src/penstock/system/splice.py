"""The system calls that move bytes between descriptors, and the meaning of their errors.

Each mover takes two descriptors and a length, moves at most that many bytes from the source's position to the
sink's, and returns their number; 0 is EOF. No byte passes through this process, so bytes that were not moved
are still in the source: after any error another mover can continue from there. If `features` says that a
mover is missing, it fails as on a kernel without it, with ENOSYS. `tee` is no mover: it leaves the bytes in
the source, and its copy refers to the same pages.

Which calls may block, by the kernel's rules:

* `splice`, `tee`: SPLICE_F_NONBLOCK applies to their pipes, whatever O_NONBLOCK of these says. A socket or a
  terminal on the other side of a splice obeys its own O_NONBLOCK alone.
* `sendfile` waits until a pipe has some room, and until a socket has sent all, unless the sink has
  O_NONBLOCK.
* `copy_file_range` works on regular files, which never block.

Out of scope: waiting, and the choice of a mover.
"""

from __future__ import annotations

import errno
import os
import sys

from penstock.system import features, system_calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["can_tee", "cannot", "copy_file_range", "movers", "sendfile", "splice", "tee"]

# copy_file_range refuses an O_APPEND sink with EBADF, sandboxes refuse with EPERM or EACCES, and network file
# systems that cannot complete a copy report EIO. If the error is real after all (a bad descriptor, a broken
# disk), the plain read or write that follows meets it again.
_CANNOT: Final = frozenset({
    errno.ENOSYS, errno.EINVAL, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF, errno.EPERM,
    errno.EACCES, errno.EIO, errno.ESPIPE, errno.ENOTSOCK, errno.EOVERFLOW, errno.ETXTBSY,
})  # fmt: skip


def cannot(error: OSError) -> bool:
    """Whether an error means that the mover does not support this pair, so that another may be tried.

    EAGAIN (BlockingIOError) means to wait. All others, such as EPIPE, ENOSPC or ECONNRESET, are real.
    """
    return error.errno in _CANNOT


def movers() -> frozenset[str]:
    """Return the movers of this platform, out of "copy-file-range", "sendfile" and "splice"."""
    found = {
        "copy-file-range": features.COPY_FILE_RANGE,
        "sendfile": _has_sendfile(),
        "splice": features.SPLICE,
    }
    return frozenset(name for name, there in found.items() if there)


def splice(source: int, sink: int, length: int) -> int:
    """Move bytes from or to a pipe, at most as many as it holds or has room for.

    BlockingIOError if a pipe is empty or full (splice(2)). SPLICE_F_MORE is not set, because it would delay
    the last bytes until more come. Bytes of a regular file stay in pages of the page cache. If the file is
    changed before the pipe is read, the reader sees the change.
    """
    if not features.SPLICE:
        raise _missing()
    return system_calls.splice(source, sink, length, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)


def can_tee(source: int) -> bool:
    """Whether the bytes that `tee` leaves in a pipe are the caller's, who has its only reading end.

    False for a pipe with a name, because others may open it, and without procfs, which tells the two apart.
    """
    try:
        target = os.readlink(f"/proc/self/fd/{source}") if features.PROCFS else ""  # noqa: PTH115 - pathlib is slow to import
    except OSError:
        return False
    return target.startswith("pipe:")


def tee(source: int, sink: int, length: int) -> int:
    """Copy the first bytes of a pipe into another one, and leave them in the first; return their number.

    BlockingIOError if the source is empty or the sink full, as with `splice`; 0 is EOF. The bytes keep the
    buffers that they have in the source, so small pieces fill the sink with few bytes. tee(2).
    """
    if not features.TEE:
        raise _missing()
    try:
        return system_calls.tee(source, sink, length, os.SPLICE_F_NONBLOCK)
    except ImportError:
        features.TEE = False
        raise _missing() from None


def sendfile(source: int, sink: int, length: int) -> int:
    """Move bytes of a regular file, at its position, into anything but an O_APPEND file.

    BlockingIOError if a non-blocking sink has no room (sendfile(2)). As with `splice`, a pipe or socket may
    refer to the file's own pages until they are read.
    """
    if not _has_sendfile():
        raise _missing()
    return system_calls.sendfile(sink, source, None, length)


def copy_file_range(source: int, sink: int, length: int) -> int:
    """Move bytes between two regular files, each at its position. Some file systems share the blocks.

    The sink must not be O_APPEND (EBADF). The call also returns 0 for files of unknown size, such as those of
    /proc, so 0 at the start of a copy does not prove EOF. copy_file_range(2).
    """
    if not features.COPY_FILE_RANGE:
        raise _missing()
    return system_calls.copy_file_range(source, sink, length)


def _has_sendfile() -> bool:
    # On other platforms sendfile takes only sockets, and ignores the position of the file.
    return features.SENDFILE and sys.platform == "linux"


def _missing() -> OSError:
    return OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

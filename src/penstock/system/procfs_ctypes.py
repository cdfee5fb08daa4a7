"""Read small kernel files with the GIL held.

Reading all processes takes three system calls for each. None of them sleeps, but Python releases the GIL
around each, and beside busy threads it takes a while to get it back. With two hundred threads, the supervisor
was seen to spend 200 ms on one pass, and served nobody else meanwhile. The same calls through `ctypes.PyDLL`
keep the GIL. Threads still take turns between two calls, as the interpreter decides.

Only for procfs: a read that sleeps would stop the whole program. `status` may be asked about any file. It
takes what the kernel knows by now (AT_STATX_DONT_SYNC), and so waits for no file server. Imported on first
use, because it imports ctypes; ImportError if the C library is not available.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from itertools import starmap

__all__ = ["numbers", "read", "status"]

_FLAGS = os.O_RDONLY | os.O_CLOEXEC
_SIZE = 4096
_LARGE_SIZE = 32768
"""Bytes of directory entries that one call reads: about a thousand entries."""
_Buffer = ctypes.c_char * _SIZE
_LargeBuffer = ctypes.c_char * _LARGE_SIZE
"""Kept, because ctypes drops an array type that has no object, and the garbage collector must free it."""
_DIRECTORY = b"\x04"
"""DT_DIR, the byte before the name in the entry of a directory (getdents64(2))."""

try:
    _libc = ctypes.PyDLL(None)
    _open, _read, _close, _getdents64 = _libc.open, _libc.read, _libc.close, _libc.getdents64
except (OSError, AttributeError) as error:
    raise ImportError("no C library by this name") from error
_open.argtypes = [ctypes.c_char_p, ctypes.c_int]
_read.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
_read.restype = ctypes.c_ssize_t
_close.argtypes = [ctypes.c_int]
_getdents64.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
_getdents64.restype = ctypes.c_ssize_t
_statx = getattr(_libc, "statx", None)
if _statx is not None:
    _statx.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
_STATX_SIZE = 256
_STATX = struct.Struct("@28xHxxQQ88xII")
"""The mode, inode, size, and the two parts of the device, in `struct statx` (statx(2))."""
_AT_FDCWD, _AT_STATX_DONT_SYNC, _STATX_BASIC_STATS = -100, 0x4000, 0x7FF
_StatxBuffer = ctypes.c_char * _STATX_SIZE


def read(path: bytes, *, whole: bool = False) -> bytes:
    """Return the first 4 KiB of a procfs file, or the `whole` file; `b""` if it cannot be opened or read."""
    opened: list[int] = []
    data = b""
    buffer = _Buffer()
    try:
        # In C, into a list, so that no interrupt can make the descriptor leak (see `fds`).
        opened.extend(starmap(_open, ((path, _FLAGS),)))
        if opened[0] >= 0:
            data = ctypes.string_at(buffer, max(0, _read(opened[0], buffer, _SIZE)))
            while whole and data and (size := _read(opened[0], buffer, _SIZE)) > 0:
                data += ctypes.string_at(buffer, size)
    finally:
        for fd in opened:
            if fd >= 0:
                _close(fd)
    return data


def numbers(folder: bytes) -> list[bytes]:
    """Return the names in a procfs directory that are numbers; empty if it cannot be read."""
    opened: list[int] = []
    found: list[bytes] = []
    buffer = _LargeBuffer()
    try:
        opened.extend(starmap(_open, ((folder, _FLAGS),)))
        while opened[0] >= 0 and (size := _getdents64(opened[0], buffer, _LARGE_SIZE)) > 0:
            # A name follows the byte that says "a directory". The same byte in an inode or an offset is
            # hardly ever followed by a digit, and such a number looks like a process that has gone.
            for part in ctypes.string_at(buffer, size).split(_DIRECTORY)[1:]:
                name = part.partition(b"\0")[0]
                if name.isdigit():
                    found.append(name)
    finally:
        for fd in opened:
            if fd >= 0:
                _close(fd)
    return found


def status(path: bytes) -> tuple[int, int, int, int] | None:
    """Return mode, device, inode and size of a file, as in `os.stat`; None if it is gone or hidden.

    OSError if the C library has no such call.
    """
    if _statx is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    buffer = _StatxBuffer()
    if _statx(_AT_FDCWD, path, _AT_STATX_DONT_SYNC, _STATX_BASIC_STATS, buffer) != 0:
        return None
    mode, inode, size, major, minor = _STATX.unpack_from(buffer)
    return mode, os.makedev(major, minor), inode, size


if b"%d" % os.getpid() not in numbers(b"/proc/self/task"):
    raise ImportError("this kernel writes directory entries in another way")

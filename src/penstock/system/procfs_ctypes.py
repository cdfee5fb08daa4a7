"""Read small kernel files with the GIL held.

Reading all processes takes three system calls for each. None of them sleeps, but Python releases the GIL
around each, and beside busy threads it takes a while to get it back. With two hundred threads, the supervisor
was seen to spend 200 ms on one pass, and served nobody else meanwhile. The same calls through `ctypes.PyDLL`
keep the GIL. Threads still take turns between two calls, as the interpreter decides.

Only for procfs: a read that sleeps would stop the whole program. Imported on first use, because it imports
ctypes; ImportError if the C library is not available.
"""

from __future__ import annotations

import ctypes
import os
import sys
from itertools import starmap

__all__ = ["names", "read"]

_FLAGS = os.O_RDONLY | os.O_CLOEXEC
_SIZE = 4096
_LARGE_SIZE = 32768
"""Bytes of directory entries that one call reads: about a thousand entries."""
_Buffer = ctypes.c_char * _SIZE
_LargeBuffer = ctypes.c_char * _LARGE_SIZE
"""Kept, because ctypes drops an array type that has no object, and the garbage collector must free it."""
_LENGTH_OFFSET, _NAME_OFFSET = 16, 19
"""Offsets of an entry's length (two bytes) and of its name (getdents64(2))."""

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


def read(path: bytes) -> bytes:
    """Return the first 4 KiB of a procfs file; `b""` if it cannot be opened or read."""
    opened: list[int] = []
    data = b""
    buffer = _Buffer()
    try:
        # In C, into a list, so that no interrupt can make the descriptor leak (see `fds`).
        opened.extend(starmap(_open, ((path, _FLAGS),)))
        if opened[0] >= 0:
            data = ctypes.string_at(buffer, max(0, _read(opened[0], buffer, _SIZE)))
    finally:
        for fd in opened:
            if fd >= 0:
                _close(fd)
    return data


def names(folder: bytes) -> list[bytes]:
    """Return the names in a procfs directory; empty if it cannot be read."""
    opened: list[int] = []
    found: list[bytes] = []
    buffer = _LargeBuffer()
    try:
        opened.extend(starmap(_open, ((folder, _FLAGS),)))
        while opened[0] >= 0 and (size := _getdents64(opened[0], buffer, _LARGE_SIZE)) > 0:
            data = ctypes.string_at(buffer, size)
            place = 0
            while place < size:
                start = place + _NAME_OFFSET
                found.append(data[start : data.index(0, start)])
                place += int.from_bytes(
                    data[place + _LENGTH_OFFSET : place + _LENGTH_OFFSET + 2], sys.byteorder
                )
    finally:
        for fd in opened:
            if fd >= 0:
                _close(fd)
    return found

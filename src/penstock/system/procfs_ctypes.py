"""Reading small files of the kernel's with the interpreter's lock held.

To look at all processes takes three system calls for each. None of them sleeps, but Python lets go of its
lock around each, and beside busy threads gets it back only after a while: with two hundred threads the
supervisor was seen to spend 200 ms on one look, in which it did nothing for anybody else. The same calls
through `ctypes.PyDLL` keep the lock; threads still take turns between two calls, as the interpreter decides.

For procfs alone: a read that sleeps would stop the whole program. Imported when it is needed for the first
time, since it imports ctypes; ImportError where the C library is not to be had.
"""

from __future__ import annotations

import ctypes
import os
import sys
from itertools import starmap

__all__ = ["names", "read"]

_FLAGS = os.O_RDONLY | os.O_CLOEXEC
_SIZE = 4096
_MANY = 32768
"""Bytes of entries of a folder that are read at once: about a thousand."""
_Room = ctypes.c_char * _SIZE
_LargeRoom = ctypes.c_char * _MANY
"""Kept: ctypes forgets a type of arrays that has no object, and leaves it to the garbage collector."""
_LENGTH, _NAME = 16, 19
"""Where an entry says how long it is (two bytes), and where its name begins (getdents64(2))."""

try:
    _libc = ctypes.PyDLL(None)
    _open, _read, _close, _entries = _libc.open, _libc.read, _libc.close, _libc.getdents64
except (OSError, AttributeError) as error:
    raise ImportError("no C library by this name") from error
_open.argtypes = [ctypes.c_char_p, ctypes.c_int]
_read.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
_read.restype = ctypes.c_ssize_t
_close.argtypes = [ctypes.c_int]
_entries.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
_entries.restype = ctypes.c_ssize_t


def read(path: bytes) -> bytes:
    """Return the first 4 KiB of a file of procfs; `b""` where it cannot be opened or read."""
    opened: list[int] = []
    data = b""
    room = _Room()
    try:
        # In C, into a list: so no interrupt comes between the open and what closes it (see `fds`).
        opened.extend(starmap(_open, ((path, _FLAGS),)))
        if opened[0] >= 0:
            data = ctypes.string_at(room, max(0, _read(opened[0], room, _SIZE)))
    finally:
        for number in opened:
            if number >= 0:
                _close(number)
    return data


def names(folder: bytes) -> list[bytes]:
    """Return what is in a folder of procfs; none where it cannot be read."""
    opened: list[int] = []
    found: list[bytes] = []
    room = _LargeRoom()
    try:
        opened.extend(starmap(_open, ((folder, _FLAGS),)))
        while opened[0] >= 0 and (size := _entries(opened[0], room, _MANY)) > 0:
            data = ctypes.string_at(room, size)
            place = 0
            while place < size:
                start = place + _NAME
                found.append(data[start : data.index(0, start)])
                place += int.from_bytes(data[place + _LENGTH : place + _LENGTH + 2], sys.byteorder)
    finally:
        for number in opened:
            if number >= 0:
                _close(number)
    return found

"""tee(2), which Python does not offer, by ctypes.

It is loaded on first use, by a copy that has carried much already: ctypes is slow to import.

The call releases the GIL. It does not wait for bytes or room (with SPLICE_F_NONBLOCK), but it takes the lock
of both pipes. A writer holds that lock while the kernel brings in the memory that it writes from.
"""

from __future__ import annotations

import ctypes
import errno
import os

__all__ = ["tee"]

try:
    _tee = ctypes.CDLL(None, use_errno=True).tee
except (OSError, AttributeError) as error:
    raise ImportError("no C library with tee(2)") from error
_tee.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint]
_tee.restype = ctypes.c_ssize_t


def tee(source: int, sink: int, length: int, flags: int) -> int:
    """Copy from pipe to pipe, and return the number of bytes. Raises OSError, never InterruptedError."""
    while True:
        size: int = _tee(source, sink, length, flags)
        if size >= 0:
            return size
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))

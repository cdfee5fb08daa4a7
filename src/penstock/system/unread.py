"""The number of bytes that wait in a pipe to be read."""

from __future__ import annotations

import array
import fcntl
import termios

__all__ = ["unread_bytes"]


def unread_bytes(number: int) -> int:
    """Return how many bytes are in the pipe that this descriptor is an end of; 0 if that cannot be said."""
    found = array.array("i", [0])
    try:
        fcntl.ioctl(number, termios.FIONREAD, found)
    except OSError:  # another kernel may know this for the end that reads only
        return 0
    return found[0]

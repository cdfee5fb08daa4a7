"""The number of bytes that wait in a pipe to be read, and how many it can hold."""

from __future__ import annotations

import array
import fcntl
import termios
from io import BufferedReader, FileIO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Descriptor(Protocol):
        """An owner that forgets the number of its descriptor before it closes that, as `Fd` and FileIO do."""

        @property
        def closed(self) -> bool: ...
        def fileno(self) -> int: ...


__all__ = ["pipe_level", "pipe_number", "unread_bytes"]


def unread_bytes(number: int) -> int:
    """Return how many bytes are in the pipe that this descriptor is an end of; 0 if that cannot be said."""
    found = array.array("i", [0])
    try:
        fcntl.ioctl(number, termios.FIONREAD, found)
    except OSError:  # another kernel may know this for the end that reads only
        return 0
    return found[0]


def pipe_number(end: Descriptor) -> int:
    """Return the number of a descriptor; ValueError once it is closed.

    `end` may be a file of Python over a pipe. Nobody notices that it was asked, not even a file whose own
    `fileno` tells its user (`streams.read_watch`).
    """
    if isinstance(end, BufferedReader):
        end = end.raw
    return FileIO.fileno(end) if isinstance(end, FileIO) else end.fileno()


def pipe_level(end: Descriptor) -> tuple[int, int] | None:
    """Return how many bytes are in a pipe, and how many it can hold; None if it is not a pipe, or closed.

    From any thread, at any time. If another thread closes the end meanwhile, the number may be that of
    another file by now. Both calls only ask, and the answer counts only if the end is still open after them.
    """
    try:
        number = pipe_number(end)
        capacity = fcntl.fcntl(number, fcntl.F_GETPIPE_SZ)
        found = array.array("i", [0])
        fcntl.ioctl(number, termios.FIONREAD, found)
    except (AttributeError, OSError, ValueError):  # AttributeError: no such call on this platform
        return None
    return None if end.closed else (found[0], capacity)

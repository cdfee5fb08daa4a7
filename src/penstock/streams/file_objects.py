"""The pipe behind `run.stdout` as one of Python's own file objects; `pipe_writer` has `run.stdin`."""

from __future__ import annotations

import io
import select
import weakref
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.system.fds import Fd
    from penstock.system.pipe_capacity import PipeCapacityLease

__all__ = ["is_at_end", "pipe_reader"]

_READ_SIZE = 1 << 16
"""Bytes that are read at once if there are so many: all that a pipe holds."""


def pipe_reader(end: Fd) -> io.BufferedReader:
    """Return a pipe from the last stage as a file object.

    It is exactly a `BufferedReader` over a `FileIO`: lines are read in C, while those of a subclass take
    twice as long, and another run can take the descriptor as its stdin.
    """
    pages = end.pages
    file = io.FileIO(end.detach(), "rb")
    if pages is not None:
        # `BufferedReader.close` calls it by name. By a weak reference, so that a dropped file closes itself.
        file.close = partial(_close, weakref.ref(file), pages)  # type: ignore[method-assign]
    return io.BufferedReader(file, _READ_SIZE)


def _close(file: weakref.ref[io.FileIO], pages: PipeCapacityLease) -> None:
    """Close the file, and give the pages of its pipe back."""
    found = file()
    if found is not None:
        io.FileIO.close(found)
    pages.release()


def is_at_end(file: io.BufferedReader) -> bool:
    """Return whether a pipe has been read to its end, so that its `next()` raises StopIteration."""
    if file.closed:
        return False
    poll = select.poll()
    poll.register(file.fileno(), select.POLLIN)
    return any(events & select.POLLHUP and not events & select.POLLIN for _, events in poll.poll(0))

"""Read a pipe until it is empty, so that many small writes make one chunk.

Most programs write a page or two at a time. If they write about as fast as we read, each read finds just
that, and the Python code around a read costs as much as the read. So if a pipe brings much, one call in C
reads on until the pipe is empty or as much has come as was asked for: `BufferedReader.read` of a descriptor
with O_NONBLOCK (without it the call would wait for more). It never waits, so the bytes are passed on at once,
and it keeps nothing, because its buffer is a single byte, which a larger read bypasses. Signal handlers do
not run in the middle of it, so a KeyboardInterrupt loses no more than in a single read.

Only pipes are read like that, because the bytes are lost if a later read of the same call fails. A read of a
pipe does not fail, while a connection may be reset behind bytes that have arrived. A file gives all that it
is asked for in one read.

The objects know a descriptor by its number, and close nothing. A reader does not read after it has closed its
descriptor. But in a forked copy of the host the descriptor is closed without the reader's knowledge, and its
number may be reused. So there the objects are closed too. Closing needs none of their locks, which a thread
that does not exist in the copy may hold, and afterwards their finalizers take none. Out of scope: waiting.
"""

from __future__ import annotations

import os
import stat
from io import BufferedReader, FileIO
from weakref import WeakSet

from penstock.system import system_calls
from penstock.system.fork_guard import fork_guard, reset_in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["bulk_reader", "read_into"]

_raws: WeakSet[FileIO] = WeakSet()


def bulk_reader(number: int) -> Callable[[int], bytes | None] | None:
    """Return a function that reads at most so many bytes of a non-blocking pipe; None if it is not a pipe.

    The function returns None if there are no bytes yet. The number must be that of the same pipe at each
    call.
    """
    if not stat.S_ISFIFO(os.fstat(number).st_mode):
        return None
    with fork_guard:  # so that a forked copy finds every one of them in the set
        raw = system_calls.FileIO(number, closefd=False)
        _raws.add(raw)
    return BufferedReader(raw, buffer_size=1).read


def _close_after_fork() -> None:
    for raw in list(_raws):
        raw.close()
    _raws.clear()


reset_in_child(_close_after_fork, "descriptors")


def read_into(number: int, view: memoryview) -> int:
    """Read once into a buffer; return the number of bytes."""
    return system_calls.readv(number, (view,))

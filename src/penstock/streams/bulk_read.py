"""Reads of a pipe that go on until nothing is there: many small writes make one chunk.

Most programs write a page or two at a time, and where they write about as fast as we read, each read finds
just that. The Python code around a read then costs as much as the read. So where a pipe brings much, one call
goes on, in C, until the pipe is empty or as much has come as was asked for: `BufferedReader.read` of a
descriptor with O_NONBLOCK (without it the call would wait for more). It waits for nothing, so what is there
is passed on at once, as ever; and it keeps nothing, for its buffer is a single byte, which a read of more
goes past. A signal's handler does not run in the middle of it, so a KeyboardInterrupt loses no more than that
of a single read.

Only of pipes: what was gathered is lost where a later read of the same call fails. That of a pipe does not,
while a connection may be reset behind bytes that have come. A file gives all that it is asked for in one
read.

The objects know a descriptor by its number, and close nothing. Who closes the descriptor takes no read
afterwards; but in a forked copy of the host it is closed behind everybody's back, and its number may have
become another's. So there they are closed too. That needs none of their locks, which a thread that is not
there may hold, and after it their finalizers ask for none. What may not live here: waiting.
"""

from __future__ import annotations

import os
import stat
from io import BufferedReader, FileIO
from typing import TYPE_CHECKING
from weakref import WeakSet

from penstock.system.fork_guard import fork_guard, reset_in_child

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["bulk_reader"]

_raws: WeakSet[FileIO] = WeakSet()


def bulk_reader(number: int) -> Callable[[int], bytes | None] | None:
    """What reads at most so many bytes of a non-blocking pipe; it returns None where there are none yet.

    None where the descriptor is no pipe. The number must be that of the same pipe whenever it is called.
    """
    if not stat.S_ISFIFO(os.fstat(number).st_mode):
        return None
    with fork_guard:  # a forked copy knows all of them
        raw = FileIO(number, closefd=False)
        _raws.add(raw)
    return BufferedReader(raw, buffer_size=1).read


def _close_after_fork() -> None:
    for raw in list(_raws):
        raw.close()
    _raws.clear()


reset_in_child(_close_after_fork, "descriptors")

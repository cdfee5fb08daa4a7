"""Keep the end of the interpreter from waiting for a reader in which a worker thread was left.

A worker that is left in the `read()` of a user object may sit in a buffered reader below it, and hold that
reader's lock. A text layer over the reader, such as `sys.stdin`, closes the reader at exit. Closing takes the
lock, which no daemon thread gives back then, so the interpreter aborts (`_enter_buffered_busy`).

So if a worker is busy at exit, nothing closes a buffered reader any more, unless it is over a regular file. A
text layer calls `close` by name, and finds one that does nothing. The kernel closes the descriptor, and a
reader has nothing to write. Out of scope: buffered writers, whose last bytes only a close writes.
"""

from __future__ import annotations

import gc
import io
import os
import stat
import sys

from penstock.core.noop import noop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["leave_readers_open"]


def leave_readers_open() -> None:
    """Have nobody close a buffered reader that may block."""
    for reader in _readers():
        try:
            if type(reader).close is io.BufferedReader.close and not _is_regular(reader):
                reader.close = noop
        except Exception:  # noqa: BLE001, S112 - a subclass may raise anything, and this is the exit
            continue


def _readers() -> Iterator[Any]:
    # The collector does not list what `gc.freeze` has set aside.
    for text in (sys.stdin, sys.__stdin__):
        yield getattr(text, "buffer", None)
    for thing in gc.get_objects():
        if isinstance(thing, io.BufferedReader):
            yield thing


def _is_regular(reader: io.BufferedReader) -> bool:
    try:
        return stat.S_ISREG(os.fstat(reader.fileno()).st_mode)
    except (OSError, ValueError):  # it has no descriptor, such as a decompressor
        return False

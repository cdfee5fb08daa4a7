"""Small sends that come in a burst: they are joined, and go into the pipe at the next turn of the loop.

A send that does not wait takes a microsecond, and half of that is the system call. So once many have come
faster than any dialogue could bring them (`streams.joining.Pace`), a piece only joins those that are held.
They go into the pipe when they fill a page, with any other send, at the close, and when the loop comes to its
next turn. A task that sends without waiting lets the loop have a turn each millisecond.

Held pieces never have to wait for room: a pipe that polls as writable takes a page without blocking, pipe(7),
and nobody else writes into this one. If there is no reader any more, they are dropped, as what lies unread in
a pipe is, and the next send says so.

Everything happens in the loop's thread; once the loop is closed, in the one that closes the stream.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
from typing import TYPE_CHECKING

from penstock.streams.joining import Pace
from penstock.system import system_calls

if TYPE_CHECKING:
    from penstock.system.event_loops import Loop
    from penstock.system.fds import Fd

__all__ = ["HeldSends"]

_FEW = 8
"""Fewer pieces in one turn of the loop are not a burst."""


class HeldSends:
    """The held pieces of one stream."""

    def __init__(self, fd: Fd, loop: Loop) -> None:
        self.room = 0
        """Bytes that may still be held; 0 while pieces go on at once."""
        self._pieces: list[bytes] = []
        self._fd = fd
        self._loop = loop
        self._pace = Pace()
        self._poll: select.poll | None = None
        self._due = False
        self._count = 0
        """Pieces since the last turn of the loop."""

    def add(self, piece: bytes) -> None:
        """Hold a piece, for which there is room."""
        self.room -= len(piece)
        self._pieces.append(piece)

    def take(self) -> bytes:
        """Return what is held, which the caller writes now."""
        self.room = 0
        pieces, self._pieces = self._pieces, []
        self._count += len(pieces)
        return b"".join(pieces)

    def count_piece(self) -> None:
        """Count one that went into the pipe at once. From a burst of them on, the next ones are held."""
        if (self._pace.fast or self._pace.count_piece()) and self._has_room() and self._set_due():
            self.room = select.PIPE_BUF

    def _has_room(self) -> bool:
        if self._poll is None:
            number = self._fd.fileno()
            self._poll = select.poll()
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                self._poll.register(number, select.POLLOUT)
        ready = self._poll.poll(0)
        return bool(ready) and ready[0][1] == select.POLLOUT

    def _set_due(self) -> bool:
        """Have the loop write what is held at its next turn; False if it is closed."""
        self._due = self._due or self._loop.call(self._turn)
        return self._due

    def _turn(self) -> None:
        self._due = False
        self.flush()
        if self._count < _FEW:
            self._pace.slow_down()
        self._count = 0

    def flush(self) -> None:
        """Write what is held."""
        data = self.take()
        if data and not self._fd.closed:
            with contextlib.suppress(BrokenPipeError):
                system_calls.write(self._fd.fileno(), data)

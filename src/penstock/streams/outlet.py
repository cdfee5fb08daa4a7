"""One output of a relay: a descriptor, and the bytes that it has not accepted yet.

A pipe or a socket whose description is ours alone is made non-blocking. A regular file and /dev/null are
written to at once: they never make a writer wait for somebody else. The flags of a borrowed description stay
as they are. It is polled first, and then gets no more than PIPE_BUF, which a pipe that polls as writable
takes without blocking (pipe(7)).

A pipe that holds us up is made larger once, within the budget of `system.pipe_capacity`.

Nothing here waits, except for a file's disk. A failed write is kept in `state` and `error`, and raised
nowhere: the relay leaves such an outlet out. Out of scope: when to write (`relay`).
"""

from __future__ import annotations

import os
import select
import stat
import time

from penstock.core.public import half_made_too
from penstock.streams.copy_methods import FILE, PIPE, kind_of
from penstock.streams.spool import SpoolQueue
from penstock.system import system_calls
from penstock.system.fds import Fd, duplicate, set_nonblocking
from penstock.system.pipe_capacity import GROWN_SIZE, resize
from penstock.system.unread import unread_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from penstock.streams.probe import Probe
    from penstock.streams.spool import Data, SpoolBudget

__all__ = ["ENDED", "FAILED", "LEAST_READ", "LEFT", "OPEN", "WINDOW", "Outlet", "own", "widen"]

OPEN, ENDED, LEFT, FAILED = "open", "ended", "left", "failed"

WINDOW: Final = 1 << 18
"""Bytes that a relay holds for an outlet beyond its pipe, unless it spools."""
LEAST_READ: Final = 1 << 16
"""Room in the window below which an outlet is full. A reader that takes little at a time would otherwise make
each read as small.
"""

_FLUSH_BYTES: Final = 1 << 20
"""Bytes after which the other outlets get their turn."""


def _never() -> bool:
    return False


class Outlet:
    """One output of a relay.

    An `Fd` becomes the outlet's own. `shared` says that somebody else has its open file description. A number
    stays the caller's, and counts as shared. `elastic` and `join_waits` decide together whether the relay
    spools for it. `name` is for messages.

    `count` is the number of bytes written, and `peak` the most that was held beyond the window. `state` is
    "open", "ended" (it got everything), "left" (its reader has gone) or "failed", with the `error`. Any
    thread may read them.
    """

    __slots__ = (
        "_held",
        "_may_grow",
        "_ready",
        "ahead",
        "count",
        "elastic",
        "error",
        "fd",
        "instant",
        "is_own_pipe",
        "join_waits",
        "name",
        "number",
        "peak",
        "state",
        "stuck_since",
    )

    def __init__(
        self,
        fd: Fd | int,
        *,
        name: str,
        elastic: bool = False,
        join_waits: Callable[[], bool] = _never,
        shared: bool = False,
    ) -> None:
        self.name = name
        self.elastic = elastic
        self.join_waits = join_waits
        self.ahead = 0
        """The number of bytes that it has got already, and that are still in the inlet."""
        self.count = 0
        self.peak = 0
        self.state = OPEN
        self.error: OSError | None = None
        self.stuck_since: float | None = None
        """When it became full, or last accepted a byte since then; None if it is not full."""
        shared = shared or not isinstance(fd, Fd)
        self.fd = own(fd)
        self.number = number = self.fd.fileno()
        self._held: SpoolQueue | None = None
        kind = kind_of(number)
        self.instant = kind == FILE or _is_null(number)
        self.is_own_pipe = kind == PIPE and not shared
        self._may_grow = self.is_own_pipe
        self._ready: select.poll | None = None  # set if each write must be polled for
        if shared and not self.instant:
            self._ready = select.poll()
            self._ready.register(number, select.POLLOUT)
        elif not self.instant:
            set_nonblocking(number)

    @half_made_too
    def __repr__(self) -> str:
        return f"<Outlet {self.name} {self.state} count={self.count} held={self.held}>"

    def connect(self, budget: SpoolBudget) -> None:
        """Take part in a run."""
        self._held = SpoolQueue(budget, WINDOW)

    @property
    def held(self) -> int:
        """The number of bytes that it has yet to accept."""
        return 0 if self._held is None else len(self._held)

    @property
    def spooled(self) -> int:
        """The number of bytes that are held beyond the window."""
        return max(0, self.held - WINDOW)

    @property
    def full(self) -> bool:
        """Whether its window has no room for a read."""
        return self.stuck_since is not None

    def probe(self) -> Probe:
        """Return what it shows; see `streams.probe`. It waits while it is full."""
        return self.count, self.full, self.fd

    def is_dry(self) -> bool:
        """Whether its reader, another process or thread, has taken everything."""
        return self.elastic and not self.held and self.is_own_pipe and not unread_bytes(self.number)

    def grow(self) -> bool:
        """Make a full pipe larger, once; return whether it has more room now."""
        may_grow, self._may_grow = self._may_grow, False
        return may_grow and widen(self.fd)

    def skip(self, size: int) -> int:
        """Count bytes that leave the inlet; return how many of them it has got already."""
        skipped = min(self.ahead, size)
        self.ahead -= skipped
        return skipped

    def send(self, data: memoryview) -> int:
        """Write as much as is accepted at once, and return how much. Nothing may be held."""
        done, size = 0, len(data)
        try:
            while done < size:
                written = self._write(data[done:] if done else data)
                if not written:
                    break
                done += written
        except OSError as error:
            self.fail(error)
        return done

    def hold(self, data: Data) -> None:
        """Keep bytes until they are accepted; they must not change. May raise the errors of the spool."""
        assert self._held is not None
        self._held.append(data)
        held = len(self._held)
        if held > WINDOW - LEAST_READ and self.stuck_since is None:
            self.stuck_since = time.monotonic()
        self.peak = max(self.peak, held - WINDOW)

    def flush(self) -> bool:
        """Write what is held, as far as it is accepted at once; return whether anything was accepted."""
        assert self._held is not None
        done = 0
        while self._held and done < _FLUSH_BYTES:
            with self._held.peek(WINDOW) as data:
                try:
                    written = self._write(data)
                except OSError as error:
                    self.fail(error)
                    return True
            if not written:
                break
            self._held.drop(written)
            done += written
        if done and self.full:
            self.stuck_since = time.monotonic() if len(self._held) > WINDOW - LEAST_READ else None
        return done > 0

    def fail(self, error: OSError) -> None:
        """Note that a write has failed."""
        if isinstance(error, BrokenPipeError):
            self.state = LEFT
        else:
            self.error = error
            self.state = FAILED

    def leave(self) -> None:
        """Note that the reader has gone."""
        self.state = LEFT

    def close(self) -> None:
        """Close the descriptor, and forget what is held. Idempotent."""
        self.fd.close()
        if self._held is not None:
            self._held.close()

    def end(self) -> None:
        """Close it after it has got everything."""
        self.state = ENDED
        self.close()

    def _write(self, data: memoryview) -> int:
        """Write once; return 0 if that would wait."""
        if self._ready is not None:
            if not self._ready.poll(0):
                return 0
            data = data[: select.PIPE_BUF]
        try:
            written = system_calls.write(self.number, data)
        except BlockingIOError:
            written = 0
        self.count += written
        if not written and self.grow():
            return self._write(data)
        return written


def own(fd: Fd | int) -> Fd:
    """Return `fd` itself, or an owner of a second descriptor, so that each number is used once."""
    return fd if isinstance(fd, Fd) else duplicate(fd)


def widen(fd: Fd) -> bool:
    """Make a pipe larger, if it still has its first size and the budget allows it."""
    grown = resize(fd.fileno(), GROWN_SIZE)
    if grown is None:
        return False
    fd.pages = grown
    return True


def _is_null(number: int) -> bool:
    """Whether this is /dev/null, which takes everything at once."""
    status = os.fstat(number)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev  # noqa: PTH116 - pathlib is slow to import

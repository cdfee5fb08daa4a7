"""One input of a relay, and the outlets that each get all of it.

Out of scope: when to read (`relay`).
"""

from __future__ import annotations

import select

from penstock.core.public import half_made_too
from penstock.streams.copy_methods import PIPE, kind_of
from penstock.streams.outlet import LEAST_READ, WINDOW, Outlet, own, widen
from penstock.system import system_calls
from penstock.system.fds import set_nonblocking
from penstock.system.fork_guard import late_import
from penstock.system.unread import unread_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from penstock.streams.pipe_tee import PipeTee
    from penstock.streams.probe import Probe
    from penstock.system.fds import Fd

__all__ = ["Lane"]

_FIRST_TEE: Final = 1 << 20
"""Bytes that a lane copies before it loads the faster way, so that a short run does not pay for that."""


class Lane:
    """One input of a relay, and the outlets that each get all of it.

    An `Fd` becomes the lane's own; `shared` says that somebody else has its open file description. A number
    stays the caller's, and counts as shared. `count` is the number of bytes read. `error` is the outcome:
    None after EOF, `ClosedPipe` if no reader was left or the relay's `until` had gone, or the error of a
    read.
    """

    __slots__ = (
        "_may_grow",
        "_may_tee",
        "_pipe_tee",
        "ahead",
        "behind",
        "count",
        "error",
        "fd",
        "left",
        "number",
        "open",
        "reading",
        "spooling",
    )

    def __init__(self, inlet: Fd | int, outlets: Sequence[Outlet], *, shared: bool = False) -> None:
        owned = not shared and not isinstance(inlet, int)
        self.fd = own(inlet)
        self.number = self.fd.fileno()
        self.open = list(outlets)
        """The outlets that take part still."""
        self.behind: set[Outlet] = set()
        """Those of them for which bytes are held."""
        self.reading = True
        self.spooling = False
        self.left: int | None = None
        """The number of bytes to read yet; None if it reads until EOF."""
        self.count = 0
        self.error: BaseException | None = None
        self.ahead = 0
        """The most that an outlet has got of the bytes that are still in the inlet."""
        self._may_grow = owned and kind_of(self.number) == PIPE
        self._may_tee = self._may_grow and all(outlet.is_own_pipe for outlet in outlets)
        self._pipe_tee: PipeTee | None = None
        if owned:
            set_nonblocking(self.number)

    @half_made_too
    def __repr__(self) -> str:
        return f"<Lane count={self.count} {'reading' if self.reading else 'ended'} outlets={self.open}>"

    def pass_on(self) -> bool:
        """Have the kernel pass on what is there; False if the lane is to be read (see `pipe_tee`)."""
        if not self._may_tee or self.count < _FIRST_TEE or self.left is not None or self.ahead:
            return False
        if self._pipe_tee is None:
            try:
                with late_import:
                    from penstock.streams.pipe_tee import PipeTee  # noqa: PLC0415 - only if much is copied
            except OSError:  # no descriptor is left to load it by
                self._may_tee = False
                return False
            self._pipe_tee = PipeTee(self.number)
        return self._pipe_tee.pass_on(self)

    def probe(self) -> Probe:
        """Return what the inlet shows; see `streams.probe`."""
        return self.count, None, self.fd

    def read(self, buffer: memoryview) -> int | None:
        """Read once; return how much was read, 0 at EOF, None if nothing is there."""
        try:
            size = system_calls.readv(self.number, [buffer])
        except BlockingIOError:
            return None
        self.count += size
        self.ahead = max(0, self.ahead - size)
        if self.left is not None:
            self.left -= size
        self.grow_after(size)
        return size

    def grow_after(self, size: int) -> None:
        """Make the inlet larger, once, if so much at a time says that a larger one would be filled too."""
        if self._may_grow and size >= LEAST_READ:
            self._may_grow = False
            widen(self.fd)

    def room(self) -> int:
        """Return how many bytes to read: they fit into the window of each outlet, unless it spools.

        If some outlets are ahead, it is just what the others lack.
        """
        room = min((WINDOW - outlet.held for outlet in self.behind), default=WINDOW)
        room = WINDOW if self.spooling else room
        if self.ahead:
            room = min(room, self.ahead)
        return room if self.left is None else min(room, self.left)

    def limit(self) -> bool:
        """Read no more than what is there; False if no writer is left, so that EOF comes by itself."""
        poll = select.poll()
        poll.register(self.number, 0)
        if any(mask & select.POLLHUP for _, mask in poll.poll(0)):
            return False
        self.left = unread_bytes(self.number)
        return True

    def close(self) -> None:
        """Close the inlet and all outlets. Idempotent."""
        self.fd.close()
        for outlet in self.open:
            outlet.close()

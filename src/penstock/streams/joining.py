"""When small writes may be joined, and who passes on what is held back meanwhile.

A writer passes each piece on at once, so that what is written arrives without a flush. A system call for each
piece is most of the cost if thousands come in a row. So pieces are joined once many have come faster than any
dialogue could bring them: `Pace` decides that. From then on a piece only joins those that are held. They are
passed on when they fill a page or a block, and when nothing was passed on for `HOLD_S`. After that the writer
counts as slow again, and the next piece goes on at once.

A caller that has stopped writing does not come back. So the reactor passes on what it has left, by a timer
that exists only while pieces are joined. `LateCalls` is that timer, as far as the streams need to know it.

Out of scope: the pieces, and the lock under which they are passed on (`pipe_writer`, `held_pieces`).
"""

from __future__ import annotations

import time
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HOLD_S", "HoldTimer", "LateCalls", "Pace"]

HOLD_S = 0.002
"""Seconds after which held pieces are passed on, if nothing else was; at most twice as many go by."""
_MAX_DELAY_S = 1.0
"""Seconds between two looks at a stream that stays blocked in a write."""
_WINDOW = 32
"""Pieces whose time is taken together."""
_WINDOW_S = _WINDOW * 8e-6
"""Seconds for so many fast pieces. One takes 1 to 3 microseconds; a question to another process, and its
answer, take 15 at least.
"""


class LateCalls:
    """Calls that the reactor makes. Each method returns at once, from any thread."""

    __slots__ = ()

    def later(self, call: Callable[[], None], delay: float = HOLD_S) -> None:
        """Have the reactor make the call after `delay` seconds; it may not block."""
        raise NotImplementedError

    def soon(self, call: Callable[[], None]) -> None:
        """Have the reactor make the call now; it may not block."""
        raise NotImplementedError

    def in_worker(self, call: Callable[[], None]) -> None:
        """Have a worker make the call, which may block. RuntimeError if there is no thread for it."""
        raise NotImplementedError


class Pace:
    """How fast the pieces of one stream come. The stream's lock guards it."""

    __slots__ = ("_began", "_count", "fast")

    def __init__(self) -> None:
        self.fast = False
        """Whether pieces may be joined."""
        self._count = 0
        self._began = 0.0

    def count_piece(self) -> bool:
        """Count a piece that was passed on at once; return whether they have become fast with this one."""
        if self._count == 0:
            self._began = time.monotonic()
        self._count += 1
        if self._count < _WINDOW:
            return False
        self._count = 0
        self.fast = time.monotonic() - self._began <= _WINDOW_S
        return self.fast

    def slow_down(self) -> None:
        """Begin anew: the next pieces go on at once."""
        self.fast = False
        self._count = 0


class HoldTimer:
    """Has the reactor look at a stream that may hold something, until it is stopped.

    The stream's lock is held in `start`, `again` and `stop`. A look that does not get the lock ends in
    `blocked`: another thread writes, and may wait for room for hours. Then the looks become rare, until the
    next `start`, which follows the write.
    """

    __slots__ = ("_active", "_calls", "_delay", "_ringing", "_serial")

    def __init__(self, calls: LateCalls) -> None:
        self._calls = calls
        self._active = False
        self._delay = HOLD_S
        self._serial = self._ringing = 0
        """The number of the series of looks that counts, and of the one that is being made."""

    def start(self, look: Callable[[], None]) -> None:
        """Have `look()` called from now on."""
        if not self._active or self._delay > HOLD_S:
            self._active = True
            self._delay = HOLD_S
            self._serial += 1
            self._arm(self._serial, look)

    def again(self, look: Callable[[], None]) -> None:
        """Have it called once more."""
        self._delay = HOLD_S
        self._arm(self._ringing, look)

    def blocked(self, look: Callable[[], None]) -> None:
        """Have it called once more, after a longer time than the last one."""
        self._delay = delay = min(2 * self._delay, _MAX_DELAY_S)
        self._arm(self._ringing, look, delay)

    def stop(self) -> None:
        """Have it not called any more."""
        self._active = False

    def _arm(self, serial: int, look: Callable[[], None], delay: float = HOLD_S) -> None:
        self._calls.later(partial(self._ring, serial, look), delay)

    def _ring(self, serial: int, look: Callable[[], None]) -> None:
        if serial == self._serial:
            self._ringing = serial
            look()

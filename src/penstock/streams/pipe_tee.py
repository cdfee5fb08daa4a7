"""Pass on what is in a lane's inlet without a copy, by tee(2) and splice(2).

Only between pipes. tee(2) gives each outlet but the last a reference to the pages. splice(2) moves what all
these have got into the last one, and so out of the inlet. An outlet with less room gets less. Bytes that only
some have got stay in the inlet, and `Outlet.ahead` counts them. The relay then reads no more than these, and
gives each outlet those that it lacks. So every outlet gets every byte once, whatever each call moved. The
rules about pace, spooling and ends stay as they are. While bytes are held for an outlet the lane copies: with
one reader slower than the other, the calls cost more than they spared.

A pipe holds a fixed number of buffers, and a copied reference takes one, however few bytes it refers to. So
small pieces would fill the outlets with little. If several rounds in a row were poor, the lane copies for a
while, and the copy fills whole pages.

The inlet must be a pipe that nobody else can read from. The outlets share its pages, as with every splice: if
a program has lent its own memory to the pipe (vmsplice(2)), a later change shows.

Nothing here waits. An error of the kernel other than a reader that has gone ends the attempts, and the write
that follows reports it if it is real.
"""

from __future__ import annotations

import sys

from penstock.streams.outlet import OPEN
from penstock.system import splice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from penstock.streams.lane import Lane
    from penstock.streams.outlet import Outlet

__all__ = ["PipeTee"]

_LEAST: Final = 1 << 15
"""Bytes below which a round is poor."""
_MOST_POOR: Final = 4
"""Poor rounds in a row after which the lane copies."""
_PAUSE: Final = 1 << 20
"""Bytes that it copies then."""


class PipeTee:
    """The attempts of one lane."""

    __slots__ = ("_from", "_poor")

    def __init__(self, inlet: int) -> None:
        self._from = 0 if splice.can_tee(inlet) else sys.maxsize
        """The `Lane.count` from which on it is tried."""
        self._poor = 0

    def pass_on(self, lane: Lane) -> bool:
        """Pass on what is in the inlet; return whether every outlet has got the same, and any at all.

        Otherwise the lane is to read. An outlet may have failed.
        """
        if lane.count < self._from or lane.behind:
            return False
        *others, last = lane.open
        limit = room = lane.room()
        for outlet in others:
            size = self._move(splice.tee, lane, outlet, limit)
            if outlet.state == OPEN:
                outlet.ahead = size
                limit = size or limit
        ahead = [outlet.ahead for outlet in others if outlet.state == OPEN]
        least = min(ahead, default=room)
        moved = 0
        if least:
            moved = self._move(splice.splice, lane, last, least)
            lane.count += moved
            for outlet in others:
                outlet.skip(moved)
        else:
            last.ahead = self._move(splice.tee, lane, last, limit)
        lane.ahead = max(outlet.ahead for outlet in lane.open)
        self._judge(lane, max(moved, lane.ahead))
        return moved > 0 and not lane.ahead

    def _move(self, call: Callable[[int, int, int], int], lane: Lane, outlet: Outlet, length: int) -> int:
        """Return how many bytes the outlet got, 0 if it is full or has failed."""
        size = 0
        try:
            try:
                size = call(lane.number, outlet.number, length)
            except BlockingIOError:
                if outlet.grow():
                    size = call(lane.number, outlet.number, length)
        except BlockingIOError:
            pass
        except BrokenPipeError as error:
            outlet.fail(error)
        except OSError:
            self._from = sys.maxsize
        outlet.count += size
        return size

    def _judge(self, lane: Lane, size: int) -> None:
        """Copy for a while if too little was moved, time after time."""
        lane.grow_after(size)
        self._poor = 0 if size >= _LEAST else self._poor + 1
        if self._poor > _MOST_POOR:
            self._poor = 0
            self._from = max(self._from, lane.count + _PAUSE)

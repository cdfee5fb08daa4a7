"""When to look at a process's memory next: often while it nears its limit, seldom while it is quiet.

Strategy. With a limit, the next look must come before memory can have got much past it: `MAX_OVERSHOOT` says
how far, and the pace assumed is the growth just seen, doubled, or `MAX_GROWTH_BYTES_PER_S`, whichever is
more. So a process that starts to allocate `MAX_GROWTH_BYTES_PER_S` bytes a second out of complete rest is
seen in time as well, and a high limit costs less than a low one. Without one (an observer), looks come closer
together while memory moves, and further apart while it does not.

Looking must not cost much either. Where nothing grows, the pause is at least so long that all looks together
take `MAX_CPU_SHARE` of one processor's time, however many are watched and however low their limits are. For
one command that is 2 ms or 3; for fifty, 100 to 150 ms.

What may not live here: clocks, processes, threads.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_CPU_SHARE", "MAX_GROWTH_BYTES_PER_S", "MAX_INTERVAL_S", "MAX_OVERSHOOT", "SamplingInterval"]

MAX_INTERVAL_S: Final = 0.25
"""Seconds between two looks at the most, unless the user says otherwise."""

MAX_GROWTH_BYTES_PER_S: Final = 2e9
"""Bytes a second that a process may begin to allocate at any moment: what one thread gets out of the kernel.
"""
MAX_OVERSHOOT: Final = 1.2
"""Times the limit: what a process that allocates so fast may hold when it is seen to be past the limit."""
MAX_CPU_SHARE: Final = 0.004
"""The part of one processor's time that reading memory may take while nothing grows."""
_FIRST_INTERVAL_S: Final = 0.004
_MIN_INTERVAL_S: Final = 0.001
"""Seconds between looks: after the first, and at the least."""
_NOISE_BYTES: Final = 1 << 20
"""Bytes: less than that from one look to the next is quiet."""
_RATE_DECAY: Final = 0.5
"""What is left of an earlier growth at the next look: programs allocate in bursts."""


class SamplingInterval:
    """The pauses between the looks at one thing; `longest` is their upper bound, in seconds."""

    __slots__ = ("_last", "_limit", "_longest", "_pause", "_rate", "_used")

    def __init__(self, limit: int | None, longest: float) -> None:
        self._limit = limit
        self._longest = longest
        self._pause = _FIRST_INTERVAL_S
        self._rate = 0.0
        self._used: int | None = None
        self._last = 0.0

    def after(self, now: float, used: int, cost: float = 0.0) -> float:
        """Return the seconds until the next look, where `used` bytes were seen at `now`.

        `cost` is the processor time, in seconds, that one look at all that is watched takes.
        """
        growth = 0 if self._used is None else used - self._used
        passed = now - self._last
        self._rate = max(growth / passed if passed > 0 else 0.0, self._rate * _RATE_DECAY)
        quiet = abs(growth) < _NOISE_BYTES
        self._used, self._last = used, now
        self._pause = min(self._pause * 2, self._longest) if quiet else _FIRST_INTERVAL_S
        pause = self._pause
        if self._limit is not None:
            room = max(self._limit * MAX_OVERSHOOT - used, 0.0)
            pause = min(self._longest, room / max(MAX_GROWTH_BYTES_PER_S, 2 * self._rate))
        if quiet:
            pause = max(pause, cost / MAX_CPU_SHARE)
        return min(max(pause, _MIN_INTERVAL_S), self._longest)

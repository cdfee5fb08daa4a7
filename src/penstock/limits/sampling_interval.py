"""When to sample a process's memory next: often near its limit, seldom while it is quiet.

Strategy. With a limit, the next sample must come before memory can have exceeded it by much: `MAX_OVERSHOOT`
says how far. The assumed growth is twice the growth just seen, or `MAX_GROWTH_BYTES_PER_S` if that is more.
So even a process that suddenly allocates `MAX_GROWTH_BYTES_PER_S` is seen in time, and a high limit costs
less than a low one. Without a limit (an observer), samples come closer together while memory changes, and
further apart while it does not.

Sampling must not cost much either. While nothing grows, the interval is so long that all samples together
take at most `MAX_CPU_SHARE` of one processor, however many commands are watched and however low their limits
are. For one command that is 2 or 3 ms; for fifty, 100 to 150 ms.

Out of scope: clocks, processes, threads.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["MAX_CPU_SHARE", "MAX_GROWTH_BYTES_PER_S", "MAX_INTERVAL_S", "MAX_OVERSHOOT", "SamplingInterval"]

MAX_INTERVAL_S: Final = 0.25
"""Seconds between two samples at most, unless the user sets another interval."""

MAX_GROWTH_BYTES_PER_S: Final = 2e9
"""The growth that a process may begin at any moment: one thread gets no more from the kernel."""
MAX_OVERSHOOT: Final = 1.2
"""Times the limit: the most memory a process with that growth may hold when it is first seen above it."""
MAX_CPU_SHARE: Final = 0.004
"""The share of one processor that sampling may take while nothing grows."""
_FIRST_INTERVAL_S: Final = 0.004
_MIN_INTERVAL_S: Final = 0.001
"""Seconds between two samples: after the first one, and at least."""
_NOISE_BYTES: Final = 1 << 20
"""Bytes: a process that changes by less from one sample to the next is quiet."""
_RATE_DECAY: Final = 0.5
"""The part of an earlier growth that still counts at the next sample: programs allocate in bursts."""


class SamplingInterval:
    """The intervals between the samples of one watch. `longest` is their upper bound, in seconds."""

    __slots__ = ("_last", "_limit", "_longest", "_pause", "_rate", "_used")

    def __init__(self, limit: int | None, longest: float) -> None:
        self._limit = limit
        self._longest = longest
        self._pause = _FIRST_INTERVAL_S
        self._rate = 0.0
        self._used: int | None = None
        self._last = 0.0

    def after(self, now: float, used: int, cost: float = 0.0) -> float:
        """Return the seconds until the next sample, after one of `used` bytes at the time `now`.

        `cost` is the processor time, in seconds, of one sample of everything that is watched.
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

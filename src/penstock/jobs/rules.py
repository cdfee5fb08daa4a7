"""The decisions of a map, without threads and clocks: how long to wait before a retry, and when to halt."""

from __future__ import annotations

import math

__all__ = ["HaltRule", "retry_delay"]

_LONGEST_DELAY_S = 300.0
_LEAST_FAILURES = 3
"""Failures from which on a fraction counts, if nobody knows how many inputs there are."""


def retry_delay(backoff: float, attempts: int, chance: float) -> float:
    """Return the seconds to wait after so many attempts: `backoff`, doubled for each further one.

    At most 300 s, or `backoff` if that is more. `chance`, from 0 to 1, takes away up to half of it, so that
    jobs that failed together do not all come back together.

    >>> [retry_delay(1.0, attempts, 0.0) for attempts in (1, 2, 3, 100)]
    [1.0, 2.0, 4.0, 300.0]
    """
    longest = max(backoff, _LONGEST_DELAY_S)
    delay = longest if attempts > 60 else min(backoff * 2.0 ** (attempts - 1), longest)
    return delay * (1.0 - chance / 2)


class HaltRule:
    """Says when so many jobs have failed that no further one is started."""

    __slots__ = ("_max_failures", "_total", "halt")

    def __init__(self, halt: str, max_failures: float, total: int | None) -> None:
        """`max_failures` is a number of jobs, or a fraction of `total`, which is None if unknown."""
        self.halt = halt
        self._max_failures = max_failures
        self._total = total

    def is_reached(self, failures: int, ended: int) -> bool:
        """Return whether the map halts, after so many failures among so many jobs that have ended.

        >>> HaltRule("soon", 2, None).is_reached(2, 9), HaltRule("never", 2, None).is_reached(9, 9)
        (True, False)
        >>> [HaltRule("soon", 0.5, 10).is_reached(failures, 6) for failures in (4, 5)]
        [False, True]
        """
        if self.halt == "never" or failures == 0:
            return False
        if isinstance(self._max_failures, int):
            return failures >= self._max_failures
        if self._total is None:
            return failures >= max(_LEAST_FAILURES, self._max_failures * ended)
        return failures >= math.ceil(self._max_failures * self._total)

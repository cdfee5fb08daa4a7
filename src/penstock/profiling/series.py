"""Curves of a profile: how fast the counters of a stage grew, and how much memory it had. Pure functions.

Processor time is counted in ticks of 10 ms, so the growth over a few milliseconds says nothing. Intervals
that are too short are joined with the one before.
"""

from __future__ import annotations

from itertools import pairwise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    Step: TypeAlias = tuple[float, float, float]
    """A value that holds from one time to another, in seconds since the start of the run."""
    Point: TypeAlias = tuple[float, float]

__all__ = ["MIN_INTERVAL_S", "levels", "phases", "rates"]

MIN_INTERVAL_S = 0.05
"""The shortest interval for which a growth counts, unless the stage has lived no longer."""


def rates(times: Sequence[float], counts: Sequence[float | None], end: float | None = None) -> list[Step]:
    """Return the growth of a counter a second, for the intervals between the times; none if it is unknown.

    The stage ended at `end`, so the growth in the interval of its end took place before that.

    >>> rates([0.0, 1.0, 2.0, 3.0], [0, 10, 40, 60], end=2.5)
    [(0.0, 1.0, 10.0), (1.0, 2.0, 30.0), (2.0, 2.5, 40.0)]
    """
    known = [(when, count) for when, count in zip(times, counts, strict=True) if count is not None]
    kept = known[:1]
    for when, count in known[1:]:
        ended = end is not None and when > end
        moment = max(end, kept[-1][0]) if ended and end is not None else when
        if moment - kept[-1][0] < MIN_INTERVAL_S and len(kept) > 1:
            kept.pop()
        if moment > kept[-1][0]:
            kept.append((moment, count))
        if ended:
            break
    return [
        (before[0], after[0], max(0.0, after[1] - before[1]) / (after[0] - before[0]))
        for before, after in pairwise(kept)
    ]


def levels(times: Sequence[float], values: Sequence[float | None]) -> list[list[Point]]:
    """Return the points of a curve, in pieces: it is interrupted while the value is unknown.

    >>> levels([0.0, 1.0, 2.0, 3.0], [None, 5, 6, None])
    [[(1.0, 5), (2.0, 6)]]
    """
    pieces: list[list[Point]] = [[]]
    for when, value in zip(times, values, strict=True):
        if value is not None:
            pieces[-1].append((when, value))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def phases(
    times: Sequence[float], states: Sequence[str], span: tuple[float, float]
) -> list[tuple[float, float, str]]:
    """Return the states of a stage from its start to its end. A state holds until the sample that shows it.

    Equal neighbours are one. The time after the last sample in which it lived counts as running.

    >>> phases([0.0, 1.0, 2.0, 3.0], ["starting", "reading", "running", "ended"], (0.1, 2.5))
    [(0.1, 1.0, 'reading'), (1.0, 2.5, 'running')]
    """
    found: list[tuple[float, float, str]] = []
    start, end = span
    for when, state in zip(times, states, strict=True):
        if when <= start:
            continue
        shown = "running" if state in ("starting", "ended") else state
        until = min(when, end)
        if found and found[-1][2] == shown:
            found[-1] = (found[-1][0], until, shown)
        elif until > start or not found:
            found.append((start, until, shown))
        start = until
        if when >= end:
            break
    return found

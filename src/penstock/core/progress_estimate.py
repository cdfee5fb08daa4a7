"""How much of an input has been read, and when the rest will be: a pure rule over position, size and pace."""

from __future__ import annotations

__all__ = ["estimate"]


def estimate(position: int | None, size: int | None, pace: float | None) -> tuple[float | None, float | None]:
    """Return the part of the input that was read, from 0 to 1, and the seconds to its end.

    `position` and `size` are in bytes, `pace` in bytes a second. Each answer is None if it cannot be known:
    the time is not known at a pace of 0. An empty input has been read. A file may shrink or be read twice, so
    a position past its end counts as the end.

    >>> estimate(250, 1000, 50.0)
    (0.25, 15.0)
    >>> estimate(250, 1000, None), estimate(None, 1000, 50.0)
    ((0.25, None), (None, None))
    """
    if position is None or size is None:
        return None, None
    if position >= size:
        return 1.0, 0.0
    return position / size, (size - position) / pace if pace else None

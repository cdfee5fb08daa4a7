"""Figures of a snapshot as people read them: sizes, rates, times, percentages. Pure functions."""

from __future__ import annotations

from penstock.core.printable import printable
from penstock.core.sizes import binary_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.core.snapshot import EdgeSnapshot, Snapshot, StageSnapshot

__all__ = ["MAX_NAME", "duration", "input_fill", "name_of", "outlook", "percent", "rate", "slowest"]

MAX_NAME = 40
"""Characters of a name in a line with others."""


def rate(bytes_a_second: float) -> str:
    """Return a rate.

    >>> rate(110_000_000.0)
    '105 MiB/s'
    """
    return f"{binary_size(bytes_a_second)}/s"


def percent(fraction: float) -> str:
    """Return a fraction as whole percent, rounded down, so that only the whole is 100.

    >>> percent(0.999), percent(1.0), percent(1.5)
    ('99%', '100%', '150%')
    """
    return f"{int(fraction * 100 + 1e-9)}%"


def duration(seconds: float) -> str:
    """Return a time.

    >>> duration(12.34), duration(59.99), duration(125), duration(7500)
    ('12.3s', '1m00s', '2m05s', '2h05m')
    """
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def name_of(stage: StageSnapshot) -> str:
    """Return the name of a stage for a terminal, after that of its branch if it has another one."""
    alone = stage.branch in ("", stage.name)
    return printable(stage.name if alone else f"{stage.branch}: {stage.name}", keep="")


def input_fill(snapshot: Snapshot, stage: StageSnapshot) -> float | None:
    """Return how full the fullest input of a stage is, from 0 to 1; None if that is unknown.

    Of a pipe that cannot be looked into it is the share of the time in which its writer waited for room.
    """
    fills = [_fill(edge) for edge in snapshot.edges if edge.target_id == stage.id]
    return max((fill for fill in fills if fill is not None), default=None)


def slowest(snapshot: Snapshot) -> str | None:
    """Return the bottleneck, with the end of the pipeline that it waits for; None if there is none."""
    if snapshot.bottleneck is None:
        return None
    name = printable(snapshot.bottleneck, keep="")
    if len(name) > MAX_NAME:
        name = f"{name[: MAX_NAME - 3]}..."
    end = snapshot.bottleneck_end
    return name if end is None else f"{name}, waiting for {printable(end, keep='')}"


def outlook(snapshot: Snapshot) -> list[str]:
    """Return how much of the input was read, the time to its end, and the slowest stage, as far as known."""
    told = []
    if snapshot.fraction is not None:
        told.append(percent(snapshot.fraction))
    if snapshot.eta is not None:
        told.append(f"{duration(snapshot.eta)} left")
    if (name := slowest(snapshot)) is not None:
        told.append(f"slowest: {name}")
    return told


def _fill(edge: EdgeSnapshot) -> float | None:
    if edge.fill is not None and edge.capacity:
        return min(edge.fill / edge.capacity, 1.0)
    return edge.full if edge.full or edge.empty else None

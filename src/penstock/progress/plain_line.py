"""A snapshot as one line of plain text, for a log. A pure function."""

from __future__ import annotations

from penstock.core.sizes import binary_size
from penstock.progress.figures import MAX_NAME, duration, name_of, outlook, percent, rate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.core.snapshot import Snapshot, StageSnapshot

__all__ = ["plain_line"]


def plain_line(snapshot: Snapshot) -> str:
    """Return a line without LF: the time, each stage with what is known of it, and what the run waits for.

    >>> from penstock.core.snapshot import Snapshot, StageSnapshot
    >>> stages = (
    ...     StageSnapshot("cat", "writing", cpu=0.1, bytes_out=2**30, rate_out=2.0**20),
    ...     StageSnapshot("sort", "running", cpu=0.98),
    ... )
    >>> plain_line(Snapshot(12.3, stages, (), fraction=0.5, eta=12.3, bottleneck="sort"))
    '12.3s cat 1.0 GiB 1.0 MiB/s 10% cpu | sort 98% cpu (50%, 12.3s left, slowest: sort)'
    """
    text = f"{duration(snapshot.elapsed)} {' | '.join(map(_stage, snapshot.stages))}"
    whole = ["ended"] if snapshot.done else outlook(snapshot)
    return f"{text} ({', '.join(whole)})" if whole else text


def _stage(stage: StageSnapshot) -> str:
    parts = [_cut(name_of(stage))]
    moved, pace = stage.bytes_out, stage.rate_out
    if moved is None:
        moved, pace = stage.bytes_in, stage.rate_in
    if moved is not None:
        parts.append(binary_size(moved))
    if stage.state == "ended":
        return " ".join([*parts, "ended"])
    if pace is not None:
        parts.append(rate(pace))
    if stage.cpu is not None:
        parts.append(f"{percent(stage.cpu)} cpu")
    if stage.state == "stopped" or len(parts) == 1:
        parts.append(stage.state)
    return " ".join(parts)


def _cut(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 3]}..."

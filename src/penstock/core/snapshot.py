"""The values that `run.snapshot()` returns: a run at one moment.

Out of scope: where the figures come from (`engine.snapshots`), and which stage is the bottleneck
(`core.bottleneck`).
"""

from __future__ import annotations

from penstock.core.public import exported
from penstock.core.record import record
from penstock.core.sizes import show_size
from penstock.core.table import html, html_table, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["EdgeSnapshot", "Snapshot", "StageSnapshot"]


@exported
@record(frozen=True, slots=True)
class StageSnapshot:
    """One leaf stage at one moment. A figure that cannot be known is None.

    - `name`, `id`, `kind` and `branch`: as in the plan and in `StageResult`. `pid`: that of a command.
    - `state`: "starting", "running", "reading" (it waits for input), "writing" (it waits for room in its
      output), "stopped" (by a signal) or "ended".
    - `cpu`: cores that it keeps busy, 1.0 for one. `rss`: bytes of resident memory. Both count the processes
      that it has started, and are None for a Python stage of this process.
    - `bytes_in`, `bytes_out`: bytes since the start, of all its inputs and of all its outputs. `rate_in`,
      `rate_out`: bytes a second. None if the kernel carries them past Penstock, as between two commands.
    """

    name: str
    state: str
    cpu: float | None = None
    rss: int | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    rate_in: float | None = None
    rate_out: float | None = None
    id: str = ""
    kind: str = "command"
    branch: str = ""
    pid: int | None = None


@exported
@record(frozen=True, slots=True)
class EdgeSnapshot:
    """One edge at one moment. A figure that cannot be known is None.

    - `source`, `target`: names, "stdin" and "stdout" for the ends of the pipeline. `source_id`, `target_id`:
      the ids of the nodes in the plan. `kind`: the carrier, as in `EdgeResult`.
    - `bytes`: bytes since the start. `rate`: bytes a second. `fill`: bytes that wait in it to be read.
      `capacity`: bytes that it can hold. `spooled`: bytes that are held beyond that for a slow join.
    - `full`, `empty`: the parts of the last 3 seconds, from 0 to 1, in which its writer waited for room, and
      in which its reader waited for bytes, by the looks of that time. Both are 0 if nothing of that can be
      seen.
    """

    source: str
    target: str
    kind: str
    bytes: int | None = None
    rate: float | None = None
    fill: int | None = None
    capacity: int | None = None
    spooled: int = 0
    source_id: str = ""
    target_id: str = ""
    full: float = 0.0
    empty: float = 0.0


@exported
@record(frozen=True, slots=True)
class Snapshot:
    """A run at one moment.

    - `elapsed`: seconds since the start. `done`: whether the run has ended.
    - `stages`, `edges`: in the order of the plan.
    - `fraction`: how much of the input has been read, from 0 to 1, as last seen once its stage has ended.
      `eta`: seconds to its end at this pace. Both are None unless stdin is a file.
    - `bottleneck`: the name of the stage that the others wait for, judged over the last 3 seconds, and
      `bottleneck_index` its place in `stages`. If that stage waits in turn for an end of the pipeline, such
      as a slow source or a slow reader, `bottleneck_end` is the name of that: "stdin" or "stdout", in a graph
      perhaps that of a branch.

    `str(snapshot)` is a small table, and Jupyter shows it as one.
    """

    elapsed: float
    stages: tuple[StageSnapshot, ...]
    edges: tuple[EdgeSnapshot, ...]
    fraction: float | None = None
    eta: float | None = None
    bottleneck: str | None = None
    bottleneck_index: int | None = None
    done: bool = False
    bottleneck_end: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the same as dicts, lists, numbers, strings and None, for json.dumps."""
        return {
            **{name: getattr(self, name) for name in self.__match_args__ if name not in ("stages", "edges")},
            "stages": [_fields(stage) for stage in self.stages],
            "edges": [_fields(edge) for edge in self.edges],
        }

    def __str__(self) -> str:
        return f"{self._head}\n{table(_HEADER, self._rows, _RIGHT)}"

    def _repr_html_(self) -> str:
        """Return the table as Jupyter shows it."""
        return f"<p>{html(self._head)}</p>{html_table(_HEADER, self._rows, _RIGHT)}"

    @property
    def _head(self) -> str:
        parts = [f"{'ended' if self.done else 'going on'} ({self.elapsed:.1f} s)"]
        if self.fraction is not None:
            left = "" if self.eta is None else f", {self.eta:.0f} s left"
            parts.append(f"{self.fraction:.0%} of the input read{left}")
        if self.bottleneck is not None:
            end = "" if self.bottleneck_end is None else f", which waits for {self.bottleneck_end}"
            parts.append(f"slowest: {self.bottleneck}{end}")
        return "; ".join(parts)

    @property
    def _rows(self) -> list[list[str]]:
        return [
            [
                stage.name,
                stage.state,
                "-" if stage.cpu is None else f"{stage.cpu:.0%}",
                "-" if stage.rss is None else f"{stage.rss / 2**20:.1f}M",
                _bytes(stage.bytes_in),
                _rate(stage.rate_in),
                _bytes(stage.bytes_out),
                _rate(stage.rate_out),
            ]
            for stage in self.stages
        ]


_HEADER = ("stage", "state", "cpu", "rss", "in", "in/s", "out", "out/s")
_RIGHT = frozenset({2, 3, 4, 5, 6, 7})


def _bytes(size: int | None) -> str:
    return "-" if size is None else show_size(size)


def _rate(rate: float | None) -> str:
    return "-" if rate is None else show_size(round(rate))


def _fields(value: StageSnapshot | EdgeSnapshot) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__match_args__}

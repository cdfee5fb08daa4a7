"""The values that `run.snapshot()` returns: a run at one moment.

Out of scope: where the figures come from (`engine.snapshots`), and which stage is the bottleneck
(`core.bottleneck`).
"""

from __future__ import annotations

from penstock.core.public import exported
from penstock.core.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["EdgeSnapshot", "Snapshot", "StageSnapshot"]


@exported
@record(frozen=True, slots=True)
class StageSnapshot:
    """One leaf stage at one moment. A value that cannot be known is None.

    - `name`, `id`, `kind` and `branch`: as in the plan and in `StageResult`. `pid`: that of a command.
    - `state`: "starting", "running", "reading" (it waits for input), "writing" (it waits for room in its
      output), "stopped" (by a signal) or "ended".
    - `cpu`: cores that it keeps busy, 1.0 for one. `rss`: bytes of resident memory. Both count the processes
      that it has started, and are None for a Python stage of this process.
    - `bytes_in`, `bytes_out`: bytes since the start. `rate_in`, `rate_out`: bytes a second.
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
    """One edge at one moment. A value that cannot be known is None.

    - `source`, `target`: names, "stdin" and "stdout" for the ends of the pipeline. `source_id`, `target_id`:
      the ids of the nodes in the plan. `kind`: the carrier, as in `EdgeResult`.
    - `bytes`: bytes since the start. `rate`: bytes a second. `fill`: bytes that wait in it to be read.
      `capacity`: bytes that it can hold. `spooled`: bytes that are held beyond that for a slow join.
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


@exported
@record(frozen=True, slots=True)
class Snapshot:
    """A run at one moment.

    - `elapsed`: seconds since the start. `done`: whether the run has ended.
    - `stages`, `edges`: in the order of the plan.
    - `fraction`: how much of the input has been read, from 0 to 1, and `eta`: seconds to its end at this
      pace. Both are None unless stdin is a file.
    - `bottleneck`: the name of the stage that the others wait for, judged over the last 3 seconds, and
      `bottleneck_index` its place in `stages`.
    """

    elapsed: float
    stages: tuple[StageSnapshot, ...]
    edges: tuple[EdgeSnapshot, ...]
    fraction: float | None = None
    eta: float | None = None
    bottleneck: str | None = None
    bottleneck_index: int | None = None
    done: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the same as dicts, lists, numbers, strings and None, for json.dumps."""
        return {
            **{name: getattr(self, name) for name in self.__match_args__ if name not in ("stages", "edges")},
            "stages": [_fields(stage) for stage in self.stages],
            "edges": [_fields(edge) for edge in self.edges],
        }


def _fields(value: StageSnapshot | EdgeSnapshot) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__match_args__}

"""What a run leaves behind.

Imported when the first run ends: `dataclasses` costs as much as the rest of the package.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from penstock.core.table import table

if TYPE_CHECKING:
    from penstock.core.errors import PipelineError

__all__ = ["EdgeResult", "Result", "StageResult"]


@dataclasses.dataclass(frozen=True, slots=True)
class StageResult:
    """The outcome of one leaf stage.

    `returncode` is as in subprocess (negative for a signal; None for a Python stage, and for a command that
    never ran), `signal` the signal's number, `error` the stage's own error (also where the verdict forgave
    it, and the reason where it was cancelled; None for a success and for `FinishEarly`), `stderr` the
    captured bytes, bounded. Times are seconds, of the process and the children it waited for, from the kernel
    at reaping; `max_rss` is bytes. They are None where there was no process. `peak_memory` is the most
    anonymous memory, in bytes, that was seen of the command and its descendants, where `memory_limit` or
    `memory_observer` watched it; None where nothing was seen.
    """

    name: str
    kind: str
    pid: int | None = None
    returncode: int | None = None
    signal: int | None = None
    error: BaseException | None = None
    stderr: bytes = b""
    user_time: float | None = None
    system_time: float | None = None
    max_rss: int | None = None
    elapsed: float | None = None
    peak_memory: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class EdgeResult:
    """What carried the bytes between two neighbours, and how many: None where the kernel did, out of
    sight.
    """

    source: str
    target: str
    kind: str
    bytes: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a run.

    `error` is what the run raised or would have raised, `stdout` the captured bytes (None where stdout was
    not captured),
    `elapsed` seconds from `start()` to the end.
    """

    error: PipelineError | None
    elapsed: float
    stages: tuple[StageResult, ...]
    edges: tuple[EdgeResult, ...]
    stdout: bytes | None = None

    @property
    def ok(self) -> bool:
        """Whether the verdict is a success."""
        return self.error is None

    @property
    def returncodes(self) -> tuple[int | None, ...]:
        """The exit status of each leaf stage, None for a Python stage."""
        return tuple(stage.returncode for stage in self.stages)

    def __str__(self) -> str:
        rows = [
            [
                stage.name,
                stage.kind,
                "-" if stage.returncode is None else str(stage.returncode),
                _seconds(stage.elapsed),
                _seconds(stage.user_time),
                _seconds(stage.system_time),
                "-" if stage.max_rss is None else f"{stage.max_rss / 2**20:.1f}M",
                "" if stage.error is None else str(stage.error) or type(stage.error).__name__,
            ]
            for stage in self.stages
        ]
        head = "ok" if self.error is None else f"failed: {self.error}"
        header = ["stage", "kind", "exit", "wall", "user", "system", "rss", "error"]
        return f"{head} ({self.elapsed:.3f}s)\n{table(header, rows, frozenset({2, 3, 4, 5, 6}))}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}s"

"""The result of a run. Imported when the first run ends."""

from __future__ import annotations

from penstock.core.public import exported
from penstock.core.record import record
from penstock.core.table import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.core.errors import PipelineError

__all__ = ["EdgeResult", "Result", "StageResult"]


@exported
@record(frozen=True, slots=True)
class StageResult:
    """The outcome of one leaf stage.

    - `returncode`: as in subprocess, negative for a signal. None for a Python stage, and for a command that
      never ran. `signal`: the signal's number, or None.
    - `error`: the stage's own error, even if the verdict forgave it, or the reason of its cancellation. None
      for a success and for `FinishEarly`.
    - `stderr`: the captured bytes, at most the first and the last 32 KiB.
    - `user_time`, `system_time`, `elapsed`: seconds. The first two are those of the process and the children
      that it waited for, from the kernel (wait4(2)). `max_rss`: bytes. They are None without a process.
    - `peak_memory`: the most anonymous memory, in bytes, of the command and its descendants. None unless
      `memory_limit` or `memory_observer` measured it.
    - `id`: the id of the stage's node in the plan.
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
    id: str = ""


@exported
@record(frozen=True, slots=True)
class EdgeResult:
    """The means that carried the bytes between two neighbours, and their number.

    `bytes` is None if the kernel carried them, because Penstock did not see them then.

    `source` and `target` are names, `source_id` and `target_id` the ids of the nodes in the plan.
    """

    source: str
    target: str
    kind: str
    bytes: int | None = None
    source_id: str = ""
    target_id: str = ""


@exported
@record(frozen=True, slots=True)
class Result:
    """The outcome of a run.

    `error` is the `PipelineError` that the run raised, or would have raised with `check=True`. `stdout` is
    the captured bytes, or None if stdout was not captured. `elapsed` is seconds from the start to the end.
    `stages` has one `StageResult` for each leaf stage, `edges` one `EdgeResult` for each edge, in order.

    >>> from penstock import DEVNULL, command
    >>> result = (command("printf", "a") | command("cat")).run(stdout=DEVNULL)
    >>> result.ok, result.returncodes
    (True, (0, 0))
    """

    error: PipelineError | None
    elapsed: float
    stages: tuple[StageResult, ...]
    edges: tuple[EdgeResult, ...]
    stdout: bytes | None = None

    @property
    def ok(self) -> bool:
        """True if the verdict is a success."""
        return self.error is None

    @property
    def returncodes(self) -> tuple[int | None, ...]:
        """The exit statuses of the leaf stages, as in subprocess; None for a Python stage."""
        return tuple(stage.returncode for stage in self.stages)

    def stage(self, name: str) -> StageResult:
        """Return the result of the stage with that name; KeyError if no stage has it, or more than one."""
        found = [stage for stage in self.stages if stage.name == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise KeyError(f"{len(found)} stages are named {name!r}; look in `stages`")
        raise KeyError(
            f"no stage is named {name!r}; there are {', '.join(repr(s.name) for s in self.stages)}"
        )

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

"""The result of a run. Imported when the first run ends."""

from __future__ import annotations

from penstock.core.errors import text_of
from penstock.core.paths import path as to_path
from penstock.core.placeholders import masked
from penstock.core.printable import printable
from penstock.core.public import exported
from penstock.core.record import record
from penstock.core.table import html, html_table, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import Any

    from penstock.core.errors import PipelineError
    from penstock.core.profile import Profile

__all__ = ["EdgeResult", "Result", "StageResult", "file_writers"]

file_writers: dict[str, Callable[[Result, str], None]] = {}
"""The functions that write files of a result. `engine.results` sets them, because core does no I/O."""

_SHOWN_STDERR = 60
"""Bytes of stderr that a repr shows."""
_SHOWN_TEXT = 200
"""Characters of a message, or of the names of stages, that a repr shows."""


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
      that it waited for, from the kernel (wait4(2)). They are None without a process.
    - `max_rss`: bytes, as wait4(2) says; None without a process. Linux counts in the process that it was
      started from, so it is at least the most resident memory that this program had had by then. For a small
      command of a large program `memory_observer` measures better.
    - `peak_memory`: the most anonymous memory, in bytes, of the command and its descendants. None unless
      `memory_limit` or `memory_observer` measured it.
    - `id`: the id of the stage's node in the plan. `branch`: the name of the branch that it belongs to; ""
      without one.
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
    branch: str = ""

    def __repr__(self) -> str:
        """Show what is known, without more than the beginning of stderr."""
        known = {field: getattr(self, field) for field in type(self).__match_args__}
        parts = [
            f"{field}={_short(repr(value)) if field in ('name', 'error') else repr(value)}"
            for field, value in known.items()
            if value is not None and value not in (b"", "")
        ]
        if len(self.stderr) > _SHOWN_STDERR:
            place = next(place for place, part in enumerate(parts) if part.startswith("stderr="))
            parts[place] = f"stderr={self.stderr[:_SHOWN_STDERR]!r}... ({len(self.stderr)} bytes)"
        return masked(f"StageResult({', '.join(parts)})")


@exported
@record(frozen=True, slots=True)
class EdgeResult:
    """The means that carried the bytes between two neighbours, and their number.

    `bytes` is None if the kernel carried them, because Penstock did not see them then.

    `source` and `target` are names, `source_id` and `target_id` the ids of the nodes in the plan. `spooled`
    is the most bytes that were held at one time because a join waited for another edge; see `tee`.
    """

    source: str
    target: str
    kind: str
    bytes: int | None = None
    source_id: str = ""
    target_id: str = ""
    spooled: int = 0
    port: str = "main"


@exported
@record(frozen=True, slots=True)
class Result:
    r"""The outcome of a run. It is true if the run succeeded.

    `error` is the `PipelineError` that the run raised, or would have raised with `check=True`. `stdout` is
    the captured bytes, or None if stdout was not captured. `elapsed` is seconds from the start to the end.
    `stages` has one `StageResult` for each leaf stage, `edges` one `EdgeResult` for each edge, in order.
    `outputs` are pairs of the name of a branch and the bytes that it captured; `output(name)` finds one.
    `profile` is the `Profile` of a run with `profile=True`, else None.
    `str()` is a small table, and a notebook shows the same in HTML.

    >>> from penstock import DEVNULL, command
    >>> result = (command("sh", "-c", "echo no >&2; exit 3") | command("cat")).run(check=False)
    >>> bool(result), result.returncode, result.stderr, result.returncodes
    (False, 3, b'no\n', (3, 0))
    """

    error: PipelineError | None
    elapsed: float
    stages: tuple[StageResult, ...]
    edges: tuple[EdgeResult, ...]
    stdout: bytes | None = None
    outputs: tuple[tuple[str, bytes], ...] = ()
    profile: Profile | None = None

    @property
    def ok(self) -> bool:
        """True if the verdict is a success."""
        return self.error is None

    def __bool__(self) -> bool:
        return self.error is None

    @property
    def returncode(self) -> int | None:
        """The exit status of the stage that failed, else of the last one, as in subprocess.

        None for a Python stage. No stage has failed in a run that succeeded, timed out or was cancelled.
        """
        told = self._told
        return None if told is None else told.returncode

    @property
    def stderr(self) -> bytes:
        """The captured stderr of the stage that failed, else of the last one; see `StageResult.stderr`."""
        told = self._told
        return b"" if told is None else told.stderr

    @property
    def returncodes(self) -> tuple[int | None, ...]:
        """The exit statuses of the leaf stages, as in subprocess; None for a Python stage."""
        return tuple(stage.returncode for stage in self.stages)

    @property
    def _told(self) -> StageResult | None:
        """The stage whose outcome stands for the run's."""
        index = None if self.error is None else self.error.index
        if index is not None and index < len(self.stages):
            return self.stages[index]
        main = [stage for stage in self.stages if not stage.branch]
        return main[-1] if main else None

    def stage(self, name: str) -> StageResult:
        """Return the result of the stage with that name; KeyError if no stage has it, or more than one."""
        name = masked(name)
        found = [stage for stage in self.stages if stage.name == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise KeyError(f"{len(found)} stages are named {name!r}; look in `stages`")
        raise KeyError(
            f"no stage is named {name!r}; there are {', '.join(repr(s.name) for s in self.stages)}"
        )

    def output(self, name: str) -> bytes:
        """Return the bytes that a branch captured, by the name of the branch or that of its last stage.

        KeyError if no branch with that name captured anything, or more than one.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a branch is a str, not {name!r}")
        name = masked(name)
        found = [data for branch, data in self.outputs if branch == name]
        if not found:
            last = {stage.branch: stage.name for stage in self.stages if stage.kind != "relay"}
            found = [data for branch, data in self.outputs if last.get(branch) == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise KeyError(f"{len(found)} branches are named {name!r}: give them names of their own")
        known = ", ".join(repr(branch) for branch, _ in self.outputs)
        raise KeyError(
            f"no branch named {name!r} was captured; {f'these were: {known}' if known else 'none was'}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dict that `json.dumps` takes.

        The keys are the names of the attributes; `ok` and `returncode` are there too. Bytes become str:
        UTF-8, with backslash escapes for other bytes. An error becomes a dict of its `type` and `message`,
        and the error of the run also has `stage`, `index` and `cause`.
        """
        error = self.error
        return {
            "ok": self.ok,
            "returncode": self.returncode,
            "elapsed": self.elapsed,
            "error": None
            if error is None
            else {
                **_error_fields(error),
                "stage": error.stage,
                "index": error.index,
                "cause": _error_fields(error.cause),
            },
            "stdout": None if self.stdout is None else self.stdout.decode("utf-8", "backslashreplace"),
            "outputs": [
                {"branch": branch, "data": data.decode("utf-8", "backslashreplace")}
                for branch, data in self.outputs
            ],
            "stages": [_stage_fields(stage) for stage in self.stages],
            "edges": [
                {field: getattr(edge, field) for field in type(edge).__match_args__} for edge in self.edges
            ],
            "profile": None if self.profile is None else self.profile.to_dict(),
        }

    def write_report(self, path: str | bytes | os.PathLike[str]) -> None:
        """Write a page in HTML that shows the run, to look at in any browser.

        It is one file, loads nothing from elsewhere, and needs no script. It has the verdict in words, the
        graph, the figures of each stage and edge, and the end of each captured stderr. After a run with
        `profile=True` it also has a timeline, and charts of processor time, memory and throughput. Secrets
        are `***`, except in what a command has written to its stderr itself.

        The file takes the place of one at `path` when it is complete. Raises OSError, naming the file, if
        that fails; then the old file is as it was. A folder that is missing is not made.
        """
        file_writers["report"](self, to_path("path", path))

    def write_trace(self, path: str | bytes | os.PathLike[str]) -> None:
        """Write a trace in the JSON format of Chrome, for Perfetto (ui.perfetto.dev) and others that read it.

        It has a slice for each stage, and counters of its processor time, memory and bytes. Times are in
        microseconds. Raises ValueError unless the run had `profile=True`, and OSError as `write_report` does.
        """
        file_writers["trace"](self, to_path("path", path))

    def __repr__(self) -> str:
        names = _short(" | ".join(stage.name for stage in self.stages))
        parts = [_short(self._head), repr(names), f"{self.elapsed:.3f} s"]
        if self.stdout is not None:
            parts.append(f"{len(self.stdout)} bytes of stdout")
        return f"Result({', '.join(parts)})"

    def __str__(self) -> str:
        return f"{self._head} ({self.elapsed:.3f}s)\n{table(_HEADER, self._rows, _RIGHT)}"

    def _repr_html_(self) -> str:
        """Return the table as Jupyter shows it."""
        return f"<p>{html(self._head)} ({self.elapsed:.3f}s)</p>{html_table(_HEADER, self._rows, _RIGHT)}"

    @property
    def _head(self) -> str:
        return "ok" if self.error is None else f"failed: {text_of(self.error)}"

    @property
    def _rows(self) -> list[list[str]]:
        return [
            [
                stage.name,
                stage.kind,
                "-" if stage.returncode is None else str(stage.returncode),
                _seconds(stage.elapsed),
                _seconds(stage.user_time),
                _seconds(stage.system_time),
                "-" if stage.max_rss is None else f"{stage.max_rss / 2**20:.1f}M",
                "" if stage.error is None else text_of(stage.error) or type(stage.error).__name__,
            ]
            for stage in self.stages
        ]


def _short(text: str) -> str:
    """Return a text as one line of at most some 200 characters."""
    text = printable(text, keep="")
    return text if len(text) <= _SHOWN_TEXT else f"{text[: _SHOWN_TEXT - 3]}..."


_HEADER = ("stage", "kind", "exit", "wall", "user", "system", "rss", "error")
_RIGHT = frozenset({2, 3, 4, 5, 6})


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}s"


def _error_fields(error: BaseException) -> dict[str, Any]:
    return {"type": type(error).__name__, "message": text_of(error)}


def _stage_fields(stage: StageResult) -> dict[str, Any]:
    fields: dict[str, Any] = {field: getattr(stage, field) for field in type(stage).__match_args__}
    fields["error"] = None if stage.error is None else _error_fields(stage.error)
    fields["stderr"] = stage.stderr.decode("utf-8", "backslashreplace")
    return fields

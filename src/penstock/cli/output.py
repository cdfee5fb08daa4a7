"""Print the outcome of a run: its error, and on demand a table, a JSON object or its events.

Everything goes to stderr, because stdout belongs to the pipeline. A stderr without a reader is not a reason
to fail: text that cannot be written is dropped.

Out of scope: starting or steering a run.
"""

from __future__ import annotations

import contextlib
import select
import signal
from typing import TYPE_CHECKING, Any, Final

from penstock import (
    ExitError,
    PenstockError,
    PipelineError,
    PipelineTimeout,
    StartError,
    is_epipe,
    is_sigpipe,
    print_above,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from penstock import Event, Result, Snapshot, StageResult
    from penstock.cli.runner import RunOutcome
    from penstock.cli.syntax import PipelineSyntaxError

__all__ = [
    "JsonProgress",
    "exit_status",
    "mistake_fields",
    "outcome_fields",
    "print_err",
    "print_error",
    "print_event",
    "print_stop",
    "show_table",
    "write_json",
]

_STAGE_FIELDS: Final = (
    *("id", "name", "kind", "branch", "pid", "returncode", "signal"),
    *("user_time", "system_time", "max_rss", "elapsed"),
)
_EDGE_FIELDS: Final = ("source", "source_id", "target", "target_id", "kind", "bytes")
_JSON_INTERVAL_S: Final = 0.95
"""Seconds between two lines of --progress=json; snapshots come ten times a second."""


def printable(text: str) -> str:
    """Return the text with everything escaped that a terminal would obey; LF and TAB stay.

    As the library does it for the text of its errors.
    """
    kept = "\n\t"
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text)


def print_err(text: str) -> None:
    """Write a text and a line feed to stderr, with control characters escaped."""
    _write_err(printable(text))


def _write_err(text: str) -> None:
    """Write a text and a line feed to stderr in one write, above a live view if there is one."""
    with contextlib.suppress(OSError, ValueError):
        print_above(text)


def exit_status(outcome: RunOutcome) -> int:
    """Return the exit status, as a shell with `pipefail` would.

    0 for a success; 128 + N if signal N ended us; 124 for a timeout. For a failed command its own status, or
    128 + its signal. 127 for a program that does not exist, 126 for one that cannot be executed. 141 if the
    reader of our stdout has gone; otherwise 1.
    """
    if outcome.signum is not None:
        return 128 + outcome.signum
    error = outcome.error
    if error is None:
        return 0
    if isinstance(error, PipelineTimeout):
        return 124
    if isinstance(error, StartError) and isinstance(error.cause, OSError):
        return 127 if isinstance(error.cause, FileNotFoundError) else 126
    if isinstance(error.cause, ExitError):
        code = error.cause.returncode
        return 128 - code if code < 0 else code or 1
    return 128 + signal.SIGPIPE if _reader_has_gone(error) else 1


def print_error(outcome: RunOutcome, *, verbose: bool) -> None:
    """Print why the run failed; print nothing if a signal ended us, or if only our reader has gone."""
    error = outcome.error
    if error is None or outcome.signum is not None or is_sigpipe(error) or _reader_has_gone(error):
        return
    print_err(_sentence(error))
    # The end of a command's stderr is such a note, and was shown as it came (--tee-stderr).
    for note in () if isinstance(error.cause, ExitError) else getattr(error, "__notes__", ()):
        print_err(str(note))
    if not isinstance(error, StartError | PipelineTimeout) and not isinstance(error.cause, PenstockError):
        import traceback  # noqa: PLC0415 - for an error of user code

        frames = traceback.extract_tb(error.cause.__traceback__)
        if verbose and frames:
            print_err("".join(traceback.format_exception(error.cause)).rstrip())
        elif frames:
            print_err(f"  in {frames[-1].filename}, line {frames[-1].lineno}")


def _sentence(error: PipelineError) -> str:
    """Return the error in one line, with the type of a function's exception: `KeyError: 1`, not `1`."""
    cause = error.cause
    if isinstance(error, StartError) and isinstance(cause, OSError) and cause.strerror is not None:
        named = isinstance(cause.filename, str) and cause.filename != error.stage
        where = f": {cause.filename}" if named else ""
        return f"{error.stage}: {cause.strerror}{where}"
    if isinstance(cause, ExitError):
        return f"{error.stage}: {cause}"
    if isinstance(error, PipelineTimeout):
        return f"penstock: {error}"
    if isinstance(error, StartError) or isinstance(cause, PenstockError):
        return str(error)
    if isinstance(cause, OSError) and error.index is None and cause.strerror is not None:
        return f"{error.stage}: {cause.strerror}"
    import traceback  # noqa: PLC0415 - as above

    return f"{error.stage}: {''.join(traceback.format_exception_only(cause)).strip()}"


def _reader_has_gone(error: BaseException) -> bool:
    """Return whether a Python stage failed because the reader of our stdout has gone."""
    if not is_epipe(error):
        return False
    poll = select.poll()
    poll.register(1, select.POLLOUT)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def write_json(fields: Mapping[str, Any], file: TextIO) -> bool:
    """Write an object in one line of ASCII. Return whether that was possible; if not, print why."""
    import json  # noqa: PLC0415 - only --json needs it

    try:
        file.write(f"{json.dumps(fields)}\n")
        file.flush()
    except OSError as error:
        print_err(f"penstock: --json: {file.name}: {error.strerror}")
        return False
    return True


def outcome_fields(outcome: RunOutcome) -> dict[str, Any]:
    """Return the whole result for --json."""
    result, error = outcome.result, outcome.error
    stages, edges = ((), ()) if result is None else (result.stages, result.edges)
    return {
        "ok": outcome.error is None and outcome.signum is None,
        "status": exit_status(outcome),
        "elapsed": None if result is None else result.elapsed,
        "error": None if error is None else _error_fields(error),
        "stages": [_stage_fields(stage) for stage in stages],
        "edges": [{field: getattr(edge, field) for field in _EDGE_FIELDS} for edge in edges],
    }


def mistake_fields(mistake: PipelineSyntaxError) -> dict[str, Any]:
    """Return the same for a line that cannot be run."""
    error = {"type": "PipelineSyntaxError", "message": mistake.message, "stage": None, "index": None}
    return {
        "ok": False,
        "status": mistake.status,
        "elapsed": None,
        "error": {**error, "cause": None},
        "stages": [],
        "edges": [],
    }


def _error_fields(error: PipelineError) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "message": str(error),
        "stage": error.stage,
        "index": error.index,
        "cause": {"type": type(error.cause).__name__, "message": str(error.cause)},
    }


def _stage_fields(stage: StageResult) -> dict[str, Any]:
    error = stage.error
    return {
        **{field: getattr(stage, field) for field in _STAGE_FIELDS},
        "error": None if error is None else {"type": type(error).__name__, "message": str(error)},
        "stderr": stage.stderr.decode("utf-8", "backslashreplace"),
    }


class JsonProgress:
    """Prints snapshots to stderr, one JSON object a line: one a second, and the last one."""

    def __init__(self) -> None:
        self._due = 0.0

    def __call__(self, snapshot: Snapshot) -> None:
        """Print it, if one is due."""
        import json  # noqa: PLC0415 - only --progress=json needs it

        if snapshot.done or snapshot.elapsed >= self._due:
            self._due = snapshot.elapsed + _JSON_INTERVAL_S
            _write_err(json.dumps(snapshot.to_dict()))


def show_table(result: Result) -> None:
    """Print one row for each stage: exit, wall, user and system time, peak RSS."""
    from rich.console import Console  # noqa: PLC0415 - only --stats needs it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    table.add_column("stage", overflow="fold")
    for heading in ("exit", "wall", "user", "system", "peak RSS"):
        table.add_column(heading, justify="right", no_wrap=True)
    for stage in result.stages:
        table.add_row(
            Text(printable(stage.name)),  # rich would take parts of a plain str for markup
            Text(_exit(stage), style="" if stage.error is None else "red"),
            *(Text(_seconds(time)) for time in (stage.elapsed, stage.user_time, stage.system_time)),
            Text("-" if stage.max_rss is None else f"{stage.max_rss / 2**20:.1f} MiB"),
        )
    console = Console(stderr=True, highlight=False)
    with console.capture() as capture:  # rich itself would exit the process if stderr has no reader
        console.print(table)
    _write_err(capture.get().rstrip("\n"))


def _exit(stage: StageResult) -> str:
    if stage.signal is not None:
        with contextlib.suppress(ValueError):  # a real-time signal has no name
            return signal.Signals(stage.signal).name
    if stage.returncode is not None:
        return str(stage.returncode)
    return "-" if stage.error is None else type(stage.error).__name__


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} s"


def print_stop(event: Event) -> None:
    """Print a line about a command that is stopped, because the run waits for it."""
    if event.kind == "stopped":
        print_event(event)


def print_event(event: Event) -> None:
    """Print a line about an event: a stage started, ended, or emitted a message."""
    if event.kind in {"run-start", "run-end", "cancelled"}:  # a stage's exit and the run's error say the same
        return
    if event.kind == "failed" and event.elapsed is None:  # as above
        return
    pid = event.context.get("pid") if event.kind == "start" else None
    print_err(f"penstock: {event.stage}: {event.message}{'' if pid is None else f', pid {pid}'}")

"""Run a line from start to end: its files, its pipeline, and the signals that may end it early.

Out of scope: output of any kind, and the exit status (`output`).
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from penstock import INHERIT, Pipeline, PipelineError, appending
from penstock.cli.resolver import resolve
from penstock.cli.signals import Signals, Stopped
from penstock.cli.syntax import PipelineSyntaxError
from penstock.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from penstock import Event, Plan, Result, Run
    from penstock.cli.loop_run import LoopRun
    from penstock.cli.syntax import Line, Redirection

__all__ = ["RunOutcome", "execute", "plan"]

_FLAGS: Final = {
    "<": os.O_RDONLY,
    ">": os.O_WRONLY | os.O_CREAT,
    ">>": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
}


class RunOutcome(NamedTuple):
    """The outcome of a run. `signum` is the signal that ended it; `result` is None if it never started."""

    result: Result | None
    error: PipelineError | None
    signum: int | None = None


def execute(  # noqa: PLR0913 - what the command line can set
    line: Line,
    *,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    idle_timeout: float | None = None,
    stderr: Any = INHERIT,
    on_event: Callable[[Event], object] | None = None,
    progress: Any = None,
) -> RunOutcome:
    """Run a line on our own stdin, stdout and stderr, and wait for it.

    Raises `PipelineSyntaxError` before anything starts. Closes the files that it opened.
    """
    terminal = Terminal.find()
    options = {
        "cwd": cwd,
        "env": env,
        "timeout": timeout,
        "idle_timeout": idle_timeout,
        "stderr": stderr,
        "on_event": on_event,
        "progress": progress,
    }
    result: Result | None = None
    error: PipelineError | None = None
    signals = Signals(terminal)
    with ExitStack() as files, suppress(Stopped), signals:
        # First without opening anything: a mistake in the last stage must not truncate a file.
        _explain(_pipeline(line, _path, **options), line)
        pipeline = _pipeline(line, partial(_open, files, []), **options)
        try:
            result = signals.start(partial(_start, pipeline, line)).wait()
        except PipelineError as raised:
            error, result = raised, raised.result
    return RunOutcome(result, error, signals.signum)


def _start(pipeline: Pipeline, line: Line) -> Run | LoopRun:
    """Start the pipeline; in an event loop if a stage of it is an async function."""
    try:
        return pipeline.start()
    except TypeError:  # the only kind of mistake that is left: it can only run in an event loop
        from penstock.cli.loop_run import LoopRun  # noqa: PLC0415 - imports asyncio

        try:
            return LoopRun(pipeline)
        except ImportError as error:
            raise PipelineSyntaxError(str(error), 0, len(line.text), status=1) from error


def plan(line: Line) -> Plan:
    """Return the plan of a line without opening or starting anything. Raises `PipelineSyntaxError`."""
    return _explain(_pipeline(line, _path, stderr=INHERIT), line)


def _pipeline(line: Line, open_file: Callable[[Redirection], Any], **options: Any) -> Pipeline:
    resolved = resolve(line, open_file=open_file)
    try:
        return Pipeline(*resolved.stages, stdin=resolved.stdin, stdout=resolved.stdout, **options)
    except (TypeError, ValueError) as error:
        raise PipelineSyntaxError(str(error), 0, len(line.text)) from error


def _explain(pipeline: Pipeline, line: Line) -> Plan:
    """Return the plan; raise `PipelineSyntaxError` for a mistake that it finds, such as `cat < f > f`."""
    try:
        return pipeline.explain()
    except ValueError as error:
        message = str(error).partition("; ")[0]  # then it says what to write in Python
        raise PipelineSyntaxError(message, 0, len(line.text)) from error


def _path(redirection: Redirection) -> str | appending:
    assert redirection.target is not None
    text = redirection.target.text
    return appending(text) if redirection.kind.endswith(">>") else text


def _open(files: ExitStack, outputs: list[int], redirection: Redirection) -> int | str:
    """Open a file as a shell does: relative to our own folder, and created with the modes of the umask.

    A file that is among the `outputs` already is not opened again: its two positions would differ, and each
    output would overwrite the other.

    A FIFO is left to the run, whose timeout bounds the wait for its other end, except for stderr.
    """
    target = redirection.target
    assert target is not None
    try:
        if not redirection.kind.startswith("2") and stat.S_ISFIFO(os.stat(target.text).st_mode):  # noqa: PTH116 - as os.open below
            return target.text
    except (OSError, ValueError):
        pass  # os.open below raises it again, or creates the file
    try:
        fd = os.open(
            target.text, _FLAGS[redirection.kind.removeprefix("2")] | os.O_CLOEXEC | os.O_NOCTTY, 0o666
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PipelineSyntaxError(f"{target.text}: {reason}", target.start, target.end, status=1) from error
    files.callback(os.close, fd)
    if redirection.kind == "<" or not stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    for other in outputs:
        if os.path.samestat(os.fstat(fd), os.fstat(other)):
            return other
    outputs.append(fd)
    if redirection.kind.endswith(">") and not redirection.kind.endswith(">>"):
        os.ftruncate(fd, 0)
    return fd

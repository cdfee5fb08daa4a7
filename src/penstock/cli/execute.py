"""One run of a line from start to end, with the signals that may end it before.

A signal never unwinds the stack while a run is going: its handler cancels the run, and the thread that waits
for the run goes on to reap it. Before the run is started there is nothing to reap, so `Stopped` is raised
there; while it is being started the signal is remembered.

Ctrl-C on a terminal is sent to all processes of the foreground group, our commands among them. They are given
a moment to end by it in their own way (`ping` prints its figures) before the run is cancelled. Without a
terminal the commands lead groups of their own, a SIGINT reaches us alone, and the run is cancelled at once.

What may not live here: output of any kind, and the exit status; that is `report`.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from penstock import INHERIT, Pipeline, PipelineError
from penstock.cli.line import Mistake
from penstock.cli.resolve import resolve
from penstock.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

    from penstock import Event, Plan, Result, Run
    from penstock.cli.line import Line, Redirection

__all__ = ["Ending", "execute", "plan"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_MOMENT: Final = 0.5
"""Seconds that the commands have to end by a Ctrl-C that reached them too."""

_FLAGS: Final = {
    "<": os.O_RDONLY,
    ">": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    ">>": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended. `signum` is the signal that ended it, `result` None where it was not even begun."""

    result: Result | None
    error: PipelineError | None
    signum: int | None = None


class Stopped(KeyboardInterrupt):
    """A signal asked us to end before anything was started."""


class Signals:
    """Turns the signals that ask a process to end into the cancellation of its run. Main thread only."""

    def __init__(self, terminal: Terminal | None) -> None:
        self.signum: int | None = None
        self._terminal = terminal
        self._starting = False
        self._run: Run | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for signum in _SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup, or the background of a simple shell
                self._before[signum] = signal.signal(signum, self._arrived)
        self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._moment_is_over)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def start(self, pipeline: Pipeline) -> Run:
        """Start the pipeline, and cancel it at once where a signal came meanwhile."""
        self._starting = True
        run = self._run = pipeline.start()
        if self.signum is not None:
            run.cancel()
        return run

    def _arrived(self, signum: int, _frame: FrameType | None) -> None:
        interrupt = signum == signal.SIGINT and self._terminal is not None
        if interrupt and self._terminal is not None and self._terminal.taken_over:
            return
        first = self.signum is None
        self.signum = signum if self.signum is None else self.signum
        if self._run is None:
            if not self._starting:
                raise Stopped(signum)
        elif interrupt and first:
            # A timer of the kernel: a handler must not take locks, which a thread's start would.
            signal.setitimer(signal.ITIMER_REAL, _MOMENT)
        else:
            self._run.cancel()

    def _moment_is_over(self, _signum: int, _frame: FrameType | None) -> None:
        if self._run is not None:
            self._run.cancel()


def execute(
    line: Line,
    *,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    on_event: Callable[[Event], object] | None = None,
) -> Ending:
    """Run a line on our own stdin, stdout and stderr, and wait for it; `Mistake` before it starts."""
    terminal = Terminal.find()
    options = {"cwd": cwd, "env": env, "timeout": timeout, "on_event": on_event}
    with ExitStack() as files, Signals(terminal) as signals:
        try:
            # Once without opening anything: a mistake in the last stage must not empty the file of the first.
            _pipeline(line, _path, process_group=True, **options)
            pipeline = _pipeline(line, partial(_open, files), process_group=terminal is None, **options)
            ending = _wait(pipeline, signals)
        except Stopped:
            return Ending(None, None, signals.signum)
    if terminal is not None and ending.error is not None:
        terminal.restore()
    return ending


def plan(line: Line) -> Plan:
    """Tell how the line would be carried; opens and starts nothing. Raises `Mistake`."""
    return _pipeline(line, _path, process_group=True).explain()


def _wait(pipeline: Pipeline, signals: Signals) -> Ending:
    try:
        result = signals.start(pipeline).wait()
    except PipelineError as error:
        return Ending(error.result, error, signals.signum)
    return Ending(result, result.error, signals.signum)


def _pipeline(
    line: Line, open_file: Callable[[Redirection], Any], *, process_group: bool, **options: Any
) -> Pipeline:
    resolved = resolve(line, open_file=open_file, process_group=process_group)
    try:
        return Pipeline(
            *resolved.stages, stdin=resolved.stdin, stdout=resolved.stdout, stderr=INHERIT, **options
        )
    except (TypeError, ValueError) as error:
        raise Mistake(str(error), 0, len(line.text)) from error


def _path(redirection: Redirection) -> str:
    assert redirection.target is not None
    return redirection.target.text


def _open(files: ExitStack, redirection: Redirection) -> int:
    """Open a file as a shell does: relative to our own folder, and created with the umask's modes."""
    target = redirection.target
    assert target is not None
    try:
        fd = os.open(
            target.text, _FLAGS[redirection.kind.removeprefix("2")] | os.O_CLOEXEC | os.O_NOCTTY, 0o666
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Mistake(f"{target.text}: {reason}", target.start, target.end, status=1) from error
    files.callback(os.close, fd)
    return fd

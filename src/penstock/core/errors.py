"""Every exception of the package, and whose fault each one tells of.

Foreign exceptions (`OSError` from a spawn, whatever a function raised) are never replaced: they are the
`cause` of a `PipelineError`, which adds the stage. What may not live here: any decision about which error a
run reports (that is `verdict`), and any I/O.
"""

# ruff: noqa: N818 - these names say what happened, as PipelineTimeout does; they are public

from __future__ import annotations

import errno
import os
import signal as signals
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.core.result import Result

__all__ = [
    "Cancelled",
    "ClosedPipe",
    "ExitError",
    "FinishEarly",
    "LineTooLong",
    "MemoryLimitExceeded",
    "PenstockError",
    "PipelineCancelled",
    "PipelineError",
    "PipelineTimeout",
    "RemoteError",
    "StartError",
    "WorkerDied",
]


class PenstockError(Exception):
    """The root of all errors that penstock itself defines.

    A mistake in an argument is not one of them: that is a `TypeError` or `ValueError`, raised before anything
    starts.
    """


class PipelineError(PenstockError):
    """A run failed, and this stage is why.

    `stage` is its name, `index` its place among the leaf stages (None for the endpoints `stdin` and
    `stdout`), `cause` the error itself (also `__cause__`; the very object where a function raised it) and
    `result` everything else that is known of the run. You do not get it for a failure that the verdict
    forgives, nor for `FinishEarly`.
    """

    def __init__(
        self, stage: str, cause: BaseException, *, index: int | None = None, result: Result | None = None
    ) -> None:
        # Not super(): a PipelineTimeout is an OSError too, which would take these for its errno and strerror.
        Exception.__init__(self, stage, cause)
        self.stage = stage
        self.cause = cause
        self.index = index
        self.result = result
        self.__cause__ = cause

    def __str__(self) -> str:
        return f"{self.stage}: {self.cause}"

    def __reduce__(self) -> tuple[Any, ...]:
        # The result, which holds this error in turn, belongs to the state: arguments that lead back to the
        # object being pickled would never end.
        state = {name: value for name, value in vars(self).items() if name not in {"stage", "cause", "index"}}
        return _restore, (type(self), self.stage, self.cause, self.index), state


class StartError(PipelineError):
    """A stage could not be started; those before it were cancelled and reaped. Nothing of the run is left."""

    def __str__(self) -> str:
        return f'starting stage "{self.stage}": {self.cause}'


class PipelineTimeout(PipelineError, TimeoutError):
    """The deadline ended the run; `stage` is the earliest stage that was still running.

    You do not get it where a stage failed by itself before the deadline and stands earlier in the pipeline.
    """


class PipelineCancelled(PipelineError):
    """`Run.cancel()` ended the run; `cause` is the reason given, if that was an exception."""


class MemoryLimitExceeded(PenstockError):
    """A stage was killed because its processes used more memory than allowed; both figures are bytes."""

    def __init__(self, limit: int, used: int) -> None:
        super().__init__(limit, used)
        self.limit = limit
        self.used = used

    def __str__(self) -> str:
        return f"memory limit of {self.limit} bytes exceeded: {self.used} bytes used"


class LineTooLong(PenstockError):
    """A line was longer than the line function's `max_line` bytes. The lines before it were delivered."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"a line is longer than {self.limit} bytes"


class ExitError(PenstockError, subprocess.CalledProcessError):
    """A command exited with a status outside its `ok_codes`, or by a signal.

    `returncode` is as in subprocess (negative for a signal), `signal` the signal's number or None, `cmd` the
    arguments as they may be shown (secrets are `***`), `stderr` the captured bytes (empty where stderr was
    not captured). You do not get it for a program that could not be started (that is the `OSError` in a
    `StartError`), nor where the run was cancelled while the command ran (that is the reason of the
    cancellation).
    """

    def __init__(self, returncode: int, cmd: Sequence[str] = (), stderr: bytes = b"") -> None:
        subprocess.CalledProcessError.__init__(self, returncode, list(cmd), None, stderr)
        # Without stderr, which may be 64 KiB, so that the repr stays short; a pickle has it as an attribute.
        self.args = (returncode, tuple(cmd))

    @property
    def signal(self) -> int | None:
        """The number of the signal that ended the command, or None where it exited."""
        return -self.returncode if self.returncode < 0 else None

    def __str__(self) -> str:
        if self.signal is None:
            return f"exit status {self.returncode}"
        # The C library's description, as Go and shells print it: "broken pipe", "killed".
        return f"signal: {(signals.strsignal(self.signal) or str(self.signal)).lower()}"


class WorkerDied(ExitError):
    """The process of a stage made with `isolate="process"` ended before the stage had.

    By a signal (a crash in C code, the kernel's out-of-memory killer), or by `os._exit`. `pid` was the
    process's. You do not get it for what the function raised, `SystemExit` included, nor where the run was
    cancelled.
    """

    def __init__(self, returncode: int, stage: str, pid: int) -> None:
        super().__init__(returncode, (stage,))
        self.pid = pid

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.returncode, self.cmd[0], self.pid), vars(self)

    def __str__(self) -> str:
        return f"its worker process died: {super().__str__()}"


class RemoteError(PenstockError):
    """Stands for an exception of a stage with `isolate="process"` that could not be brought back as it was.

    Its pickle could not be made, or not be loaded. `type_name` is its class, with the module, `text` its
    `str()`; the remote traceback is a note, as it is with every exception from there.
    """

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(type_name, text)
        self.type_name = type_name
        self.text = text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}" if self.text else self.type_name


class FinishEarly(Exception):
    """Raised by a function to end its stage as a success, with input left unread. Never reported."""


class ClosedPipe(BrokenPipeError):
    """A function wrote to an in-memory pipe whose reader has gone: what EPIPE is for a descriptor."""

    def __init__(self) -> None:
        super().__init__(errno.EPIPE, f"{os.strerror(errno.EPIPE)}: the next stage has closed its input")

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError's own would call the class with errno and text.
        return type(self), (), vars(self)


class Cancelled(PenstockError):
    """The reason that a cancelled stage reports where nobody gave an exception of their own."""


def _restore(kind: type[PipelineError], stage: str, cause: BaseException, index: int | None) -> PipelineError:
    return kind(stage, cause, index=index)


def checked_error(what: str, error: object) -> BaseException | None:
    """What a function of the caller's gave for an error; TypeError naming `what` where it is none."""
    if error is None or isinstance(error, BaseException):
        return error
    raise TypeError(f"{what} must return an exception or None, not {type(error).__name__}")


def text_of(error: BaseException | None) -> str:
    """Its text; where it has none the name of its type: `__str__` is the caller's code, and may raise."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - whatever it raises
        return type(error).__name__

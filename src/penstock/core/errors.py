"""Every exception of the package, and whose fault each one reports.

Foreign exceptions (an `OSError` from a spawn, an exception that a function raised) are never replaced: they
are the `cause` of a `PipelineError`, which adds the stage.

Out of scope: I/O, and the decision which error a run reports (`verdict`).
"""

# ruff: noqa: N818 - these names say what happened, as PipelineTimeout does; they are public

from __future__ import annotations

import errno
import os
import signal as signals
import subprocess

from penstock.core.placeholders import masked
from penstock.core.printable import printable
from penstock.core.public import exported
from penstock.core.texts import last_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from penstock.core.result import Result

__all__ = [
    "Cancelled",
    "CaptureLimitExceeded",
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
    "SpoolLimitExceeded",
    "Stalled",
    "StartError",
    "WorkerDied",
]


@exported
class PenstockError(Exception):
    """The root of all errors that penstock itself defines.

    An invalid argument raises a `TypeError` or `ValueError` instead, before anything starts.
    """


@exported
class PipelineError(PenstockError):
    """A run failed, and this stage is the reason.

    `stage` is the stage's name and `index` its place among the leaf stages (None for the endpoints `stdin`
    and `stdout`). `cause`, also `__cause__`, is the exception object that the stage raised. `result` is the
    `Result` of the run. Not raised for failures that the verdict forgives, or for `FinishEarly`.

    `str()` is `stage: cause`. For a command that wrote to a captured stderr its last line that is not blank
    follows, at most 120 characters, with control characters escaped; a note has the last 20 lines. The
    exception of a Python stage is shown with its type: `parse: ValueError: bad line`.

    >>> from penstock import DEVNULL, command
    >>> try:
    ...     (command("sh", "-c", "echo no key >&2; exit 3") | command("cat")).run(stdout=DEVNULL)
    ... except PipelineError as error:
    ...     print(error)
    ...     print(error.stage, error.index, error.cause.returncode)
    sh: exit status 3: no key
    sh 0 3
    """

    _by_python = False
    """Whether the stage is a Python stage, whose exception is shown with its type."""

    def __init__(
        self,
        stage: str | None,
        cause: BaseException,
        *,
        index: int | None = None,
        result: Result | None = None,
    ) -> None:
        # Not super(): a PipelineTimeout is an OSError too, which would take these for its errno and strerror.
        Exception.__init__(self, stage, cause)
        self.stage = stage
        self.cause = cause
        self.index = index
        self.result = result
        self.__cause__ = cause

    def __str__(self) -> str:
        cause = self.cause
        if self._by_python:
            return printable(f"{self.stage}: {_with_type(cause)}")
        text = printable(f"{self.stage}: {text_of(cause) or type(cause).__name__}")
        said = last_line(cause.stderr) if isinstance(cause, ExitError) and cause.stderr else ""
        return f"{text}: {said}" if said else text

    def __repr__(self) -> str:
        return masked(Exception.__repr__(self))

    def __reduce__(self) -> tuple[Any, ...]:
        # The result, which holds this error in turn, belongs to the state: arguments that lead back to the
        # object being pickled would never end.
        state = {name: value for name, value in vars(self).items() if name not in {"stage", "cause", "index"}}
        return _restore_error, (type(self), self.stage, self.cause, self.index), state


@exported
class StartError(PipelineError):
    """A stage could not be started. The stages before it were cancelled and reaped; nothing is left."""

    def __str__(self) -> str:
        return printable(f'starting stage "{self.stage}": {text_of(self.cause) or type(self.cause).__name__}')


@exported
class PipelineTimeout(PipelineError, TimeoutError):
    """The deadline ended the run. `stage` and `index` are None, because no stage is to blame.

    `str()` says how long the run was allowed to take. Not raised if an earlier stage of the pipeline had
    failed by itself before the deadline.
    """

    def __str__(self) -> str:
        return printable(text_of(self.cause) or type(self.cause).__name__)


@exported
class PipelineCancelled(PipelineError):
    """`Run.cancel()` ended the run; `stage` and `index` are None, because no stage is to blame.

    `cause` is the reason passed to it, if that was an exception, and `str()` is the reason alone.
    """

    def __str__(self) -> str:
        return printable(text_of(self.cause) or type(self.cause).__name__)


@exported
class MemoryLimitExceeded(PenstockError):
    """A stage was killed because its processes used more memory than allowed.

    `limit` and `used` are bytes.
    """

    def __init__(self, limit: int, used: int) -> None:
        super().__init__(limit, used)
        self.limit = limit
        self.used = used

    def __str__(self) -> str:
        return f"memory limit of {self.limit} bytes exceeded: {self.used} bytes used"


@exported
class CaptureLimitExceeded(PenstockError):
    """The last stage wrote more than `limit` bytes, the option `max_output`, to a stdout that is captured.

    It is the cause of the run's `PipelineError`; the first `limit` bytes are in `error.result.stdout`.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"more than {self.limit} bytes of output, the limit of max_output"


@exported
class SpoolLimitExceeded(PenstockError):
    """A graph had to hold more than `limit` bytes for a reader that waits for something else first.

    `limit` is the option `spool`, or its default: 10 GiB or half of the folder's free space.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"more than {self.limit} bytes held for a reader that waits for another input, the limit of spool"
            ": give a larger spool=, or change the graph so that none of its branches waits for another"
        )


@exported
class Stalled(PenstockError):
    """A graph waits for itself, and `spool=0` forbids to hold what is in the way.

    `str()` says who waits for whom.
    """


@exported
class LineTooLong(PenstockError):
    """A line was longer than `limit` bytes, the stage's `max_line`. The lines before it were delivered."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"a line is longer than {self.limit} bytes"


@exported
class ExitError(PenstockError, subprocess.CalledProcessError):
    """A command exited with a status outside its `ok_codes`, or was killed by a signal.

    `returncode` is as in subprocess (negative for a signal), `signal` the signal's number or None. `cmd` is
    the list of arguments, with `***` for secrets. `stderr` is the captured bytes, empty if stderr was not
    captured. Not raised for a program that could not be started (an `OSError` in a `StartError`), or for a
    command that was cancelled while it ran (the reason of the cancellation).

    `broken_pipe` is whether the status is one of the command's `pipe_codes`, so that it says the same as
    SIGPIPE: the reader had gone.
    """

    broken_pipe = False

    def __init__(self, returncode: int, cmd: Sequence[str] = (), stderr: bytes = b"") -> None:
        subprocess.CalledProcessError.__init__(self, returncode, list(cmd), None, stderr)
        # Without stderr, which may be 64 KiB, so that the repr stays short; a pickle keeps the attribute.
        self.args = (returncode, tuple(cmd))

    @property
    def signal(self) -> int | None:
        """The number of the signal that ended the command, or None if it exited."""
        return -self.returncode if self.returncode < 0 else None

    def __str__(self) -> str:
        if self.signal is None:
            return f"exit status {self.returncode}"
        # The C library's description, as Go and shells print it: "broken pipe", "killed".
        known = signals.strsignal(self.signal) if self.signal < signals.NSIG else None
        return f"signal {self.signal}" if known is None else f"signal: {known.lower()}"


@exported
class WorkerDied(ExitError):
    """The worker process of a stage with `isolate="process"` ended before the stage had.

    A signal ended it (a crash in C code, the kernel's out-of-memory killer), or `os._exit`. `pid` is the
    worker's pid. Not raised for an exception of the function, `SystemExit` included, or in a cancelled run.
    """

    def __init__(self, returncode: int, stage: str, pid: int) -> None:
        super().__init__(returncode, (stage,))
        self.pid = pid

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.returncode, self.cmd[0], self.pid), vars(self)

    def __str__(self) -> str:
        return f"its worker process died: {super().__str__()}"


@exported
class RemoteError(PenstockError):
    """A stand-in for an exception of a stage with `isolate="process"` that could not be pickled or unpickled.

    `type_name` is the module and name of its class, `text` its `str()`. A note holds the remote traceback, as
    for every exception from a worker process.
    """

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(type_name, text)
        self.type_name = type_name
        self.text = text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}" if self.text else self.type_name


@exported
class FinishEarly(Exception):
    """Raise this in a function to end its stage as a success, with input left unread. Never reported."""


@exported
class ClosedPipe(BrokenPipeError):
    """A function wrote to an in-memory pipe whose reader has gone, as EPIPE for a file descriptor."""

    def __init__(self) -> None:
        super().__init__(errno.EPIPE, f"{os.strerror(errno.EPIPE)}: the next stage has closed its input")

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError's own would call the class with errno and text.
        return type(self), (), vars(self)


@exported
class Cancelled(PenstockError):
    """The reason that a cancelled stage reports if the caller gave no exception."""


@exported
def _restore_error(
    kind: type[PipelineError], stage: str | None, cause: BaseException, index: int | None
) -> PipelineError:
    return kind(stage, cause, index=index)


def _with_type(error: BaseException) -> str:
    """Return `type: message`, or the type alone if there is no message, as for most assertions."""
    text = text_of(error)
    name = type(error).__name__
    return f"{name}: {text}" if text and text != name else name


def error_of_python(kind: type[PipelineError], stage: str, cause: BaseException, index: int) -> PipelineError:
    """Return an error of a Python stage."""
    error = kind(stage, cause, index=index)
    error._by_python = True  # noqa: SLF001 - not an argument, because users need not know of it
    return error


def checked_error(what: str, error: object) -> BaseException | None:
    """Return an error that user code returned; raise TypeError, naming `what`, if it is not an exception."""
    if error is None or isinstance(error, BaseException):
        return error
    raise TypeError(f"{what} must return an exception or None, not {type(error).__name__}")


def raised_by(error: BaseException, thing: object) -> bool:
    """Return whether a method of `thing` raised `error`: its frame is the innermost of the traceback."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and traceback.tb_frame.f_locals.get("self") is thing


def text_of(error: BaseException | None) -> str:
    """Return the error's text, or the name of its type if `__str__`, which is user code, raises."""
    try:
        return masked(str(error))
    except Exception:  # noqa: BLE001 - whatever it raises
        return type(error).__name__

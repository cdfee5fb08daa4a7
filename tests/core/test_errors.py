"""The exceptions as users rely on them: texts, causes, families, notes, and a way through pickle."""

from __future__ import annotations

import copy
import errno
import pickle
import signal
import subprocess
import traceback
from typing import Any

import pytest

from penstock.core import errors
from penstock.core.errors import (
    Cancelled,
    ClosedPipe,
    ExitError,
    FinishEarly,
    LineTooLong,
    MemoryLimitExceeded,
    PenstockError,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    StartError,
    WorkerDied,
)
from penstock.core.matchers import is_epipe, is_pipe_error
from penstock.core.result import Result, StageResult

PIPELINE_ERRORS = [PipelineError, StartError, PipelineTimeout, PipelineCancelled]

ONE_OF_EACH: list[Exception] = [
    PenstockError("some text"),
    PipelineError("sort", ValueError("bad line"), index=2),
    StartError("sort", FileNotFoundError(2, "no such program on PATH: 'sort'"), index=0),
    PipelineTimeout("sort", Cancelled("after 2 seconds"), index=1),
    PipelineCancelled("sort", Cancelled("cancelled"), index=1),
    PipelineError("outer", PipelineError("inner", ExitError(-signal.SIGPIPE, ["yes"]), index=0), index=1),
    PipelineError("stdin", OSError(errno.ENOSPC, "No space left on device")),
    MemoryLimitExceeded(1000, 1001),
    LineTooLong(16),
    ExitError(3, ["sh", "-c", "exit 3"], b"oh no\n"),
    ExitError(-9),
    FinishEarly(),
    FinishEarly("seen enough"),
    ClosedPipe(),
    Cancelled("another stage failed"),
]


# --- texts


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PipelineError("sort", ValueError("bad line")), "sort: bad line"),
        (PipelineError("sort", ExitError(3)), "sort: exit status 3"),
        (PipelineError("yes", ExitError(-signal.SIGPIPE)), "yes: signal: broken pipe"),
        (PipelineError("outer", PipelineError("inner", ExitError(1))), "outer: inner: exit status 1"),
        (StartError("sort", OSError("no such program")), 'starting stage "sort": no such program'),
        (PipelineTimeout(None, TimeoutError("2 seconds are over")), "2 seconds are over"),
        (PipelineTimeout("sort", TimeoutError()), "TimeoutError"),
        (PipelineCancelled(None, Cancelled("cancelled")), "cancelled"),
        (PipelineCancelled(None, KeyboardInterrupt()), "KeyboardInterrupt"),
        (PipelineError("sort", ExitError(3, ["sort"], b"one\ntwo\n\n \n")), "sort: exit status 3: two"),
        (PipelineError("sort", ExitError(3, ["sort"], b"\n \n")), "sort: exit status 3"),
        (PipelineError("stdin", AssertionError()), "stdin: AssertionError"),
        (StartError("sort", MemoryError()), 'starting stage "sort": MemoryError'),
        (ExitError(3), "exit status 3"),
        (ExitError(0), "exit status 0"),
        (ExitError(-signal.SIGKILL), "signal: killed"),
        (ExitError(-signal.SIGTERM), "signal: terminated"),
        (ExitError(-100), "signal 100"),
        (ExitError(-32), "signal 32"),
        (ExitError(-(1 << 70)), f"signal {1 << 70}"),
        (WorkerDied(-100, "f", 1), "its worker process died: signal 100"),
        (LineTooLong(16), "a line is longer than 16 bytes"),
        (MemoryLimitExceeded(1000, 1001), "memory limit of 1000 bytes exceeded: 1001 bytes used"),
    ],
)
def test_the_text_is_short_and_says_which_stage_and_why(error: Exception, text: str) -> None:
    """`str()` is what the contract says."""
    assert str(error) == text


def test_a_real_time_signal_has_a_text() -> None:
    """Signals without a name of their own are described too."""
    assert str(ExitError(-(signal.SIGRTMIN + 1))).startswith("signal: ")


def test_little_of_captured_stderr_is_in_the_text_and_nothing_in_the_repr() -> None:
    """It may be 64 KiB; whoever wants it asks for the attribute."""
    error = PipelineError("sh", ExitError(1, ["sh"], b"x" * 65536))
    assert str(error) == f"sh: exit status 1: {'x' * 117}..."
    assert len(repr(error)) < 200
    assert "exit status 1" in str(error)


# --- attributes


def test_an_exit_error_tells_status_signal_command_and_stderr() -> None:
    """The attributes of a `CalledProcessError`, and the signal."""
    error = ExitError(3, ["sh", "-c", "exit 3"], b"oh no\n")
    assert (error.returncode, error.signal, error.stderr) == (3, None, b"oh no\n")
    assert (error.cmd, error.output, error.stdout) == (["sh", "-c", "exit 3"], None, None)
    assert (ExitError(-15).signal, ExitError(-15).returncode, ExitError(-15).stderr) == (15, -15, b"")


def test_figures_are_attributes() -> None:
    """Whoever handles the error does not parse its text."""
    limit = MemoryLimitExceeded(1000, 1001)
    assert (limit.limit, limit.used) == (1000, 1001)
    assert LineTooLong(16).limit == 16


@pytest.mark.parametrize("kind", PIPELINE_ERRORS)
def test_the_cause_is_the_very_object_and_is_chained(kind: type[PipelineError]) -> None:
    """`err.__cause__ is err.cause`, before and after it was raised, and no context is shown beside it."""
    cause = ValueError("bad line")
    error = kind("sort", cause, index=2)
    assert error.cause is error.__cause__ is cause
    assert (error.stage, error.index, error.result) == ("sort", 2, None)
    with pytest.raises(kind) as caught:
        raise error from cause
    assert caught.value.__cause__ is cause
    assert caught.value.__suppress_context__


def test_the_cause_stays_when_raised_while_another_exception_is_handled() -> None:
    """A bare `raise error` inside an `except` does not change what caused it."""
    cause = ValueError("bad line")
    error = PipelineError("sort", cause)
    with pytest.raises(PipelineError) as caught:  # noqa: PT012 - the handler around it is the point
        try:
            int("unrelated")
        except ValueError:
            raise error  # noqa: B904 - as above
    assert caught.value.__cause__ is cause
    assert "unrelated" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("stderr", "shown"),
    [
        (b"a\r\n", "a"),
        (b"progress\rdone\n", r"progress\rdone"),
        (b"\x1b[31mred\x1b[0m\ttab\x00\n", r"\x1b[31mred\x1b[0m\ttab\x00"),
        ("caf\u00e9 \u202e\u2028 \U0001f600\n".encode(), "caf\u00e9 \\u202e\\u2028 \U0001f600"),
        (b"caf\xe9 \xff", r"caf\xe9 \xff"),
        (b"x" * 120, "x" * 120),
        (b"x" * 121, "x" * 117 + "..."),
        (b"\x1b" * 31, r"\x1b" * 29 + r"\..."),
    ],
)
def test_the_last_line_of_stderr_is_shown_as_one_short_printable_line(stderr: bytes, shown: str) -> None:
    """It cannot move the cursor, or look like a second message."""
    assert (
        str(PipelineError("sh", ExitError(1, ["sh"], b"first\n" + stderr))) == f"sh: exit status 1: {shown}"
    )


def test_notes_are_in_the_traceback_and_not_in_the_text() -> None:
    """The last lines of stderr are a note: a traceback shows them, `str()` stays short."""
    error = PipelineError("sort", ExitError(2, ["sort"]))
    error.add_note("sort: cannot read")
    assert "cannot read" not in str(error)
    assert "cannot read" in "".join(traceback.format_exception(error))


# --- families


@pytest.mark.parametrize(
    ("kind", "bases"),
    [
        (PipelineError, [PenstockError]),
        (StartError, [PipelineError, PenstockError]),
        (PipelineTimeout, [PipelineError, PenstockError, TimeoutError]),
        (PipelineCancelled, [PipelineError, PenstockError]),
        (MemoryLimitExceeded, [PenstockError]),
        (LineTooLong, [PenstockError]),
        (ExitError, [PenstockError, subprocess.CalledProcessError, subprocess.SubprocessError]),
        (FinishEarly, [Exception]),
        (ClosedPipe, [BrokenPipeError, OSError]),
        (Cancelled, [PenstockError]),
    ],
)
def test_each_error_can_be_caught_as_its_families(
    kind: type[Exception], bases: list[type[Exception]]
) -> None:
    """What an `except` clause may name."""
    assert all(issubclass(kind, base) for base in bases)


def test_exceptions_that_are_not_penstock_errors() -> None:
    """`FinishEarly` is control flow, and a closed pipe is the operating system's kind of error."""
    assert not issubclass(FinishEarly, PenstockError)
    assert not issubclass(ClosedPipe, PenstockError)


def test_an_exit_error_is_caught_as_subprocess_code_does() -> None:
    """Code written for `subprocess.run(check=True)` handles it unchanged."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        raise ExitError(3, ["false"])
    assert caught.value.returncode == 3


def test_a_timeout_is_a_timeout_error_without_an_errno() -> None:
    """It is an `OSError` by family only: stage and cause are not taken for errno and text."""
    error = PipelineTimeout("sort", TimeoutError("2 seconds are over"))
    assert (error.errno, error.strerror, error.filename) == (None, None, None)
    assert error.args == ("sort", error.cause)
    assert not is_epipe(error)


def test_a_closed_pipe_has_the_errno_of_a_broken_pipe() -> None:
    """A function that handles `BrokenPipeError`, or looks at errno, handles both kinds of pipe alike."""
    error = ClosedPipe()
    assert error.errno == errno.EPIPE
    assert "the next stage has closed its input" in str(error)


def test_every_public_class_is_exported() -> None:
    """`__all__` is complete: each exception class of the module is in it."""
    found = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == "penstock"
    }
    assert found == set(errors.__all__)


# --- pickle and copy


def facts(error: BaseException | None) -> object:
    """Return what must survive a pickle, the chain of a `PipelineError` included."""
    if error is None:
        return None
    attributes: dict[str, Any] = {
        key: facts(value) if isinstance(value, BaseException) else value for key, value in vars(error).items()
    }
    chained = facts(error.__cause__) if isinstance(error, PipelineError) else None
    return type(error), str(error), attributes, chained, getattr(error, "errno", None)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
def test_every_error_survives_a_pickle(error: Exception, protocol: int) -> None:
    """Type, text, attributes, cause and notes come out of another process as they went in."""
    error = copy.copy(error)
    error.add_note("the last line of stderr")
    restored = pickle.loads(pickle.dumps(error, protocol))
    assert facts(restored) == facts(error)
    assert restored.__notes__ == ["the last line of stderr"]
    if isinstance(error, PipelineError):
        assert restored.__cause__ is restored.cause


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
def test_every_error_can_be_copied(error: Exception) -> None:
    """Shallow and deep copies are equal in all that can be seen."""
    assert facts(copy.copy(error)) == facts(copy.deepcopy(error)) == facts(error)


def test_a_subclass_of_an_error_survives_a_pickle() -> None:
    """The type that comes out is the type that went in."""
    restored = pickle.loads(pickle.dumps(PipelineTimeout("sort", Cancelled("late"), index=3)))
    assert type(restored) is PipelineTimeout
    assert restored.index == 3
    assert is_pipe_error(pickle.loads(pickle.dumps(PipelineError("yes", ClosedPipe()))))


def failed_run() -> PipelineError:
    """Return an error and its result, which hold each other as after a run."""
    cause = ExitError(3, ["sort"], b"oh no\n")
    error = PipelineError("sort", cause, index=0)
    stage = StageResult("sort", "command", pid=5, returncode=3, error=cause, stderr=b"oh no\n")
    error.result = Result(error, 0.5, (stage,), (), stdout=b"")
    return error


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_and_its_result_survive_a_pickle_together(protocol: int) -> None:
    """The circle of error and result is a circle again, as where a pool's worker ran the pipeline."""
    restored = pickle.loads(pickle.dumps(failed_run(), protocol))
    assert restored.result.error is restored
    assert restored.result.stages[0].error is restored.cause
    result = pickle.loads(pickle.dumps(restored.result, protocol))
    assert result.error.result is result
    assert result.error.__cause__ is result.stages[0].error
    assert result.stages[0].stderr == result.error.cause.stderr == b"oh no\n"


def test_an_error_and_its_result_can_be_copied_deeply() -> None:
    """A deep copy ends, too."""
    error = copy.deepcopy(failed_run())
    assert error.result is not None
    assert error.result.error is error

"""The errors as users meet them: what they are, what they say, and what hangs on them."""

from __future__ import annotations

import pickle
import signal
import subprocess
import traceback
from typing import Any

import pytest

import penstock
from penstock import (
    CAPTURE,
    DEVNULL,
    ExitError,
    FinishEarly,
    LineTooLong,
    MemoryLimitExceeded,
    PenstockError,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    StartError,
    command,
    each_line,
    echo,
    filter_error,
    function,
    ignore_error,
    is_error,
    map_lines,
    source,
)


def error_of(pipeline: Pipeline, **options: Any) -> PipelineError:
    """Return the error of a run that fails."""
    options.setdefault("stdout", DEVNULL)
    with pytest.raises(PipelineError) as caught:
        pipeline.run(**options)
    return caught.value


def test_the_hierarchy() -> None:
    """One root; a PipelineTimeout is a TimeoutError, an ExitError a CalledProcessError."""
    assert issubclass(PenstockError, Exception)
    for kind in (PipelineError, MemoryLimitExceeded, LineTooLong, ExitError):
        assert issubclass(kind, PenstockError)
    for kind in (StartError, PipelineTimeout, PipelineCancelled):
        assert issubclass(kind, PipelineError)
    assert issubclass(PipelineTimeout, TimeoutError)
    assert issubclass(ExitError, subprocess.CalledProcessError)
    assert issubclass(FinishEarly, Exception)
    assert not issubclass(FinishEarly, PenstockError)
    assert not issubclass(StartError, OSError)
    names = {
        "PenstockError",
        "PipelineError",
        "StartError",
        "PipelineTimeout",
        "PipelineCancelled",
        "ExitError",
    }
    assert names <= set(penstock.__all__)


def test_an_exit_error_is_what_subprocess_would_raise() -> None:
    """With its attributes, and the signal."""
    cause = error_of(command("sh", "-c", "echo why >&2; exit 3")).cause
    assert isinstance(cause, ExitError)
    assert (cause.returncode, cause.signal, cause.stderr) == (3, None, b"why\n")
    assert list(cause.cmd) == ["sh", "-c", "echo why >&2; exit 3"]
    killed = error_of(command("sh", "-c", "kill -TERM $$")).cause
    assert isinstance(killed, ExitError)
    assert (killed.returncode, killed.signal) == (-signal.SIGTERM, signal.SIGTERM)


def test_the_text_is_the_stage_and_the_cause() -> None:
    """Short; a failed start says so."""
    assert str(error_of(command("sh", "-c", "exit 3"))) == "sh: exit status 3"
    assert str(error_of(command("sh", "-c", "echo a; echo why >&2; exit 3"))) == "sh: exit status 3: why"
    assert str(error_of(command("sh", "-c", "echo why >&2; exit 3"), stderr=DEVNULL)) == "sh: exit status 3"
    assert str(error_of(command("sh", "-c", "kill -PIPE $$"))) == "sh: signal: broken pipe"
    assert str(error_of(command("sh", "-c", "kill -KILL $$", name="mine"))) == "mine: signal: killed"
    start = error_of(command("no-such-program-here"))
    assert str(start) == f'starting stage "no-such-program-here": {start.cause}'
    assert isinstance(start, StartError)
    assert isinstance(start.cause, FileNotFoundError)


def test_the_exception_of_a_python_stage_is_shown_with_its_type() -> None:
    """Its message alone may say nothing: that of an assertion, or of a KeyError."""

    def fails(error: BaseException) -> Pipeline:
        def fn(_line: bytes) -> bytes:
            raise error

        return map_lines(fn, name="parse")

    def text(error: BaseException) -> str:
        return str(error_of(fails(error), input=b"x\n"))

    assert text(AssertionError()) == "parse: AssertionError"
    assert text(AssertionError("odd")) == "parse: AssertionError: odd"
    assert text(KeyError("k")) == "parse: KeyError: 'k'"
    assert text(OSError(2, "gone")) == "parse: FileNotFoundError: [Errno 2] gone"
    assert text(LineTooLong(16)) == "parse: LineTooLong: a line is longer than 16 bytes"
    error = error_of(fails(AssertionError()), input=b"x\n")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_no_stage_is_blamed_for_a_cancellation() -> None:
    """The text is the reason alone, or its type if it says nothing."""
    for reason, text in (("user pressed stop", "user pressed stop"), (None, "cancelled")):
        run = command("sleep", "60").start()
        run.cancel(reason)
        error = run.wait(check=False).error
        assert isinstance(error, PipelineCancelled)
        assert (error.stage, error.index, str(error)) == (None, None, text)
    with pytest.raises(ZeroDivisionError), command("sleep", "60").start() as run:
        raise ZeroDivisionError("division by zero")
    assert str(run.wait(check=False).error) == "division by zero"


def test_the_text_of_a_cancellation_cannot_move_the_cursor() -> None:
    """As that of any other error."""
    run = command("sleep", "60").start(stdout=DEVNULL)
    run.cancel("stop\x1b[2J")
    assert str(run.wait(check=False).error) == r"stop\x1b[2J"


def test_a_deadline_is_a_pipeline_timeout() -> None:
    """Which blames no stage, and has the result."""
    error = error_of(command("true") | command("sleep", "60") | command("cat"), timeout=0.3)
    assert isinstance(error, PipelineTimeout)
    assert isinstance(error, TimeoutError)
    assert (error.stage, error.index) == (None, None)
    assert str(error) == "timed out after 0.3 s"
    assert error.errno is None
    assert error.result is not None
    assert error.result.stages[0].error is None
    assert error.result.stages[1].error is error.cause


def test_the_cause_is_the_very_object_and_the_context_is_hidden() -> None:
    """`raise ... from`, so that a traceback says "direct cause"."""

    class MineError(Exception):
        pass

    mine = MineError("x")

    def fail(_ctx: object, _stdin: object, _stdout: object) -> None:
        raise mine

    error = error_of(command("true") | function(fail) | command("cat"))
    assert error.cause is error.__cause__ is mine
    assert error.__suppress_context__
    assert "direct cause" in "".join(traceback.format_exception(error))


def test_an_error_that_has_a_cause_keeps_it() -> None:
    """The user's own chain goes on below."""
    inner = KeyError("inner")

    def fail(_ctx: object, _stdin: object, _stdout: object) -> None:
        raise ValueError from inner

    error = error_of(function(fail))
    assert error.cause.__cause__ is inner
    assert is_error(KeyError)(error)


def test_the_end_of_stderr_is_a_note_and_its_last_line_is_in_the_text() -> None:
    """A traceback shows both."""
    script = "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done >&2; exit 1"
    error = error_of(command("sh", "-c", script))
    (note,) = error.__notes__
    assert "line 499" in note
    assert "line 0\n" not in note
    assert str(error) == "sh: exit status 1: line 499"
    assert "line 499" in "".join(traceback.format_exception(error))


def test_a_command_that_said_nothing_gets_no_note() -> None:
    """Nor does one whose stderr went elsewhere, nor a function."""
    for pipeline in (
        command("false"),
        command("sh", "-c", "echo x >&2; exit 1", stderr=DEVNULL),
        function(lambda _c, _i, _o: 1 / 0),
    ):
        assert getattr(error_of(pipeline), "__notes__", []) == []


def test_a_note_takes_undecodable_bytes() -> None:
    """They are escaped or replaced."""
    (note,) = error_of(command("sh", "-c", "printf 'bad \\377 end' >&2; exit 1")).__notes__
    assert "bad" in note
    assert "end" in note
    note.encode()


def test_every_other_failure_is_in_the_result() -> None:
    """The verdict keeps one."""
    error = error_of(
        command("sh", "-c", "exit 1") | command("sh", "-c", "exit 2") | command("sh", "-c", "exit 3")
    )
    assert error.index == 0
    assert error.result is not None
    assert error.result.error is error
    assert [str(stage.error) for stage in error.result.stages] == [f"exit status {n}" for n in (1, 2, 3)]


def test_finish_early_is_never_reported() -> None:
    """Not even where a filter lets it pass."""

    def early(_ctx: object, _stdin: object, _stdout: object) -> None:
        raise FinishEarly

    for stage in (
        function(early),
        filter_error(function(early), lambda error: error),
        Pipeline(function(early), name="n"),
    ):
        result = (command("yes") | stage).run(stdout=DEVNULL)
        assert result.ok
        assert result.stages[1].error is None


def test_line_too_long_says_the_limit() -> None:
    """In bytes."""
    error = error_of(echo("12345") | each_line(lambda _c, _l, _o: None, max_line=4))
    assert isinstance(error.cause, LineTooLong)
    assert error.cause.limit == 4
    assert "4 bytes" in str(error)


def test_memory_limit_exceeded_has_both_figures() -> None:
    """In bytes."""
    error = MemoryLimitExceeded(100, 200)
    assert (error.limit, error.used) == (100, 200)
    assert "100" in str(error)


@pytest.mark.parametrize(
    ("pipeline", "options"),
    [
        (command("sh", "-c", "echo why >&2; exit 3"), {}),
        (command("/no/such/program"), {}),
        (command("sleep", "60"), {"timeout": 0.05}),
        (source([5]), {}),  # type: ignore[list-item]
    ],
    ids=["exit", "start", "timeout", "function"],
)
def test_an_error_survives_a_pickle(pipeline: Pipeline, options: dict[str, Any]) -> None:
    """As where a pool's worker ran the pipeline: with type, text, stage, index, cause, notes and result."""
    error = error_of(pipeline, **options)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert (again.stage, again.index) == (error.stage, error.index)
    assert type(again.cause) is type(error.cause)
    assert again.__cause__ is again.cause
    assert getattr(again, "__notes__", []) == getattr(error, "__notes__", [])
    assert again.result is not None
    assert again.result.error is again


def test_ignore_error_and_filter_error_decide_what_counts() -> None:
    """The filter is asked for a success too, and what it raises or returns is the error."""
    assert ignore_error(command("false"), is_error(ExitError)).run().ok
    assert not ignore_error(command("false"), is_error(KeyError)).run(check=False).ok
    other = ValueError("instead")
    asked: list[object] = []

    def replace(error: BaseException | None) -> BaseException | None:
        asked.append(error)
        return other

    def fail(error: BaseException | None) -> BaseException | None:
        asked.append(error)
        raise other

    for fn in (replace, fail):
        assert error_of(filter_error(command("true"), fn)).cause is other
        assert error_of(filter_error(command("false"), fn)).cause is other
    assert [type(error) for error in asked] == [type(None), ExitError] * 2


@pytest.mark.parametrize("make", ["handler", "none", "same", "raises"])
def test_on_exception_sees_what_functions_raise(make: str) -> None:
    """It may replace, swallow, leave or raise."""
    first, second = ValueError("first"), KeyError("second")
    seen: list[tuple[str, BaseException]] = []

    def handler(stage: str, error: BaseException) -> BaseException | None:
        seen.append((stage, error))
        if make == "raises":
            raise second
        return {"handler": second, "none": None, "same": error}[make]

    def fail(_ctx: object, _stdin: object, _stdout: object) -> None:
        raise first

    result = function(fail, name="mine").run(check=False, on_exception=handler, stdout=CAPTURE)
    assert seen == [("mine", first)]
    expected = {"handler": second, "none": None, "same": first, "raises": second}[make]
    assert (None if result.error is None else result.error.cause) is expected

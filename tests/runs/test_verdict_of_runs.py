"""The verdict, sentence by sentence, with real pipelines; `core/test_verdict.py` has the rule's tables."""

from __future__ import annotations

import errno
import io
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import sh as shell

from penstock import (
    DEVNULL,
    PIPE,
    ExitError,
    FinishEarly,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    StartError,
    command,
    echo,
    filter_error,
    function,
    ignore_error,
    is_closed_pipe,
    is_epipe,
    is_error,
    is_pipe_error,
    is_sigpipe,
    source,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock import Result

CHUNK = bytes(65536)


def sh(text: str, name: str | None = None) -> Pipeline:
    """Make a command of a shell script that is named like the script itself."""
    return shell(text, name=name or text)


def _finish_early(_ctx: Any, stdin: Any, _stdout: Any) -> None:
    stdin.read(1)
    raise FinishEarly


def _return_early(_ctx: Any, stdin: Any, _stdout: Any) -> None:
    stdin.read(1)


def _write_for_ever(_ctx: Any, _stdin: Any, stdout: Any) -> None:
    while True:
        stdout.write(CHUNK)


def _raise(_ctx: Any, _stdin: Any, _stdout: Any) -> None:
    raise KeyError("mine")


def _drain(_ctx: Any, stdin: Any, _stdout: Any) -> None:
    for _ in stdin.chunks():
        pass


YES = command("yes")
CAT = command("cat")
HEAD = command("head", "-n", "1")
EARLY = function(_finish_early, name="early")
RETURN = function(_return_early, name="return")
WRITER = function(_write_for_ever, name="writer")
RAISE = function(_raise, name="raise")
DRAIN = function(_drain, name="drain")
OK = None

# pipeline, what is reported with pipe_errors="forgive", and with "report": an index and a text, or OK
CASES: dict[str, tuple[Pipeline, Any, Any]] = {
    "all well": (echo("a") | CAT | DRAIN, OK, OK),
    "one failure": (sh("exit 3"), (0, "exit status 3"), (0, "exit status 3")),
    "a failing first stage is not hidden by a successful last one": (
        sh("exit 3") | CAT,
        (0, "exit status 3"),
        (0, "exit status 3"),
    ),
    "a failing last stage": (CAT | sh("exit 3"), (1, "exit status 3"), (1, "exit status 3")),
    "the earliest of several failures": (
        sh("cat; exit 3") | sh("cat; exit 4") | sh("cat; exit 5"),
        (0, "exit status 3"),
        (0, "exit status 3"),
    ),
    "a function's failure before a command's": (RAISE | sh("exit 4"), (0, "'mine'"), (0, "'mine'")),
    "success below a SIGPIPE death": (YES | HEAD, OK, (0, "signal: broken pipe")),
    "success below a chain of SIGPIPE deaths": (YES | CAT | CAT | HEAD, OK, (2, "signal: broken pipe")),
    "success below an EPIPE": (WRITER | command("true"), OK, (0, "[Errno 32] Broken pipe")),
    "success below a write to a closed in-memory pipe": (WRITER | RETURN, OK, (0, "[Errno 32] Broken pipe")),
    "an early end below a SIGPIPE death": (YES | EARLY, OK, OK),
    "an early end below a chain of them": (YES | CAT | CAT | EARLY, OK, OK),
    "an early end below a write to a closed in-memory pipe": (WRITER | EARLY, OK, OK),
    "an early end in the middle": (YES | EARLY | CAT, OK, OK),
    "an early end below a failure": (
        sh("yes | head -n 9; exit 3") | EARLY,
        (0, "exit status 3"),
        (0, "exit status 3"),
    ),
    "an early end forgotten over a success": (YES | command("true") | EARLY, OK, (0, "signal: broken pipe")),
    "a failure replaces a pipe error above it": (
        YES | sh("exit 3"),
        (1, "exit status 3"),
        (1, "exit status 3"),
    ),
    "a failure unsets an early end below it": (
        YES | sh("exec >&-; exit 3") | EARLY,
        (1, "exit status 3"),
        (1, "exit status 3"),
    ),
    "a failure above a pipe error": (
        sh("trap '' PIPE; yes 2>&-; exit 5") | CAT | HEAD,
        (0, "exit status 5"),
        (0, "exit status 5"),
    ),
    "141 is an exit status, not a signal": (
        sh("exit 141") | CAT,
        (0, "exit status 141"),
        (0, "exit status 141"),
    ),
    "SIGPIPE in the last stage": (
        CAT | sh("kill -PIPE $$"),
        (1, "signal: broken pipe"),
        (1, "signal: broken pipe"),
    ),
    "the last of several pipe errors": (
        sh("kill -PIPE $$") | sh("kill -PIPE $$"),
        (1, "signal: broken pipe"),
        (1, "signal: broken pipe"),
    ),
}


def _reported(result: Result) -> Any:
    error = result.error
    if error is None:
        return OK
    text = str(error.cause)
    if isinstance(error.cause, ExitError):
        assert str(error).startswith(f"{error.stage}: {text}")
    else:
        assert str(error) == f"{error.stage}: {type(error.cause).__name__}: {text}"
    return error.index, text.removesuffix(": the next stage has closed its input")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("fail_fast", [False, True])
def test_a_run_reports_what_the_rule_says(case: tuple[Pipeline, Any, Any], *, fail_fast: bool) -> None:
    pipeline, forgiven, reported = case
    options: dict[str, Any] = {"check": False, "stdout": DEVNULL, "input": b"x\n", "fail_fast": False}
    if not fail_fast:
        assert _reported(pipeline.run(**options)) == forgiven
        assert _reported(pipeline.run(**options, pipe_errors="report")) == reported
    else:
        # Whoever is told to end takes no part: so an error is one of the stages' own, and success stays.
        options["fail_fast"] = True
        assert (_reported(pipeline.run(**options)) is OK) == (forgiven is OK)


def test_the_exception_raised_is_the_error_of_the_result() -> None:
    with pytest.raises(PipelineError) as raised:
        (sh("exit 3", name="first") | CAT).run(stdout=DEVNULL)
    error = raised.value
    assert (error.stage, error.index, str(error)) == ("first", 0, "first: exit status 3")
    assert error.result is not None
    assert error.result.error is error
    assert error.__cause__ is error.cause
    assert isinstance(error.cause, ExitError)


def test_every_other_failure_is_in_the_result() -> None:
    result = (sh("cat; exit 3") | sh("cat; exit 4") | YES | HEAD).run(stdout=DEVNULL, check=False, input=b"x")
    assert result.returncodes == (3, 4, -signal.SIGPIPE, 0)
    texts = [stage.error and str(stage.error) for stage in result.stages]
    assert texts == ["exit status 3", "exit status 4", "signal: broken pipe", None]


def test_a_forgiven_pipe_error_can_still_be_seen() -> None:
    result = (YES | HEAD).run(stdout=DEVNULL)
    assert result.ok
    error = result.stages[0].error
    assert error is not None
    assert is_sigpipe(error)
    assert result.stages[0].signal == signal.SIGPIPE


def test_finish_early_is_never_shown() -> None:
    result = (YES | EARLY).run(stdout=DEVNULL)
    assert result.ok
    assert result.stages[1].error is None


def test_the_kinds_of_pipe_errors_are_told_apart() -> None:
    signalled, broken, closed = (
        pipeline.run(stdout=DEVNULL).stages[0].error
        for pipeline in (YES | HEAD, WRITER | command("true"), WRITER | RETURN)
    )
    matchers = (is_sigpipe, is_epipe, is_closed_pipe)
    seen = [[bool(matcher(error)) for matcher in matchers] for error in (signalled, broken, closed) if error]
    assert [row[0] for row in seen] == [True, False, False]
    assert seen[1][1]
    assert seen[2][2]


@pytest.mark.parametrize("last", [YES, CAT, WRITER], ids=["yes", "cat", "function"])
@pytest.mark.parametrize("pipe_errors", ["forgive", "report"])
def test_a_pipe_error_in_the_last_stage_is_an_error(last: Pipeline, pipe_errors: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        result = (YES | last).run(stdout=write_end, check=False, pipe_errors=pipe_errors)
    finally:
        os.close(write_end)
    assert result.error is not None
    assert result.error.index == 1
    assert is_pipe_error(result.error)


def test_an_error_ignored_is_a_success_that_forgives() -> None:
    ignored = ignore_error(sh("exit 3"), is_error(ExitError))
    assert (YES | ignored).run(stdout=DEVNULL).ok
    assert (YES | ignored).run(stdout=DEVNULL, check=False, pipe_errors="report").error is not None


def test_an_error_made_by_a_filter_is_the_stages() -> None:
    mine = KeyError("mine")
    with pytest.raises(PipelineError) as raised:
        (CAT | filter_error(command("true", name="t"), lambda _error: mine)).run(stdout=DEVNULL)
    assert raised.value.cause is mine
    assert raised.value.index == 1


# Nested pipelines.


@pytest.mark.parametrize("pipe_errors", ["forgive", "report"])
@pytest.mark.parametrize(
    "nested",
    [
        Pipeline(EARLY, name="nested"),
        Pipeline(EARLY, CAT, name="nested"),
        Pipeline(CAT, EARLY, name="nested"),
        Pipeline(Pipeline(EARLY, name="inmost"), CAT, name="nested"),
    ],
    ids=["alone", "first", "last", "deep"],
)
def test_a_nested_pipeline_that_finished_early_says_so_to_its_parent(
    nested: Pipeline, pipe_errors: str
) -> None:
    assert (YES | nested).run(stdout=DEVNULL, pipe_errors=pipe_errors).ok


def test_a_forgiven_nested_pipeline_did_not_finish_early() -> None:
    nested = Pipeline(CAT, HEAD, name="nested", pipe_errors="forgive")
    result = Pipeline(YES, nested, pipe_errors="report").run(stdout=DEVNULL, check=False)
    assert _reported(result) == (0, "signal: broken pipe")


def test_a_nested_pipeline_may_report_where_its_parent_forgives() -> None:
    nested = Pipeline(YES, HEAD, name="nested", pipe_errors="report")
    result = (nested | sh("cat; exit 3") | CAT).run(stdout=DEVNULL, check=False)
    assert _reported(result) == (2, "exit status 3")  # to the parent it is a pipe error above a failure
    assert (nested | CAT).run(stdout=DEVNULL, check=False).ok


def test_a_nested_pipeline_without_that_option_follows_its_parent() -> None:
    nested = Pipeline(YES, HEAD, name="nested")
    result = (nested | sh("cat; cat")).run(stdout=DEVNULL, check=False, pipe_errors="report")
    assert _reported(result) == (0, "signal: broken pipe")


def test_a_nested_pipelines_pipe_error_is_forgiven_like_a_stages() -> None:
    assert (Pipeline(YES, CAT, name="nested") | HEAD).run(stdout=DEVNULL).ok


@pytest.mark.parametrize("place", range(5))
def test_the_index_counts_leaf_stages(place: int) -> None:
    leaves = [sh("cat; exit 7") if leaf == place else CAT for leaf in range(5)]
    nested = Pipeline(leaves[1], Pipeline(leaves[2], leaves[3], name="inmost"), name="nested")
    with pytest.raises(PipelineError) as raised:
        (leaves[0] | nested | leaves[4]).run(stdout=DEVNULL)
    assert raised.value.index == place
    assert raised.value.result is not None
    assert raised.value.result.stages[place].name == "cat; exit 7" == raised.value.stage


# Endpoints.


class Broken(io.RawIOBase):
    """A file of the caller's that fails."""

    def __init__(self, error: OSError, good: int = 0) -> None:
        super().__init__()
        self.error = error
        self.good = good

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._count()
        buffer[:1] = b"x"
        return 1

    def write(self, data: Any) -> int:
        self._count()
        return len(data)

    def _count(self) -> None:
        self.good -= 1
        if self.good < 0:
            raise self.error


@pytest.mark.parametrize("stage", [CAT, DRAIN, CAT | CAT, DRAIN | CAT], ids=["cat", "fn", "cats", "fn-cat"])
def test_a_copy_from_stdin_that_fails_is_a_stage_named_stdin(stage: Pipeline) -> None:
    mine = OSError(errno.EIO, "mine")
    with pytest.raises(PipelineError) as raised:
        stage.run(stdin=Broken(mine, good=3), stdout=DEVNULL)
    assert (raised.value.stage, raised.value.index, raised.value.cause) == ("stdin", None, mine)


@pytest.mark.parametrize("stage", [YES, WRITER, YES | CAT], ids=["yes", "fn", "yes-cat"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE])
def test_a_copy_to_stdout_that_fails_is_a_stage_named_stdout(stage: Pipeline, number: int) -> None:
    mine = OSError(number, "mine")
    with pytest.raises(PipelineError) as raised:
        stage.run(stdout=Broken(mine, good=3))
    assert (raised.value.stage, raised.value.index, raised.value.cause) == ("stdout", None, mine)


def test_a_failing_stdin_comes_before_all_stages() -> None:
    result = sh("cat; exit 3").run(stdin=Broken(OSError("mine")), stdout=DEVNULL, check=False)
    assert result.error is not None
    assert result.error.stage == "stdin"
    assert result.returncodes == (3,)


def test_a_failing_stage_comes_before_a_failing_stdout() -> None:
    with pytest.raises(PipelineError) as raised:
        sh("echo; exit 3").run(stdout=Broken(OSError("mine")))
    assert raised.value.index == 0


def test_an_iterable_that_raises_is_a_failing_stdin() -> None:
    mine = KeyError("mine")

    def chunks() -> Iterator[bytes]:
        yield b"a"
        raise mine

    result = CAT.run(stdin=chunks(), stdout=DEVNULL, check=False)
    assert result.error is not None
    assert (result.error.stage, result.error.index, result.error.cause) == ("stdin", None, mine)


def _endless() -> Iterator[bytes]:
    while True:
        yield CHUNK


FEEDS: dict[str, Callable[[], dict[str, Any]]] = {
    "input": lambda: {"input": bytes(4 << 20)},
    "iterable": lambda: {"stdin": _endless()},
    "object": lambda: {"stdin": io.BytesIO(bytes(8 << 20))},
}


@pytest.mark.parametrize("feed", FEEDS.values(), ids=FEEDS)
@pytest.mark.parametrize("stage", [command("true"), RETURN, EARLY], ids=["command", "function", "early"])
@pytest.mark.parametrize("pipe_errors", ["forgive", "report"])
def test_a_broken_pipe_while_feeding_stdin_is_not_an_error(
    feed: Callable[[], dict[str, Any]], stage: Pipeline, pipe_errors: str
) -> None:
    assert stage.run(stdout=DEVNULL, pipe_errors=pipe_errors, **feed()).ok


def test_a_broken_pipe_while_the_caller_feeds_stdin_is_the_callers_to_see() -> None:
    run = sh("exec <&-; echo closed; read x").start(stdin=PIPE, stdout=PIPE)
    assert run.stdin is not None
    assert run.stdout is not None
    with run.stdin, run.stdout:
        assert run.stdout.read() == b"closed\n"
        with pytest.raises(BrokenPipeError):
            run.stdin.write(CHUNK)
    assert run.wait(check=False).error is not None


# What a failure is to the neighbours.


def test_a_stages_failure_is_eof_to_the_next_one() -> None:
    def fail(_ctx: Any, _stdin: Any, stdout: Any) -> None:
        stdout.write(b"abc")
        raise KeyError

    run = (function(fail) | command("wc", "-c")).start(stdout=PIPE)
    assert run.stdout is not None
    with run.stdout:
        assert run.stdout.read().split() == [b"3"]
    with pytest.raises(PipelineError):
        run.wait()


def test_a_stages_failure_is_a_closed_pipe_to_the_one_before() -> None:
    result = (WRITER | RAISE).run(stdout=DEVNULL, check=False)
    assert result.error is not None
    assert result.error.index == 1
    assert result.stages[0].error is not None
    assert is_closed_pipe(result.stages[0].error)


# Stages that were cancelled because of another.


def test_fail_fast_ends_the_stages_before_and_after() -> None:
    pipeline = command("sleep", "1000") | sh("exit 3") | sh("cat; exec sleep 1000")
    result = pipeline.run(stdout=DEVNULL, fail_fast=True, check=False)
    assert _reported(result) == (1, "exit status 3")
    assert [stage.returncode for stage in result.stages] == [-signal.SIGTERM, 3, -signal.SIGTERM]
    assert str(result.stages[0].error) == "exit 3 failed"


def test_fail_fast_wakes_functions_that_wait_for_input() -> None:
    waiting = command("sleep", "1000") | DRAIN | DRAIN
    result = (waiting | RAISE).run(stdout=DEVNULL, fail_fast=True, check=False)
    assert _reported(result) == (3, "'mine'")


def test_fail_fast_takes_a_pipe_error_for_no_failure() -> None:
    assert (YES | CAT | HEAD | CAT).run(stdout=DEVNULL, fail_fast=True).ok


def test_without_fail_fast_the_others_go_on() -> None:
    assert (sh("echo a; exit 3") | sh("cat; echo b")).run(stdout=DEVNULL, check=False).returncodes == (3, 0)


def test_fail_fast_of_a_nested_pipeline_ends_its_own_stages_only() -> None:
    nested = Pipeline(command("sleep", "1000"), sh("exit 3"), fail_fast=True, name="nested")
    result = (echo("a") | nested | sh("cat; echo b")).run(stdout=DEVNULL, check=False)
    assert _reported(result) == (2, "exit status 3")
    assert result.returncodes == (None, -signal.SIGTERM, 3, 0)


def test_fail_fast_reaches_into_nested_pipelines() -> None:
    nested = Pipeline(command("sleep", "1000"), command("sleep", "1000"), name="nested")
    result = (nested | sh("exit 3")).run(stdout=DEVNULL, check=False, fail_fast=True)
    assert _reported(result) == (2, "exit status 3")


def test_fail_fast_by_a_stage_within_a_nested_pipeline() -> None:
    nested = Pipeline(CAT, sh("exit 3"), name="nested")
    result = (command("sleep", "1000") | nested).run(stdout=DEVNULL, check=False, fail_fast=True)
    assert _reported(result) == (2, "exit status 3")


def test_stages_before_one_that_cannot_start_take_no_part() -> None:
    result = (sh("trap 'exit 9' TERM; while :; do sleep 0.02; done") | command("/no/such/program")).run(
        check=False
    )
    assert isinstance(result.error, StartError)
    assert result.error.index == 1


@pytest.mark.parametrize("pipe_errors", ["forgive", "report"])
@pytest.mark.parametrize(
    "pipeline",
    [YES, YES | CAT, WRITER, WRITER | CAT, sh("echo a; exec sleep 1000"), sh("trap '' PIPE; yes; exit 5")],
    ids=["yes", "yes-cat", "fn", "fn-cat", "idle", "fails"],
)
def test_closing_an_iterator_early_is_not_a_failure(pipeline: Pipeline, pipe_errors: str) -> None:
    chunks = pipeline.iter_bytes(pipe_errors=pipe_errors)
    assert next(chunks)
    chunks.close()


def test_an_iterator_read_to_its_end_raises_the_verdict() -> None:
    lines = sh("echo a; echo b; exit 3").iter_lines()
    assert [next(lines), next(lines)] == [b"a", b"b"]
    with pytest.raises(PipelineError, match="exit status 3"):
        next(lines)


def test_closing_stdout_of_the_last_stage_finishes_early() -> None:
    with (YES | CAT).start(stdout=PIPE, pipe_errors="report") as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"y\n"
    assert run.wait().ok


def test_a_reason_that_is_a_pipe_error_is_not_forgiven() -> None:
    run = (command("sleep", "1000") | CAT).start(stdout=PIPE)
    reason = BrokenPipeError("my client went away")
    with pytest.raises(PipelineCancelled) as raised, run:
        run.cancel(reason)
    assert raised.value.cause is reason


def test_a_source_that_is_endless_is_forgiven_too() -> None:
    assert (source(_endless()) | command("true")).run(stdout=DEVNULL).ok

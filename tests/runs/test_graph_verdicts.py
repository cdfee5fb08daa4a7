"""The verdict of trees and diamonds of real processes."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.processes import sh

from penstock import (
    CAPTURE,
    FinishEarly,
    Pipeline,
    PipelineError,
    Result,
    command,
    concat,
    function,
    ignore_error,
    is_error,
    is_pipe_error,
    map_lines,
    merge,
    reading,
    shared,
    tee,
    writing,
)

YES = command("yes")
SEQ = command("seq", "100000")
CAT = command("cat")
HEAD = command("head", "-1")
COUNT = command("wc", "-l")
ENDS_S = 15.0
"""Seconds within which a run ends that does not hang."""


def fails(name: str, script: str = "exit 3") -> Any:
    """Return a command that fails at once."""
    return command("sh", "-c", script, name=name)


def finish(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Pass on a line, and have had enough."""
    stdout.write(stdin.readline())
    raise FinishEarly


FINISH = function(finish)


def run(pipeline: Any, **options: Any) -> Result:
    """Run it, and return its result, of a failure as well."""
    result: Result = Pipeline(pipeline).run(stdout=CAPTURE, check=False, timeout=ENDS_S, **options)
    return result


def diamond(one: Any, two: Any, source: Any = YES, join: tuple[str, ...] = ("paste",)) -> Pipeline:
    """Return a join of two pipelines that read one source."""
    lines = shared(source)
    return Pipeline(command(*join, reading(lines | one), reading(lines | two)))


FORGIVEN: dict[str, Any] = {
    "every-branch-had-enough": YES | tee(HEAD, FINISH) | HEAD,
    "a-branch-had-enough-and-the-rest-read-on": SEQ | tee(HEAD) | COUNT,
    "the-main-output-had-enough": SEQ | tee(COUNT) | HEAD,
    "tees-in-tees": YES | tee(CAT | tee(HEAD | tee(HEAD)) | HEAD) | CAT | tee(HEAD) | HEAD,
    "the-arms-of-a-diamond-had-enough": diamond(HEAD, FINISH),
    "the-join-had-enough": diamond(CAT, map_lines(bytes.upper)) | HEAD,
    "one-arm-had-enough": diamond(CAT, HEAD, source=SEQ),
    "the-sources-of-a-merge": merge(YES, YES | CAT, SEQ) | HEAD,
    "the-sources-of-a-concat": concat(YES, YES | CAT, SEQ) | FINISH,
    "a-program-that-reads-nothing": command("true", reading(YES), reading(YES | CAT, via="fifo")),
    "a-branch-of-a-program": YES | command("tee", writing(HEAD)) | HEAD,
    "a-branch-until-main": YES | tee(COUNT, until="main") | HEAD,
    "an-ignored-failure": SEQ
    | tee(ignore_error(fails("bad"), is_error(Exception)), ignore_error(HEAD | COUNT, is_pipe_error)),
    "a-nested-pipeline": YES | Pipeline(CAT, tee(HEAD), HEAD, cwd="/") | CAT,
    "a-death-by-sigpipe-before-a-success": diamond(CAT, sh("kill -PIPE $$"), source=SEQ),
}


@pytest.mark.parametrize("pipeline", FORGIVEN.values(), ids=FORGIVEN)
def test_a_closed_pipe_is_forgiven_if_a_consumer_had_enough(pipeline: Any) -> None:
    """And none failed."""
    assert run(pipeline).error is None


NAMED: dict[str, tuple[Any, str]] = {
    "a-branch": (YES | tee(fails("bad")) | HEAD, "bad"),
    "a-branch-below": (YES | tee(CAT | tee(CAT | fails("bad"))) | HEAD, "bad"),
    "the-first-of-two-branches": (SEQ | tee(fails("bad"), fails("worse")), "bad"),
    "a-branch-before-the-main-output": (SEQ | tee(fails("bad")) | fails("worse"), "bad"),
    "the-source-before-all": (fails("bad", "seq 9; exit 3") | tee(fails("worse")) | fails("worst"), "bad"),
    "the-end-of-a-branch": (SEQ | tee(CAT | fails("bad") | CAT) | fails("worse"), "bad"),
    "an-arm": (diamond(fails("bad"), CAT, source=SEQ), "bad"),
    "the-first-arm": (diamond(fails("bad"), fails("worse")), "bad"),
    "the-first-arm-of-an-endless-source": (diamond(fails("bad"), HEAD), "bad"),
    "a-status-that-is-no-success": (diamond(command("grep", "x"), CAT, source=SEQ), "grep"),
    "the-source-of-a-diamond": (diamond(fails("worse"), CAT, source=fails("bad", "seq 9; exit 3")), "bad"),
    "the-join": (diamond(CAT, CAT, join=("sh", "-c", "exit 3")), "sh"),
    "an-arm-before-the-join": (diamond(fails("bad"), CAT, join=("sh", "-c", "exit 3")), "bad"),
    "below-the-join": (diamond(CAT, CAT) | fails("bad"), "bad"),
    "an-input-of-a-merge": (merge(YES, fails("bad"), fails("worse")) | HEAD, "bad"),
    "an-input-of-a-concat": (concat(SEQ, fails("bad")) | COUNT, "bad"),
    "a-program-with-branches": (YES | command("sh", "-c", "exit 3", writing(CAT)), "sh"),
    "a-branch-of-a-program": (SEQ | command("tee", writing(fails("bad", "cat >/dev/null; exit 3"))), "bad"),
    "a-nested-pipeline": (YES | Pipeline(CAT, tee(CAT | fails("bad")), HEAD, cwd="/") | HEAD, "bad"),
    "a-main-output-until-main": (YES | tee(HEAD, until="main") | fails("bad"), "bad"),
    "a-branch-until-main": (YES | tee(fails("bad"), until="main") | HEAD, "bad"),
    "a-death-by-another-signal": (diamond(CAT, fails("bad", "kill -TERM $$"), source=SEQ), "bad"),
    "a-sigpipe-at-the-end": (SEQ | tee(CAT | fails("bad", "kill -PIPE $$")), "bad"),
    "a-sigpipe-at-the-end-of-the-main-output": (SEQ | tee(CAT) | fails("bad", "kill -PIPE $$"), "bad"),
}


@pytest.mark.parametrize(("pipeline", "name"), NAMED.values(), ids=NAMED)
def test_the_first_failure_in_topological_order_is_named(pipeline: Any, name: str) -> None:
    """Though others fail too, or meet closed pipes."""
    result = run(pipeline)
    assert isinstance(result.error, PipelineError)
    assert result.error.stage == name
    assert result.error.index is not None
    assert result.stages[result.error.index].name == name
    assert result.returncode == result.stages[result.error.index].returncode


def test_a_reported_pipe_error_is_forgiven_by_a_finish_early_alone() -> None:
    """`pipe_errors="report"`: a success is not enough."""
    result = run(YES | tee(HEAD) | HEAD, pipe_errors="report")
    assert isinstance(result.error, PipelineError)
    assert result.error.stage == "tee"
    assert run(YES | tee(FINISH) | FINISH, pipe_errors="report").error is None
    assert run(YES | tee(HEAD) | FINISH, pipe_errors="report").error is None


def test_a_nested_graph_that_finished_early_says_so() -> None:
    """If the stage that reads its stdin shows so, and not by forgiveness."""
    early = Pipeline(tee(FINISH), FINISH, cwd="/")
    assert run(YES | early | CAT, pipe_errors="report").error is None
    assert run(YES | Pipeline(tee(HEAD), HEAD, cwd="/") | CAT, pipe_errors="report").error is not None


def test_a_failure_leaves_the_others_their_outputs() -> None:
    """Each branch has a result of its own."""
    broken = Pipeline(fails("bad", "head -n 2; exit 3"), name="part")
    result = run(SEQ | tee(broken, Pipeline(COUNT, name="lines")) | COUNT)
    assert result.output("part") == b"1\n2\n"
    assert int(result.output("lines")) == int(result.stdout or b"") == 100_000
    failed = [stage.name for stage in result.stages if stage.error is not None]
    assert failed == ["bad"]


@pytest.mark.parametrize("place", range(3))
def test_a_stage_that_cannot_start_ends_the_graph(place: int) -> None:
    """Wherever it is, and it is named."""
    stages: list[Any] = [CAT, CAT, CAT]
    stages[place] = command("./nosuch")
    lines = shared(YES | stages[0])
    result = run(command("paste", reading(lines | stages[1]), reading(lines)) | tee(stages[2]) | CAT)
    assert isinstance(result.error, PipelineError)
    assert result.error.stage == "./nosuch"
    assert str(result.error).startswith('starting stage "./nosuch"')

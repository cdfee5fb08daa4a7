"""`function(inputs=, outputs=)`: a Python stage that reads several pipelines and writes several branches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from penstock import CAPTURE, DEVNULL, PipelineError, command, echo, function, reading, shared

if TYPE_CHECKING:
    from pathlib import Path

    from penstock import StageContext

CAT = command("cat")


def zip_lines(ctx: StageContext, _stdin: Any, stdout: Any) -> None:
    """Write pairs to stdout, and the right lines to the branch."""
    for left, right in zip(ctx.inputs["left"], ctx.inputs["right"], strict=True):
        stdout.write(left.strip() + b"-" + right)
        ctx.outputs["seen"].write(right)


PAIRS = function(
    zip_lines,
    inputs={"left": command("seq", "3"), "right": command("seq", "4", "6")},
    outputs={"seen": command("wc", "-l")},
)


def test_it_reads_and_writes_by_name() -> None:
    result = PAIRS.run(stdout=CAPTURE)
    assert result.stdout == b"1-4\n2-5\n3-6\n"
    assert int(result.output("wc")) == 3


def test_it_reads_its_stdin_too(tmp_path: Path) -> None:
    """A plain target may be a branch."""

    def join(ctx: StageContext, stdin: Any, stdout: Any) -> None:
        stdout.write(stdin.read() + ctx.inputs["more"].read())
        ctx.outputs["log"].write(b"done\n")

    log = tmp_path / "log"
    joined = function(join, inputs={"more": echo("b")}, outputs={"log": log})
    assert (echo("a") | joined | CAT).output() == b"a\nb\n"
    assert log.read_bytes() == b"done\n"


def test_a_stream_that_it_does_not_read_ends_its_source() -> None:
    """The source meets a closed pipe, which is forgiven."""
    ignoring = function(lambda _ctx, _stdin, stdout: stdout.write(b"x"), inputs={"endless": command("yes")})
    assert ignoring.run(stdout=CAPTURE, timeout=20).stdout == b"x"


def test_a_failed_input_is_the_failure_of_the_run() -> None:
    broken = function(lambda ctx, _stdin, _stdout: ctx.inputs["a"].read(), inputs={"a": command("false")})
    with pytest.raises(PipelineError, match="false: exit status 1"):
        broken.run()


def test_a_write_to_a_branch_that_has_left_raises() -> None:
    """The function may catch it, and go on."""

    def write(ctx: StageContext, _stdin: Any, stdout: Any) -> None:
        try:
            while True:
                ctx.outputs["once"].write(b"line\n" * 10_000)
        except BrokenPipeError:
            stdout.write(b"left\n")

    result = function(write, outputs={"once": command("head", "-n", "1")}).run(stdout=CAPTURE, timeout=20)
    assert (result.stdout, result.output("head")) == (b"left\n", b"line\n")


def test_ways_that_meet_again_do_not_hang() -> None:
    """It writes all of one output first, while the join wants the other one."""
    numbers = shared(command("seq", "-w", "200000"))

    def copy(ctx: StageContext, stdin: Any, stdout: Any) -> None:
        for line in stdin:
            ctx.outputs["joined"].write(line)
            stdout.write(line)

    joined = command("comm", "-12", "-", reading(numbers | command("grep", "99999")))
    result = (numbers | function(copy, outputs={"joined": joined})).run(stdout=CAPTURE, timeout=30)
    assert result.output("comm") == b"099999\n199999\n"
    assert result.stdout is not None
    assert result.stdout.count(b"\n") == 200_000


def test_a_cancelled_function_is_woken_from_any_of_its_streams() -> None:
    waiting = function(
        lambda ctx, _stdin, _stdout: ctx.inputs["silent"].read(), inputs={"silent": command("sleep", "1000")}
    )
    result = waiting.run(check=False, timeout=0.2, grace=5)
    assert type(result.error).__name__ == "PipelineTimeout"
    assert result.elapsed < 4


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"inputs": {"stdin": CAT}}, "not stdin or stdout"),
        ({"inputs": {"a": CAT}, "outputs": {"a": CAT}}, "have the same name: 'a'"),
        ({"inputs": {"a": CAT}, "isolate": "thread"}, "isolate must be None or 'process'"),
        ({"inputs": {"a": CAT.to("file")}}, "cannot have stdout"),
        ({"outputs": {"a": CAT.replace(stdin="file")}}, "cannot have stdin"),
        ({"outputs": {1: CAT}}, "must be a str"),
        ({"inputs": [CAT]}, "inputs must be a mapping"),
    ],
)
def test_mistakes_are_named_when_it_is_made(options: Any, error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        function(zip_lines, **options)


def test_an_unknown_name_lists_the_known_ones() -> None:
    """In the error of the stage."""
    asks = function(lambda ctx, _stdin, _stdout: ctx.inputs["lft"], inputs={"left": CAT, "right": CAT})
    with pytest.raises(PipelineError, match="has no 'lft' here; it has 'left', 'right'"):
        asks.run()
    with pytest.raises(PipelineError, match="has no 'bad' here; it has none"):
        function(lambda ctx, _stdin, _stdout: ctx.outputs["bad"]).run(stdout=DEVNULL)

"""Runs inside a function: the stdout of the function's stage is lent to them, and stays usable."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import sh

from penstock import (
    Pipeline,
    PipelineCancelled,
    PipelineTimeout,
    closing,
    command,
    function,
    map_lines,
    source,
)

if TYPE_CHECKING:
    from collections.abc import Callable

OUTSIDE: dict[str, Callable[[Any], Pipeline]] = {
    "captured": Pipeline,
    "a command reads": lambda stage: stage | command("cat"),
    "a function reads": lambda stage: stage | map_lines(bytes),
    "a slow command reads": lambda stage: stage | sh("sleep 0.7; cat"),
}


@pytest.fixture(params=OUTSIDE)
def outside(request: pytest.FixtureRequest) -> Callable[[Any], Pipeline]:
    """Return what makes a pipeline of a stage, by each kind of edge behind it."""
    return OUTSIDE[request.param]


def several(_ctx: object, _stdin: object, stdout: Any) -> None:
    command("echo", "1").run(stdout=stdout)
    (source([b"two\n"]) | map_lines(bytes.upper)).run(stdout=stdout)
    sh("echo three >&2").run(stderr=stdout)
    stdout.write(b"4\n")
    command("echo", "5").run(stdout=stdout)


@pytest.mark.slow
def test_several_runs_may_write_to_it(outside: Callable[[Any], Pipeline]) -> None:
    """One after the other, between writes of the function itself."""
    assert outside(function(several)).output() == b"1\nTWO\nthree\n4\n5\n"


def timed_out(_ctx: object, _stdin: object, stdout: Any) -> None:
    with pytest.raises(PipelineTimeout):
        sh("echo begun; exec sleep 1000").run(stdout=stdout, timeout=0.2)
    with pytest.raises(PipelineTimeout):  # while the copy waits for room, if there is a slow reader
        command("yes").run(stdout=stdout, timeout=0.2)
    stdout.write(b"\nend\n")


@pytest.mark.slow
def test_it_survives_a_timeout_of_such_a_run(outside: Callable[[Any], Pipeline]) -> None:
    """Whether the copy is blocked in it at that moment or not."""
    found = outside(function(timed_out)).output()
    assert found.startswith(b"begun\ny\n")
    assert found.endswith(b"\nend\n")


async def several_async(_ctx: object, _stdin: object, stdout: Any) -> None:
    await command("echo", "1").arun(stdout=stdout)
    with pytest.raises(PipelineTimeout):
        await sh("echo 2; exec sleep 1000").arun(stdout=stdout, timeout=0.2)
    await stdout.send(b"3\n")
    await command("echo", "4").arun(stdout=stdout)


@pytest.mark.slow
def test_the_stream_of_an_async_function_survives_as_well(outside: Callable[[Any], Pipeline]) -> None:
    """Its runs are those of the event loop."""
    assert asyncio.run(outside(function(several_async)).aoutput()) == b"1\n2\n3\n4\n"


def test_the_outer_run_still_ends_an_inner_one_that_is_blocked() -> None:
    """By its deadline: the function is woken in the inner run, and that is ended."""

    def endless(_ctx: object, _stdin: object, stdout: Any) -> None:
        command("yes").run(stdout=stdout)

    with pytest.raises(PipelineTimeout):
        (function(endless) | sh("sleep 1000")).run(timeout=0.3)


def test_it_is_closed_on_request() -> None:
    """`closing` means what it says, for a stream of ours too."""

    def closes(_ctx: object, _stdin: object, stdout: Any) -> None:
        command("echo", "1").run(stdout=closing(stdout))
        with pytest.raises(ValueError, match="closed"):
            stdout.write(b"2\n")

    assert function(closes).output() == b"1\n"


def test_a_cancelled_inner_run_leaves_the_stream_usable() -> None:
    """As a timeout does."""

    def cancels(_ctx: object, _stdin: object, stdout: Any) -> None:
        run = sh("exec sleep 1000").start(stdout=stdout)
        run.cancel()
        with pytest.raises(PipelineCancelled):
            run.wait()
        stdout.write(b"on\n")

    assert function(cancels).output() == b"on\n"

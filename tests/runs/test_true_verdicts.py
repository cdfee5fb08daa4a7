"""Failures that look like something else: each is the error of its run, and never a success."""

from __future__ import annotations

import asyncio
import io
import shutil
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.isolation import stage_functions
from tests.support.waiting import DEADLINE

from penstock import (
    CAPTURE,
    PIPE,
    ExitError,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    command,
    each_line,
    filter_lines,
    function,
    map_line_batches,
    map_lines,
    transform,
    transform_lines,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from penstock import Run, StageContext

LINES = b"".join(b"%d\n" % number for number in range(5000))


def leaves(kind: type[BaseException], line: bytes) -> bytes:
    """Return the line; raise `kind` for one in the middle."""
    if line == b"2500":
        raise kind("mine")
    return line


def many(fn: Callable[[bytes], bytes], lines: Iterable[bytes]) -> Iterator[bytes]:
    """Do so for each of some lines."""
    for line in lines:
        yield fn(line)


class Many:
    """The same as an iterator of a class of its own, which may raise anything at all."""

    def __init__(self, fn: Callable[[bytes], bytes], lines: Iterable[bytes]) -> None:
        self._fn = fn
        self._lines = iter(lines)

    def __iter__(self) -> Many:
        return self

    def __next__(self) -> bytes:
        return self._fn(next(self._lines))


MADE: dict[str, Callable[[Callable[[bytes], bytes]], Pipeline]] = {
    "map_lines": map_lines,
    "filter_lines": lambda fn: filter_lines(lambda line: bool(fn(line))),
    "map_line_batches": lambda fn: map_line_batches(partial(many, fn)),
    "a list of batches": lambda fn: map_line_batches(lambda lines: [fn(line) for line in lines]),
    "transform_lines": lambda fn: transform_lines(partial(many, fn)),
    "an iterator": lambda fn: transform_lines(partial(Many, fn)),
    "each_line": lambda fn: each_line(lambda _ctx, line, out: out.write(fn(line))),
    "transform": lambda fn: transform(
        lambda chunks: many(fn, (line for chunk in chunks for line in chunk.split(b"\n")))
    ),
}


@pytest.mark.parametrize("after", ["nothing", "a stage", "a command"])
@pytest.mark.parametrize("made", MADE)
def test_generator_exit_of_user_code_is_an_error(made: str, after: str) -> None:
    """For each kind of stage, and each kind of stage after it: the output is cut short."""
    pipeline = MADE[made](partial(leaves, GeneratorExit))
    if after != "nothing":
        pipeline |= map_lines(bytes.upper) if after == "a stage" else command("cat")
    result = pipeline.run(input=LINES, stdout=CAPTURE, check=False)
    assert result.error is not None
    assert isinstance(result.error.cause, GeneratorExit)
    assert result.error.index == 0
    assert result.stdout is not None
    assert not result.stdout.endswith(b"4999\n")


def test_generator_exit_in_a_worker_process_is_an_error() -> None:
    """The engine of the worker is the same."""
    result = map_lines(stage_functions.leave, isolate="process").run(input=LINES, stdout=CAPTURE, check=False)
    assert result.error is not None
    assert isinstance(result.error.cause, GeneratorExit)


def test_a_stage_whose_reader_leaves_is_still_no_failure() -> None:
    """The generator of the first stage is closed, which raises GeneratorExit in it too."""
    closed = []

    def endless(_lines: object) -> Iterator[bytes]:
        try:
            while True:
                yield b"y"
        finally:
            closed.append(True)

    pipeline = transform_lines(endless) | transform_lines(lambda lines: [next(iter(lines))])
    assert pipeline.output() == b"y\n"
    assert closed == [True]


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit])
def test_an_async_line_function_may_raise_anything(kind: type[BaseException], concurrency: int) -> None:
    """Also a CancelledError of its own: that of a task that it awaited. The lines before it are written."""

    async def fn(line: bytes) -> bytes:
        await asyncio.sleep(0)
        return leaves(kind, line)

    async def lines(given: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in given:
            yield leaves(kind, line)

    async def run() -> None:
        stages: list[Any] = [
            map_lines(fn, concurrency=concurrency),
            filter_lines(fn, concurrency=concurrency),
            transform_lines(lines),
        ]
        for stage in stages:
            result = await stage.arun(input=LINES, stdout=CAPTURE, check=False)
            assert result.error is not None
            assert isinstance(result.error.cause, kind)
            assert result.stdout.endswith(b"\n2499\n")

    asyncio.run(run())


# A caller that writes to a run, or reads from it, and meets the failure there first.

FAILS = command("sh", "-c", "echo expired >&2; exit 3")


def write_until_it_fails(run: Run) -> None:
    """Write to the first stage until that raises."""
    assert run.stdin is not None
    while True:
        run.stdin.write(b"x" * 65536)


def write_lines(run: Run) -> None:
    """Do so through other methods, and a text layer."""
    assert run.stdin is not None
    with io.TextIOWrapper(run.stdin) as text:
        while True:
            text.writelines(["x" * 4096])


def print_to_it(run: Run) -> None:
    """Do so by a copy of the standard library."""
    assert run.stdin is not None
    with Path("/dev/zero").open("rb") as zeros:
        shutil.copyfileobj(zeros, run.stdin)


@pytest.mark.parametrize("use", [write_until_it_fails, write_lines, print_to_it])
def test_a_broken_stdin_is_reported_as_the_failure_of_the_run(use: Callable[[Run], None]) -> None:
    """And not as a bare BrokenPipeError, which hides why the reader has gone."""
    with pytest.raises(PipelineError) as caught, FAILS.start(stdin=PIPE) as run:
        use(run)
    assert isinstance(caught.value.cause, ExitError)
    assert caught.value.cause.returncode == 3
    assert not isinstance(caught.value, PipelineCancelled)


def test_a_deadline_during_a_write_is_a_timeout() -> None:
    """The write ends with EPIPE, because the reader was killed."""
    with pytest.raises(PipelineTimeout), command("sleep", "60").start(stdin=PIPE, timeout=0.1) as run:
        write_until_it_fails(run)


def test_a_cancellation_during_a_write_is_a_cancellation() -> None:
    """From another thread; a function that reads nothing."""
    blocked = threading.Event()

    def reads_nothing(ctx: StageContext, _stdin: object, _stdout: object) -> None:
        blocked.set()
        while not ctx.cancelled:
            ctx.check()

    def cancel() -> None:
        blocked.wait(DEADLINE)
        run.cancel("enough")

    run = function(reads_nothing).start(stdin=PIPE)
    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(PipelineCancelled, match="enough"), run:
        write_until_it_fails(run)
    canceller.join()


def test_the_end_of_stdout_is_reported_as_the_failure_of_the_run() -> None:
    """`next()` raises StopIteration, because the command has failed before it wrote a line."""

    def read_a_line(run: Run) -> None:
        assert run.stdout is not None
        next(run.stdout)

    with pytest.raises(PipelineError) as caught, FAILS.start(stdout=PIPE) as run:
        read_a_line(run)
    assert isinstance(caught.value.cause, ExitError)


def test_a_broken_stdin_of_a_run_that_succeeds_stays_what_it_is() -> None:
    """The block has not done all that it was to do, so it cannot end as if it had."""
    with pytest.raises(BrokenPipeError), command("true").start(stdin=PIPE) as run:
        write_until_it_fails(run)
    assert run.wait().ok


def test_a_run_that_goes_on_without_its_stdin_is_cancelled_after_the_grace_time() -> None:
    """It has that time, in which it may fail."""
    script = "exec 0<&-; echo closed; exec sleep 60"
    run = command("sh", "-c", script).start(stdin=PIPE, stdout=PIPE, grace=0.2)
    assert run.stdout is not None
    assert run.stdout.readline() == b"closed\n"
    with pytest.raises(BrokenPipeError), run:
        write_until_it_fails(run)
    error = run.wait(check=False).error
    assert isinstance(error, PipelineCancelled)
    assert isinstance(error.cause, BrokenPipeError)


def test_an_error_of_the_block_itself_cancels_as_before() -> None:
    """Also a BrokenPipeError that comes from elsewhere."""
    mine = BrokenPipeError("mine")
    with pytest.raises(BrokenPipeError) as caught, command("sleep", "60").start(stdin=PIPE) as run:
        raise mine
    assert caught.value is mine
    assert isinstance(run.wait(check=False).error, PipelineCancelled)


def test_in_an_event_loop_the_failure_of_the_run_is_reported_too() -> None:
    """For a write, a read and a deadline."""

    async def write(pipeline: Pipeline, **options: Any) -> None:
        async with pipeline.astart(stdin=PIPE, **options) as run:
            assert run.stdin is not None
            while True:
                await run.stdin.send(b"x" * 65536)

    async def read(*, iterate: bool) -> None:
        async with FAILS.astart(stdout=PIPE) as run:
            assert run.stdout is not None
            await (anext(run.stdout) if iterate else run.stdout.receive())

    async def all_of_it() -> None:
        for attempt in (write(FAILS), read(iterate=True), read(iterate=False)):
            with pytest.raises(PipelineError) as caught:
                await attempt
            assert isinstance(caught.value.cause, ExitError)
        with pytest.raises(PipelineTimeout):
            await write(command("sleep", "60"), timeout=0.1)
        with pytest.raises(anyio.BrokenResourceError):
            await write(command("true"))

    asyncio.run(all_of_it())

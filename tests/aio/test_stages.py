"""Async functions as stages: they end, fail, finish early, are cancelled and reported as plain ones are."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from tests.support.waiting import DEADLINE

from penstock import (
    CAPTURE,
    PIPE,
    Event,
    FinishEarly,
    LineTooLong,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    StageContext,
    command,
    each_line,
    echo,
    filter_error,
    filter_lines,
    function,
    ignore_error,
    is_error,
    map_line_batches,
    map_lines,
    scan,
    source,
    transform,
    transform_lines,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path


async def shout(_ctx: StageContext, stdin: Any, stdout: Any) -> None:
    """Upper case, chunk by chunk."""
    async for chunk in stdin:
        await stdout.send(chunk.upper())


async def reverse(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Each chunk backwards."""
    async for chunk in chunks:
        yield chunk[::-1]


async def bracket(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Each line in brackets."""
    async for line in lines:
        yield b"<" + line + b">"


async def upper(line: bytes) -> bytes:
    """A line in upper case."""
    await anyio.lowlevel.checkpoint()
    return line.upper()


async def is_odd(line: bytes) -> int:
    """Whether the line is an odd number."""
    return int(line) % 2


async def twice(lines: list[bytes]) -> Iterable[bytes]:
    """Each line doubled."""
    return [line * 2 for line in lines]


async def semicolon(_ctx: StageContext, line: bytes, stdout: Any) -> None:
    """The line, and in a second write a semicolon."""
    await stdout.send(line)
    await anyio.lowlevel.checkpoint()
    await stdout.send(b";")


async def three() -> AsyncIterator[bytes]:
    """Three chunks."""
    for chunk in (b"1", b"", bytearray(b"2"), b"3"):
        yield chunk  # type: ignore[misc] # a buffer will do


class Callable:
    """An object that is called by `await`."""

    async def __call__(self, line: bytes) -> bytes:
        """Do as `upper`."""
        return line.upper()


STAGES: dict[str, tuple[Pipeline, str, bytes, bytes]] = {
    "function": (function(shout), "function", b"a\nb\n", b"A\nB\n"),
    "transform": (transform(reverse), "transform", b"abc", b"cba"),
    "transform_lines": (transform_lines(bracket), "transform-lines", b"a\nb", b"<a>\n<b>\n"),
    "map_lines": (map_lines(upper), "map-lines", b"a\nb", b"A\nB\n"),
    "concurrent": (map_lines(upper, concurrency=3), "map-lines", b"a\nb\n\nc", b"A\nB\n\nC\n"),
    "object": (map_lines(Callable()), "map-lines", b"a", b"A\n"),
    "partial": (map_lines(partial(upper)), "map-lines", b"a", b"A\n"),
    "filter_lines": (filter_lines(is_odd, concurrency=2), "filter-lines", b"1\n2\n3", b"1\n3\n"),
    "map_line_batches": (map_line_batches(twice), "map-line-batches", b"1\n2", b"11\n22\n"),
    "each_line": (each_line(semicolon, concurrency=4), "each-line", b"a\nb\nc", b"a;b;c;"),
}


@pytest.mark.parametrize("name", STAGES)
async def test_each_constructor_takes_an_async_function(name: str) -> None:
    """Between commands, alone, and next to one another; the kind is that of the plain stage."""
    stage, kind, data, expected = STAGES[name]
    result = await stage.arun(input=data, stdout=CAPTURE)
    assert result.stdout == expected
    (one,) = result.stages
    assert (one.kind, one.returncode, one.error) == (kind, None, None)
    assert [(edge.kind, edge.bytes) for edge in result.edges] == [
        ("pooled", len(data)),
        ("capture", len(expected)),
    ]
    assert await (command("cat") | stage | command("cat")).aoutput(input=data) == expected
    assert await (function(shout) | stage).aoutput(input=data.upper()) == await (
        command("cat") | stage
    ).aoutput(input=data.upper())
    assert await stage.aoutput() == b""
    assert [edge.kind for edge in stage.explain(stdout=CAPTURE).edges] == ["discard", "capture"]


@pytest.mark.parametrize("name", STAGES)
def test_in_a_sync_run_the_error_names_the_stage(name: str) -> None:
    """Before anything has started, in each method."""
    stage = Pipeline(command("/no/such"), STAGES[name][0])
    named = repr(stage.stages[1].name)  # type: ignore[union-attr]
    for call in (stage.run, stage.output, stage.text, stage.iter_bytes, stage.iter_lines, stage.start):
        with pytest.raises(TypeError, match=rf"stage {named} is async: it can only run in arun\(\)"):
            call()


def test_async_functions_are_refused_when_the_stage_is_made_if_it_cannot_take_them() -> None:
    """It says what would do."""
    mistakes: list[tuple[Any, Any, str]] = [
        (function, reverse, "async function without yield"),
        (transform, shout, "async generator function, with yield"),
        (transform_lines, upper, "async generator function, with yield"),
        (map_lines, reverse, "async function without yield"),
        (each_line, reverse, "async function without yield"),
        (partial(scan, lambda stdin: stdin), semicolon, "scan must be a plain function"),
        (partial(filter_error, command("true")), upper, "filter_error must be a plain function"),
        (lambda fn: command("true").replace(on_event=fn), upper, "on_event must be a plain function"),
        (lambda fn: command("true").replace(stderr=fn), upper, "stderr must be a plain function"),
    ]
    for make, fn, message in mistakes:
        with pytest.raises(TypeError, match=message):
            make(fn)
    with pytest.raises(ValueError, match="isolate='process' needs a plain function"):
        map_lines(upper, isolate="process")


@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (-1, ValueError), (True, TypeError), ("2", TypeError)]
)
def test_concurrency_is_a_number_of_calls(value: Any, error: type[Exception]) -> None:
    """At least one; more than one for async functions only."""
    with pytest.raises(error, match="concurrency"):
        map_lines(upper, concurrency=value)
    for make in (map_lines, filter_lines, map_line_batches, each_line):
        plain: Any = bytes
        with pytest.raises(ValueError, match="concurrency=2 needs an async function"):
            make(plain, concurrency=2)
        assert make(plain, concurrency=1).name == "bytes"


def test_an_async_stage_can_be_pickled() -> None:
    """Where its function can; also the line stages with their concurrency."""
    stage = pickle.loads(pickle.dumps(map_lines(upper, concurrency=7)))
    assert stage.stages[0].concurrency == 7
    assert anyio.run(partial(stage.aoutput, input=b"a")) == b"A\n"


# Sources.


async def test_async_sources() -> None:
    """By `source`, `input` and `stdin`, at a command and at a function."""
    assert await (source(three()) | command("cat")).aoutput() == b"123"
    assert await (source(three()) | function(shout)).aoutput() == b"123"
    for first in (command("cat"), map_lines(bytes), function(shout)):
        assert (await first.aoutput(input=three())).strip() == b"123"
        assert (await first.aoutput(stdin=three())).strip() == b"123"
    result = await command("cat").arun(input=three(), stdout=CAPTURE)
    assert (result.edges[0].kind, result.edges[0].bytes) == ("pooled", 3)


async def test_an_async_source_that_raises_is_the_stages_or_stdins_failure() -> None:
    """With the very exception; what came before it has arrived."""
    error = OSError("lost")

    async def lost() -> AsyncIterator[bytes]:
        yield b"before"
        raise error

    with pytest.raises(PipelineError) as caught:
        await (source(lost(), name="mine") | command("cat")).aoutput()
    assert (caught.value.stage, caught.value.index, caught.value.cause) == ("mine", 0, error)
    assert caught.value.result is not None
    assert caught.value.result.stdout == b"before"
    with pytest.raises(PipelineError) as caught:
        await command("cat").aoutput(input=lost())
    assert (caught.value.stage, caught.value.index, caught.value.cause) == ("stdin", None, error)


async def test_an_async_source_that_never_ends_does_not_outlive_its_reader() -> None:
    """It is cancelled, and its `finally` has run when the run has ended."""
    closed: list[str] = []

    async def endless(name: str) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"y\n" * 1000
        finally:
            closed.append(name)

    async def silent() -> AsyncIterator[bytes]:
        try:
            yield b"y\n"
            await anyio.sleep_forever()
        finally:
            closed.append("silent")

    assert await (source(endless("source")) | command("head", "-n", "1")).aoutput() == b"y\n"
    assert await command("head", "-n", "1").aoutput(input=endless("input")) == b"y\n"
    assert await command("head", "-n", "1").aoutput(input=silent()) == b"y\n"
    assert closed == ["source", "input", "silent"]


async def test_an_async_source_of_something_else_names_it() -> None:
    """A TypeError, as for plain sources."""

    async def wrong() -> AsyncIterator[Any]:
        yield "text"

    for run in ((source(wrong()) | command("cat")).aoutput, partial(command("cat").aoutput, input=wrong())):
        with pytest.raises(PipelineError, match="an async source returned str, not bytes"):
            await run()


@pytest.mark.parametrize("option", ["input", "stdin"])
def test_in_a_sync_run_an_async_source_is_an_error_that_names_the_option(option: str) -> None:
    """And so is an async sink."""
    with pytest.raises(TypeError, match=f"{option} is async: it can only be used by"):
        command("/no/such").run(**{option: _AsyncIterable()})  # type: ignore[arg-type]


class _AsyncIterable:
    """Never iterated over."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        raise AssertionError


# Ends.


async def test_an_error_is_the_stages_and_the_very_exception() -> None:
    """What was written before it has arrived."""
    error = KeyError("mine")

    async def fail(_ctx: StageContext, _stdin: Any, stdout: Any) -> None:
        await stdout.send(b"before")
        raise error

    with pytest.raises(PipelineError) as caught:
        await (function(fail) | command("cat")).aoutput()
    assert (caught.value.stage, caught.value.index) == ("fail", 0)
    assert caught.value.cause is error
    assert caught.value.__cause__ is error
    assert caught.value.result is not None
    assert caught.value.result.stdout == b"before"
    assert (await ignore_error(function(fail), is_error(KeyError)).arun(stdout=CAPTURE)).ok


async def test_finish_early_is_a_success() -> None:
    """It excuses the producer, as in a plain stage; in the line stages too."""

    async def first(_ctx: StageContext, stdin: Any, stdout: Any) -> None:
        await stdout.send((await stdin.receive())[:2])
        raise FinishEarly

    async def only(line: bytes) -> bytes:
        if line == b"3":
            raise FinishEarly
        return line

    result = await (command("yes") | function(first)).arun(stdout=CAPTURE, pipe_errors="report")
    assert (result.ok, result.stdout) == (True, b"y\n")
    for concurrency in (1, 4):
        stage = map_lines(only, concurrency=concurrency)
        assert await (command("seq", "100000") | stage).aoutput() == b"1\n2\n"


async def test_writing_to_a_reader_that_has_gone_is_a_pipe_error() -> None:
    """Forgiven where the reader ended early, reported where it failed to read in the last stage's place."""
    written = 0

    async def endless(_ctx: StageContext, _stdin: Any, stdout: Any) -> None:
        nonlocal written
        while True:
            await stdout.send(b"y\n" * 1000)
            written += 1

    assert await (function(endless) | command("head", "-n", "1")).aoutput() == b"y\n"
    with pytest.raises(PipelineError, match="endless: "):
        await (function(endless) | command("head", "-n", "1")).aoutput(pipe_errors="report")
    assert written > 0


async def test_a_deadline_and_a_cancel_reach_a_stage_that_waits() -> None:
    """Wherever it waits: its own sleep is cancelled, and the reason is reported."""
    cancelled: list[bool] = []

    async def sleep(ctx: StageContext, _stdin: Any, _stdout: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(ctx.cancelled)

    async def wait(_ctx: StageContext, stdin: Any, _stdout: Any) -> None:
        await stdin.receive()

    with pytest.raises(PipelineTimeout):
        await function(sleep).arun(timeout=0.05)
    with pytest.raises(PipelineTimeout):
        await (command("sleep", "60") | function(wait)).arun(timeout=0.05)
    assert cancelled == [True]
    with pytest.raises(PipelineCancelled, match="enough"):
        async with function(sleep).astart() as run:
            run.cancel("enough")
    with anyio.move_on_after(0.01) as scope:
        await (function(sleep) | command("cat")).arun()
    assert scope.cancelled_caught
    with pytest.raises(PipelineError, match="false: exit status 1"):
        await (function(sleep) | command("false")).arun(fail_fast=True)
    assert len(cancelled) > 1  # one may be told to end before it has begun
    assert all(cancelled)


async def test_a_coroutine_that_ignores_its_cancellation_is_abandoned() -> None:
    """After the grace time, with an event; it goes on alone."""
    release = anyio.Event()
    ended = anyio.Event()

    async def stubborn(_ctx: StageContext, _stdin: Any, _stdout: Any) -> None:
        with anyio.CancelScope(shield=True):
            await release.wait()
        ended.set()

    events: list[Event] = []
    began = time.monotonic()
    with pytest.raises(PipelineTimeout):
        await function(stubborn).arun(timeout=0.05, grace=0.05, on_event=events.append)
    assert time.monotonic() - began < 0.05 + 0.05 + 1
    assert "abandoned" in [event.kind for event in events]
    release.set()
    await ended.wait()


async def test_stages_that_a_failed_start_did_not_reach_never_begin() -> None:
    """As with plain functions."""
    begun: list[bool] = []

    async def note(_ctx: StageContext, _stdin: Any, _stdout: Any) -> None:
        begun.append(True)

    with pytest.raises(PipelineError, match='starting stage "/no/such"'):
        await (function(note) | command("/no/such")).arun()
    assert not begun


async def test_on_exception_sees_what_async_stages_raise_in_a_thread_of_its_own() -> None:
    """It may replace or swallow it, and may block without holding up the loop."""
    here = threading.get_ident()
    seen: list[tuple[str, BaseException, bool]] = []

    async def fail(_line: bytes) -> bytes:
        raise ValueError("one")

    def handler(stage: str, error: BaseException) -> BaseException | None:
        seen.append((stage, error, threading.get_ident() == here))
        return None

    assert (await (echo("a") | map_lines(fail)).arun(on_exception=handler)).ok
    ((stage, error, in_loop),) = seen
    assert (stage, str(error), in_loop) == ("fail", "one", False)


# The line stages.


async def test_results_come_in_the_order_of_the_lines() -> None:
    """Whatever each takes; and no more calls go on at once than was asked for."""
    going = most = 0

    async def slow_first(line: bytes) -> bytes:
        nonlocal going, most
        going += 1
        most = max(most, going)
        for _ in range(20 if line == b"1" else int(line) % 3):
            await anyio.lowlevel.checkpoint()
        going -= 1
        return line

    lines = b"".join(b"%d\n" % number for number in range(1, 201))
    assert await map_lines(slow_first, concurrency=5).aoutput(input=lines) == lines
    assert most == 5


async def test_a_line_is_passed_on_though_nothing_follows() -> None:
    """What is ready waits neither for the next line nor for a call that takes long."""
    hold = anyio.Event()

    async def echo_or_wait(line: bytes) -> bytes:
        if line == b"wait":
            await hold.wait()
        return line

    for concurrency in (1, 3):
        stage = command("cat") | map_lines(echo_or_wait, concurrency=concurrency) | command("cat")
        async with stage.astart(stdin=PIPE, stdout=PIPE) as run:
            assert run.stdin is not None
            assert run.stdout is not None
            for line in (b"one\n", b"two\n"):
                await run.stdin.send(line)
                assert await run.stdout.receive() == line
            await run.stdin.send(b"three\nwait\n")
            assert await run.stdout.receive() == b"three\n"
            hold.set()
            assert await run.stdout.receive() == b"wait\n"
            await run.stdin.aclose()
        hold = anyio.Event()


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_an_error_comes_after_the_lines_before_it(concurrency: int) -> None:
    """And not in a group; the calls behind it are cancelled."""
    error = ValueError("third")

    async def third(line: bytes) -> bytes:
        if line == b"3":
            raise error
        if line > b"3":
            await anyio.sleep_forever()
        await anyio.sleep(0.01 / int(line))
        return line

    with pytest.raises(PipelineError) as caught:
        await (command("seq", "9") | map_lines(third, concurrency=concurrency)).aoutput()
    assert caught.value.cause is error
    assert caught.value.result is not None
    assert caught.value.result.stdout == b"1\n2\n"


async def test_items_that_are_not_lines_and_lines_that_are_too_long_are_errors() -> None:
    """Each as in the plain stage: after the lines before it."""

    async def wrong(line: bytes) -> Any:
        return line if line == b"a" else "text"

    for stage in (map_lines(wrong), map_lines(wrong, concurrency=3)):
        result = await stage.arun(input=b"a\nb\n", stdout=CAPTURE, check=False)
        assert str(result.error) == "wrong: TypeError: wrong returned str for a line, not bytes"
        assert result.stdout == b"a\n"
    result = await each_line(semicolon, max_line=3).arun(
        input=b"abc\nabcd\nabc\n", stdout=CAPTURE, check=False
    )
    assert isinstance(result.error, PipelineError)
    assert isinstance(result.error.cause, LineTooLong)
    assert result.stdout == b"abc;"


async def test_much_data_and_bounded_memory() -> None:
    """A megabyte of lines through async stages next to one another comes out whole."""
    lines = b"".join(b"%0200d\n" % number for number in range(5000))
    stage = map_lines(upper, concurrency=2) | function(shout) | transform_lines(bracket) | function(shout)
    expected = b"".join(b"<%b>\n" % line for line in lines.splitlines())
    assert await (stage | command("cat")).aoutput(input=lines) == expected


# Where its streams are no pipes of ours.


async def test_files_and_borrowed_descriptors_are_read_and_written_in_threads(tmp_path: Path) -> None:
    """A disk may be slow, and a descriptor that others share stays blocking."""
    path, copy = tmp_path / "in", tmp_path / "out"
    path.write_bytes(b"data" * 100_000)
    await function(shout).arun(stdin=path, stdout=copy)
    assert copy.read_bytes() == b"DATA" * 100_000
    with path.open("rb") as one, copy.open("wb") as other:
        await function(shout).arun(stdin=one.fileno(), stdout=other)
    assert copy.read_bytes() == b"DATA" * 100_000


# Loops.


@pytest.mark.backends("asyncio")
def test_a_loop_that_ends_takes_its_stages_along() -> None:
    """Without one being waited for: the run fails, and nothing hangs."""
    runs: list[Any] = []

    async def sleep(_ctx: StageContext, _stdin: Any, _stdout: Any) -> None:
        await anyio.sleep_forever()

    async def main() -> None:
        starting = (function(sleep) | command("cat")).astart()
        runs.append((starting, await starting.__aenter__()))

    asyncio.run(main())
    ((_, run),) = runs
    result = run._owned.run.wait(DEADLINE, check=False)
    assert not result.ok

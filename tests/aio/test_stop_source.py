"""`stop_source` in an event loop: stages of the loop end by it, too, and the others finish."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.isolation import stage_functions

from penstock import PIPE, Pipeline, PipelineCancelled, PipelineError, command, function, map_lines, source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from penstock.api.async_run import AsyncRun

ENDLESS = command("sh", "-c", "echo begun; while :; do echo more; sleep 0.01; done")
CAT = command("cat")


async def _write(_ctx: object, _stdin: Any, stdout: Any) -> None:
    await stdout.send(b"begun\n")
    while True:
        await stdout.send(b"more\n")


async def _read(_ctx: object, stdin: Any, stdout: Any) -> None:
    await stdout.send(b"begun\n")
    await stdin.receive()


async def _sleep(_ctx: object, _stdin: Any, stdout: Any) -> None:
    await stdout.send(b"begun\n")
    await anyio.sleep_forever()


async def _first_line(run: AsyncRun) -> None:
    assert run.stdout is not None
    line = b""
    while not line.startswith(b"begun\n"):
        line += await run.stdout.receive(6)


async def _rest(run: AsyncRun) -> bytes:
    assert run.stdout is not None
    return b"".join([chunk async for chunk in run.stdout])


async def _stop_and_read(pipeline: Pipeline, grace: float | None = None, *, cancel: bool = False) -> None:
    async with pipeline.astart(stdout=PIPE) as run:
        await _first_line(run)
        run.stop_source(grace)
        if cancel:
            run.cancel()
        await _rest(run)


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(ENDLESS, id="command"),
        pytest.param(function(_write), id="blocked in a write"),
        pytest.param(function(_read), id="blocked in a read"),
        pytest.param(function(_sleep), id="blocked elsewhere"),
        pytest.param(function(stage_functions.begin_and_write), id="function in a thread"),
        pytest.param(function(stage_functions.begin_and_write, isolate="process"), id="isolated"),
    ],
)
async def test_the_run_is_a_success(first: Pipeline) -> None:
    """Whatever the first stage is, and whatever it waits for."""
    stdin = {"stdin": PIPE} if first is not ENDLESS else {}
    async with (first | command("sh", "-c", "cat; echo; echo last")).astart(stdout=PIPE, **stdin) as run:  # type: ignore[arg-type]
        await _first_line(run)
        run.stop_source()
        assert (await _rest(run)).endswith(b"last\n")
        result = await run.wait()
    assert result.ok
    assert result.stages[0].error is None


async def test_an_async_generator_is_closed() -> None:
    """Before the stage has ended."""
    closed = []

    async def generate() -> AsyncIterator[bytes]:
        try:
            yield b"begun\n"
            while True:
                yield b"more\n"
                await anyio.sleep(0.001)
        finally:
            closed.append(True)

    async with (source(generate()) | map_lines(bytes) | CAT).astart(stdout=PIPE) as run:
        await _first_line(run)
        run.stop_source()
        await _rest(run)
        assert (await run.wait()).ok
    assert closed == [True]


async def test_an_async_iterable_that_feeds_it_is_left() -> None:
    """Its failure from then on is nobody's."""
    stopped = anyio.Event()

    async def feed() -> AsyncIterator[bytes]:
        yield b"begun\n"
        with anyio.CancelScope(shield=True):
            await stopped.wait()
        raise ValueError("its device has gone")

    async with (CAT | CAT).astart(stdin=feed(), stdout=PIPE) as run:
        await _first_line(run)
        run.stop_source()
        await _rest(run)
        stopped.set()
        assert (await run.wait()).ok


async def test_an_exception_of_a_coroutines_own_counts() -> None:
    """One that its clean-up raises, for one."""

    async def fail(_ctx: object, _stdin: Any, stdout: Any) -> None:
        await stdout.send(b"begun\n")
        try:
            await anyio.sleep_forever()
        finally:
            raise KeyError("clean-up")

    with pytest.raises(PipelineError) as caught:
        await _stop_and_read(function(fail) | CAT)
    assert isinstance(caught.value.cause, KeyError)


async def test_a_coroutine_that_ignores_it_is_abandoned() -> None:
    """At the end of the grace time."""
    deaf, go_on = anyio.Event(), anyio.Event()

    async def ignore(_ctx: object, _stdin: Any, stdout: Any) -> None:
        await stdout.send(b"begun\n")
        with anyio.CancelScope(shield=True):
            deaf.set()
            await go_on.wait()

    kinds = []
    async with (function(ignore) | CAT).astart(
        stdout=PIPE, on_event=lambda event: kinds.append(event.kind)
    ) as run:
        await _first_line(run)
        await deaf.wait()
        run.stop_source(0.05)
        await _rest(run)
        assert (await run.wait()).ok
    go_on.set()
    assert "abandoned" in kinds


async def test_a_cancellation_on_top_of_it_cancels() -> None:
    """The run has not ended yet."""
    deaf = command("sh", "-c", "trap '' TERM; echo begun; while :; do sleep 0.01; done")
    with pytest.raises(PipelineCancelled):
        await _stop_and_read(Pipeline(deaf, CAT, grace=0.1), grace=1000, cancel=True)


async def test_another_thread_may_call_it() -> None:
    """As it may call `cancel`."""
    async with (function(_write) | CAT).astart(stdout=PIPE) as run:
        await _first_line(run)
        thread = threading.Thread(target=run.stop_source)
        thread.start()
        await _rest(run)
        assert (await run.wait()).ok
    thread.join()

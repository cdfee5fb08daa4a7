"""Bytes between a task and its run: its pipes, the streams of asyncio and anyio, and the iterators."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import threading
import time
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

import anyio
import psutil
import pytest
from tests.support.processes import reaped
from tests.support.waiting import DEADLINE

from penstock import CAPTURE, PIPE, LineTooLong, PipelineError, closing, command, function, map_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.aio.conftest import StallProbe, Started

    from penstock import StageContext
    from penstock.api.async_run import AsyncRun

MEGABYTE = os.urandom(1 << 20)


# run.stdin and run.stdout.


async def test_both_pipes_hold_back_who_is_ahead() -> None:
    """A writer waits while nobody reads, and 8 MiB come out whole once somebody does."""
    data = MEGABYTE * 8
    async with command("cat").astart(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        with anyio.move_on_after(0.05) as scope:
            await run.stdin.send(data)
        assert scope.cancelled_caught
        sent = run.stdin.count
        assert 0 < sent < len(data)
        received = bytearray()

        async def write(stdin: Any) -> None:
            await stdin.send(memoryview(data)[sent:])
            await stdin.aclose()

        async with anyio.create_task_group() as group:
            group.start_soon(write, run.stdin)
            async for chunk in run.stdout:
                received += chunk
        assert received == data
        assert (await run.wait()).ok


async def test_a_task_sends_nothing_once_its_scope_is_cancelled() -> None:
    async with command("cat").astart(stdin=PIPE, stdout=CAPTURE) as run:
        assert run.stdin is not None
        with anyio.CancelScope() as scope:
            await run.stdin.send(b"before ")
            scope.cancel()
            await run.stdin.send(b"too late ")
        for kind in (bytes, bytearray, memoryview):
            await run.stdin.send(kind(b"after "))
        assert run.stdin.count == len(b"before after after after ")
    assert (await run.wait()).stdout == b"before after after after "


async def test_small_sends_come_whole_and_in_order() -> None:
    lines = [b"%d\n" % number for number in range(20_000)]
    async with command("cat").astart(stdin=PIPE, stdout=CAPTURE) as run:
        assert run.stdin is not None
        for line in lines:
            await run.stdin.send(line)
    assert (await run.wait()).stdout == b"".join(lines)


async def test_the_ends_of_a_pipe_are_told_as_anyio_tells_them() -> None:
    """EOF, a reader that has gone, a stream that was closed, two tasks at once."""
    async with command("true").astart(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        with pytest.raises(anyio.EndOfStream):
            await run.stdout.receive()
        await run.wait()
        with pytest.raises(anyio.ClosedResourceError):
            await run.stdin.send(b"x")
    async with command("cat").astart(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        async with anyio.create_task_group() as group:
            group.start_soon(_expect, anyio.ClosedResourceError, run.stdout.receive)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError):
                await run.stdout.receive()
            await run.stdout.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await run.stdout.receive()
        with contextlib.suppress(anyio.BrokenResourceError):
            while True:
                await run.stdin.send(MEGABYTE)


async def _expect(error: type[BaseException], call: Callable[[], Any]) -> None:
    with pytest.raises(error):
        await call()


@pytest.mark.slow
async def test_a_child_never_gets_a_non_blocking_descriptor() -> None:
    """Our end of each pipe is non-blocking; the child's is another description."""
    script = "import os; print(os.get_blocking(0), os.get_blocking(1))"
    async with command("python3", "-c", script).astart(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdout is not None
        assert b"".join([chunk async for chunk in run.stdout]) == b"True True\n"


# asyncio's and anyio's own streams.


async def _sockets() -> tuple[Any, Any]:
    one, other = socket.socketpair()
    for end in (one, other):
        end.settimeout(0)
    return one, other


@pytest.mark.backends("asyncio", "uvloop")
async def test_a_stream_reader_and_a_stream_writer_are_copied_whole() -> None:
    """In both directions, through a child, and what the reader had buffered comes first."""
    data = MEGABYTE * 4
    one, other = await _sockets()
    near_reader, near_writer = await asyncio.open_connection(sock=one)
    far_reader, far_writer = await asyncio.open_connection(sock=other)
    received: list[bytes] = []

    async def feed() -> None:
        far_writer.write(b"header\n" + data)
        await far_writer.drain()
        far_writer.write_eof()

    async def drain() -> None:
        received.append(await far_reader.read())

    async with asyncio.TaskGroup() as group:
        group.create_task(feed())
        group.create_task(drain())
        assert await near_reader.readline() == b"header\n"
        result = await (command("cat") | command("cat")).arun(stdin=near_reader, stdout=near_writer)
        assert not near_writer.is_closing()
        near_writer.close()
        await near_writer.wait_closed()
    assert received == [data]
    assert [edge.bytes for edge in result.edges] == [len(data), None, len(data)]
    assert [edge.kind for edge in result.edges] == ["pooled", "os-pipe", "pooled"]
    far_writer.close()
    await far_writer.wait_closed()


async def test_anyio_streams_are_copied_whole() -> None:
    """Also at a Python stage; `closing` closes what it wraps, in the loop."""
    data = b"line\n" * 300_000
    one, other = await _sockets()
    received = bytearray()
    async with (
        await anyio.abc.UNIXSocketStream.from_socket(one) as near,
        await anyio.abc.UNIXSocketStream.from_socket(other) as far,
    ):

        async def feed() -> None:
            await far.send(data)
            await far.send_eof()

        async def drain() -> None:
            async for chunk in far:
                received.extend(chunk)

        async with anyio.create_task_group() as group:
            group.start_soon(feed)
            group.start_soon(drain)
            await map_lines(bytes.upper).arun(stdin=near, stdout=closing(near))
        with pytest.raises(anyio.ClosedResourceError):
            await near.send(b"x")
    assert received == data.upper()


async def test_a_sink_that_fails_is_the_stdout_stages_failure() -> None:
    """With the very exception."""
    error = OSError("full")

    class Full:
        """A send stream that takes nothing."""

        async def send(self, item: bytes) -> None:
            """Fail."""
            raise error

    with pytest.raises(PipelineError) as caught:
        await command("yes").arun(stdout=Full())
    assert (caught.value.stage, caught.value.index, caught.value.cause) == ("stdout", None, error)
    with pytest.raises(TypeError, match="stdout is async: it can only be used by"):
        command("true").run(stdout=Full())


# The iterators.


async def test_closing_an_iterator_early_is_not_a_failure(started: Callable[[], Started]) -> None:
    """By `aclose`, by `async with`, by `contextlib.aclosing`; the children are gone then."""
    seen = started()
    chunks = command("yes").aiter_bytes(on_event=seen)
    assert (await chunks.__anext__()).startswith(b"y\n")
    await chunks.aclose()
    await chunks.aclose()
    with pytest.raises(StopAsyncIteration):
        await chunks.__anext__()
    async with command("yes").aiter_lines(on_event=seen) as lines:
        async for line in lines:
            assert line == b"y"
            break
    async with contextlib.aclosing(command("yes").aiter_lines(on_event=seen)) as lines:
        assert await lines.__anext__() == b"y"
    assert len(seen.pids) == 3
    assert all(reaped(pid) for pid in seen.pids)
    unused = command("/no/such").aiter_bytes()
    await unused.aclose()


async def test_a_dropped_iterator_ends_its_run(started: Callable[[], Started]) -> None:
    """By `break`; nobody waits for it, but the child goes."""
    seen = started()
    async for _ in command("yes").aiter_bytes(on_event=seen):
        break
    gc.collect()
    await seen.wait()
    (pid,) = seen.pids
    while psutil.pid_exists(pid):
        await anyio.lowlevel.checkpoint()


async def test_a_failure_comes_after_the_last_chunk() -> None:
    """And a start failure with the first `__anext__`."""
    chunks = command("sh", "-c", "echo out; exit 3").aiter_bytes()
    assert await chunks.__anext__() == b"out\n"
    with pytest.raises(PipelineError, match="sh: exit status 3"):
        await chunks.__anext__()
    with pytest.raises(StopAsyncIteration):
        await chunks.__anext__()
    with pytest.raises(PipelineError, match="starting stage"):
        await command("/no/such").aiter_lines().__anext__()


async def test_a_line_that_is_too_long_ends_the_iterator() -> None:
    """After the lines before it; the leak check sees that the child is gone."""
    lines = command("sh", "-c", "echo first; tr '\\0' x < /dev/zero").aiter_lines()
    assert await lines.__anext__() == b"first"
    with pytest.raises(LineTooLong):
        await lines.__anext__()
    with pytest.raises(StopAsyncIteration):
        await lines.__anext__()


# The loop.


@pytest.mark.slow
async def test_nothing_holds_up_the_loop(stalls: StallProbe) -> None:
    """Neither 1 GiB that passes, nor the start of 50 commands: no turn of the loop takes 20 ms."""
    size, longest = 0, 0.0
    producer = command("dd", "if=/dev/zero", "bs=256K", "count=4096")
    many = reduce(or_, [command("true"), *[command("cat")] * 49])
    await command("true").arun()  # what is imported for the first run is
    async with anyio.create_task_group() as group:
        group.start_soon(stalls.watch)
        async for chunk in producer.aiter_bytes():
            size += len(chunk)
        await many.arun(stdout=CAPTURE)
        longest = stalls.longest
        began = time.thread_time()
        while time.thread_time() - began < 0.02:  # what the probe would see
            pass
        await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert size == 1 << 30
    assert longest < 0.02 <= stalls.longest


@pytest.mark.backends("asyncio")
@pytest.mark.usefixtures("blockbuster")
async def test_no_call_that_blocks_is_made_in_the_loop() -> None:
    """Blockbuster raises for each that it knows: reads, locks, sleeps, file access."""

    async def shout(_ctx: StageContext, stdin: Any, stdout: Any) -> None:
        async for chunk in stdin:
            await stdout.send(chunk.upper())

    pipeline = command("cat") | function(shout) | map_lines(bytes.lower) | command("cat")
    data = MEGABYTE.hex().encode()
    assert (await pipeline.aoutput(input=data)).strip() == data
    async with pipeline.astart(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        await run.stdin.send(b"hello\n")
        assert await run.stdout.receive() == b"hello\n"
    with anyio.move_on_after(0.02):
        await command("sleep", "60").arun()


async def _sync_beside(count: int) -> list[str]:
    texts: list[str] = []

    def work() -> None:
        texts.extend((command("echo", "sync") | map_lines(bytes.upper)).text() for _ in range(count))

    thread = threading.Thread(target=work)
    thread.start()
    texts += [await command("echo", "async").atext() for _ in range(count)]
    thread.join()
    return texts


async def test_sync_runs_in_threads_go_on_beside_async_ones() -> None:
    """They share the supervisor, and nothing else."""
    texts = await _sync_beside(20)
    assert sorted(texts) == ["SYNC\n"] * 20 + ["async\n"] * 20


def test_loops_are_made_and_closed_again_and_again(backend: str, on_loop: Callable[..., Any]) -> None:
    """Each has runs of its own, and leaves nothing behind."""
    for number in range(10):
        assert on_loop(backend, command("echo", str(number)).atext) == f"{number}\n"


def test_a_run_is_waited_for_in_its_own_loop_only(backend: str, on_loop: Callable[..., Any]) -> None:
    """Anywhere else it is an error that says so."""

    async def start() -> tuple[AsyncRun, AsyncIterator[bytes]]:
        chunks = command("printf", "a").aiter_bytes()
        await chunks.__anext__()
        async with command("true").astart() as run:
            await run.wait()
        return run, chunks

    run, chunks = on_loop(backend, start)
    with pytest.raises(RuntimeError, match="belongs to another event loop"):
        on_loop(backend, run.wait)
    with pytest.raises(RuntimeError, match="belongs to another event loop"):
        on_loop(backend, chunks.__anext__)


def test_a_loop_that_is_closed_half_way_leaves_no_child(backend: str, on_loop: Callable[..., Any]) -> None:
    """What was forgotten there is ended by whoever drops it."""

    async def forget() -> Any:
        chunks = command("yes").aiter_bytes()
        await chunks.__anext__()
        return chunks

    chunks = on_loop(backend, forget)
    (pid,) = chunks._owned.run.pids
    owned = chunks._owned
    del chunks
    gc.collect()
    owned.run.wait(DEADLINE, check=False)
    assert reaped(pid)

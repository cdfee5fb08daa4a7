"""What nobody should do, and somebody does: whatever becomes of a loop or a task, its children go."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import psutil
import pytest
import trio
import uvloop
from tests.support.waiting import DEADLINE, until

from penstock import PIPE, command, function, map_lines, source
from penstock.system.process import may_have_children

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from tests.aio.conftest import Started

    from penstock import StageContext

pytestmark = pytest.mark.slow


SLEEP = command("sleep", "60")
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def passing(_ctx: StageContext, stdin: Any, stdout: Any) -> None:
    """An async stage that passes everything on."""
    async for chunk in stdin:
        await stdout.send(chunk)


async def numbers() -> AsyncIterator[bytes]:
    """An async source."""
    for number in range(1000):
        yield b"%d\n" % number


def children() -> set[psutil.Process]:
    """The children of this process, of which nobody but a test knows."""
    return set(psutil.Process().children()) if may_have_children() else set()


def await_end(before: set[psutil.Process]) -> None:
    """Wait until all children that are new are gone."""
    _, alive = psutil.wait_procs(children() - before, timeout=DEADLINE)
    assert not alive


@pytest.mark.parametrize("turns", [0, *(1 << power for power in range(9))])
async def test_a_cancellation_at_any_moment_leaves_nothing(turns: int) -> None:
    """While it is started, while it is fed, read and ended; with stages of every kind."""
    before = children()
    pipeline = (
        source(numbers()) | command("cat") | function(passing) | map_lines(bytes.upper) | command("cat")
    )

    async def iterate() -> None:
        async for _ in pipeline.aiter_lines():
            pass

    async def talk() -> None:
        async with (command("cat") | function(passing)).astart(stdin=PIPE, stdout=PIPE) as run:
            assert run.stdin is not None
            assert run.stdout is not None
            await run.stdin.send(b"hello")
            await run.stdout.receive()

    async with anyio.create_task_group() as group:
        for call in (iterate, talk, partial(command("cat").aoutput, input=numbers())):
            group.start_soon(call)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert not children() - before


async def test_a_failure_in_nested_task_groups_ends_all_runs() -> None:
    """Each group waits for its own; the error that comes out is the one that was raised."""
    before = children()

    async def inner(*, fails: bool) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(SLEEP.arun)
            group.start_soon(command("yes").aoutput)
            async for _ in command("yes").aiter_bytes():
                if fails:
                    raise ValueError("one of them")

    async def outer() -> None:
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(partial(inner, fails=number == 2))

    with pytest.raises(ExceptionGroup) as caught:
        await outer()
    assert caught.group_contains(ValueError, match="one of them")
    assert not children() - before


async def in_a_block() -> None:
    """Wait in the block of a run."""
    async with SLEEP.astart(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdout is not None
        await run.stdout.receive()


async def iterating() -> None:
    """Hold up a run by not reading."""
    async for _ in command("yes").aiter_bytes():
        await asyncio.sleep(60)


LEFT: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
    "arun": SLEEP.arun,
    "async stage": (SLEEP | function(passing) | command("cat")).arun,
    "async input": lambda: command("cat").arun(input=numbers_and_a_wait()),
    "block": in_a_block,
    "iterating": iterating,
}


async def numbers_and_a_wait() -> AsyncIterator[bytes]:
    """An async source that never ends."""
    yield b"1"
    await asyncio.sleep(60)


@pytest.mark.backends("asyncio", "uvloop")
@pytest.mark.parametrize("way", LEFT)
@pytest.mark.parametrize("begun", [True, False])
def test_runs_of_a_closed_loop_are_ended(
    backend: str,
    way: str,
    begun: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody cancelled the task, and nobody ever will; neither does it hold up the end of another's."""
    before = children()
    loop = LOOPS[backend]()
    task = loop.create_task(LEFT[way]())

    async def wait() -> None:
        while begun and not children() - before:
            await anyio.lowlevel.checkpoint()

    loop.run_until_complete(wait())
    loop.close()
    until(lambda: not children() - before)
    del task
    gc.collect()  # asyncio says what it thinks of that; it is no error of ours
    assert all(record.name == "asyncio" for record in caplog.records)


def test_an_interrupt_ends_the_run_and_goes_on(
    backend: str, on_loop: Callable[..., Any], started: Callable[[], Started]
) -> None:
    """Ctrl-C in `asyncio.run` and its like: the run has ended when KeyboardInterrupt comes out."""
    before = children()

    async def main() -> None:
        seen = started()

        async def interrupt() -> None:
            await seen.wait()
            signal.raise_signal(signal.SIGINT)

        async with anyio.create_task_group() as group:
            group.start_soon(interrupt)
            await (SLEEP | command("cat")).arun(on_event=seen)

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - trio may put it into a group
        on_loop(backend, main)
    error: BaseException | None = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, KeyboardInterrupt)
    assert not children() - before


async def test_an_iterator_may_be_closed_while_another_task_starts_it() -> None:
    """That task is told of the end, and no child is left waiting to be read."""
    before = children()
    chunks = SLEEP.aiter_bytes()
    ended = anyio.Event()

    async def read() -> None:
        with pytest.raises(StopAsyncIteration):
            await chunks.__anext__()
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.lowlevel.checkpoint()
        await chunks.aclose()
        await ended.wait()
    assert not children() - before


@pytest.mark.backends("asyncio", "uvloop")
def test_a_run_is_left_in_its_own_loop_only(backend: str) -> None:
    """To use it in another is an error, or goes without waiting; none of it hangs."""
    before = children()
    loop = LOOPS[backend]()
    block = SLEEP.astart(stdin=PIPE)
    run = loop.run_until_complete(block.__aenter__())
    chunks = command("yes").aiter_bytes()
    loop.run_until_complete(chunks.__anext__())

    async def elsewhere() -> None:
        assert run.stdin is not None
        for use in (partial(run.stdin.send, b"x"), run.wait, partial(block.__aexit__, None, None, None)):
            with pytest.raises(RuntimeError, match="belongs to another event loop"):
                await use()
        await chunks.aclose()

    asyncio.run(elsewhere())
    loop.run_until_complete(block.__aexit__(ValueError, ValueError("mine"), None))
    loop.close()
    await_end(before)


def test_asyncio_and_trio_in_one_process() -> None:
    """Loops of both in threads, at once."""
    texts: list[str] = []

    def work(run: Callable[..., str], name: str) -> None:
        texts.append(run((command("echo", name) | function(passing)).atext))

    def by_asyncio(call: Callable[[], Coroutine[Any, Any, str]]) -> str:
        return asyncio.run(call())

    threads = [
        threading.Thread(target=work, args=(run, name))
        for run, name in ((by_asyncio, "asyncio"), (trio.run, "trio"))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(texts) == ["asyncio\n"] * 5 + ["trio\n"] * 5

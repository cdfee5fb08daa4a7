"""Cancelling a task or scope ends its run, waits for its children, and then goes on as its users expect."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import psutil
import pytest
import trio
from tests.support.processes import reaped

from penstock import PIPE, Pipeline, PipelineCancelled, PipelineTimeout, command, function

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.aio.conftest import Started
    from tests.support.fixtures import SetTiming

    from penstock import Event, StageContext
    from penstock.api.async_run import AsyncRun

SLEEP = command("sleep", "60")
DEAF = command("sh", "-c", "trap '' TERM; echo $$; while :; do sleep 0.01; done")
"""Says its pid, and ends by SIGKILL only."""


async def _each(pipeline: Pipeline, way: str, **options: Any) -> None:
    """Run in one of the ways that own a run."""
    if way == "arun":
        await pipeline.arun(**options)
    elif way == "aoutput":
        await pipeline.aoutput(**options)
    elif way == "aiter_bytes":
        async for _ in pipeline.aiter_bytes(**options):
            pass
    elif way == "astart":
        async with pipeline.astart(**options) as run:
            await run.wait()
    else:
        async with pipeline.astart(**options):
            await anyio.sleep_forever()


WAYS = ["arun", "aoutput", "aiter_bytes", "astart", "block"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_cancelled_scope_leaves_no_child(way: str, started: Callable[[], Started]) -> None:
    """Whatever the task was waiting in; when the scope is left, the child is reaped."""
    seen = started()
    async with anyio.create_task_group() as group:
        group.start_soon(partial(_each, SLEEP | command("cat"), way, on_event=seen))
        await seen.wait()
        group.cancel_scope.cancel()
    assert seen.pids
    assert all(reaped(pid) for pid in seen.pids)


async def test_cancellation_waits_for_a_child_that_takes_its_time(tmp_path: Path) -> None:
    """SIGTERM first; a child that tidies up within the grace time has done so when the scope is left."""
    tidy = tmp_path / "tidy"
    script = f"trap 'sleep 0.05; echo done > {tidy}; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    with anyio.CancelScope() as scope:
        async for _ in command("sh", "-c", script).aiter_bytes():
            scope.cancel()
    assert scope.cancelled_caught
    assert tidy.read_text() == "done\n"


async def test_a_child_that_ignores_sigterm_is_killed_after_the_grace_time() -> None:
    """And the cancellation goes on no later than that."""
    pids: list[int] = []
    began = 0.0
    with anyio.CancelScope() as scope:
        async for line in DEAF.aiter_lines(grace=0.1):
            pids.append(int(line))
            began = time.monotonic()
            scope.cancel()
    assert scope.cancelled_caught
    assert time.monotonic() - began < 0.1 + 1
    assert reaped(pids[0])


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0, 0.0005, 0.001, 0.002, 0.004])
async def test_a_start_under_way_is_not_lost(delay: float) -> None:
    """Wherever between the call and the last spawn the cancellation comes."""
    pids: list[int] = []

    def note(event: Event) -> None:
        if "pid" in event.context:
            pids.append(event.context["pid"])

    many = Pipeline(*[SLEEP] * 6)
    with anyio.move_on_after(delay) as scope:
        await many.arun(on_event=note)
    assert scope.cancelled_caught
    assert all(reaped(pid) for pid in pids)


async def test_a_start_that_hangs_is_left_and_ended_once_it_gets_on(set_timing: SetTiming) -> None:
    """A worker that waits for the value of a variable cannot be called back; other starts are not held up."""
    set_timing(cancel_margin_s=0.05)
    release = threading.Event()
    token, over = anyio.lowlevel.current_token(), anyio.Event()
    events: list[Event] = []

    def note(event: Event) -> None:
        events.append(event)
        if event.kind == "exit":  # once: the loop may be over by the next
            anyio.from_thread.run_sync(over.set, token=token)

    def value() -> str:
        release.wait()
        return "x"

    with anyio.move_on_after(0.05) as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(partial(command("cat").arun, env={"X": value}, on_event=note))
            assert await command("echo", "other").aoutput() == b"other\n"
    assert scope.cancelled_caught
    assert [event.kind for event in events] == ["run-start"]
    release.set()
    await over.wait()
    assert all(reaped(event.context["pid"]) for event in events if "pid" in event.context)


# What users of each library write.


@pytest.mark.backends("asyncio", "uvloop")
@pytest.mark.parametrize("way", WAYS)
async def test_asyncios_own_timeout(way: str, started: Callable[[], Started]) -> None:
    """`asyncio.timeout` knows the cancellation for its own, after the child was reaped."""
    seen = started()
    expired = None
    try:
        async with asyncio.timeout(0.05):
            await _each(SLEEP, way, on_event=seen)
    except TimeoutError as error:
        expired = error
    assert expired is not None
    assert len(seen.pids) == 1
    assert all(reaped(pid) for pid in seen.pids)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.backends("asyncio", "uvloop")
async def test_a_task_that_is_cancelled_again_and_again_still_reaps() -> None:
    """Such a cancel goes through anyio's shields; the child is not left behind for that."""
    pids: list[int] = []
    ready = asyncio.Event()

    async def read() -> None:
        async for line in DEAF.aiter_lines(grace=0.1):
            pids.append(int(line))
            ready.set()

    task = asyncio.create_task(read())
    await ready.wait()
    cancels = 0
    while not task.done():
        task.cancel()
        cancels += 1
        await asyncio.wait([task], timeout=0.01)
    assert task.cancelled()
    assert cancels > 3
    assert reaped(pids[0])


@pytest.mark.backends("asyncio", "uvloop")
async def test_asyncios_task_group_and_wait_for(started: Callable[[], Started]) -> None:
    """A sibling's failure ends the run; `wait_for` gives up on it."""
    seen = started()

    async def fail() -> None:
        await seen.wait()
        raise ValueError("sibling")

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(SLEEP.arun(on_event=seen))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        await both()
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(SLEEP.arun(on_event=seen), 0.05)
    assert len(seen.pids) == 2
    assert all(reaped(pid) for pid in seen.pids)


@pytest.mark.backends("trio")
@pytest.mark.parametrize("way", WAYS)
async def test_trios_own_scopes(way: str, started: Callable[[], Started]) -> None:
    """`move_on_after` catches its own cancellation, after the child was reaped."""
    seen = started()
    with trio.move_on_after(0.05) as scope:
        await _each(SLEEP, way, on_event=seen)
    assert scope.cancelled_caught
    with pytest.raises(trio.TooSlowError), trio.fail_after(0.05):
        await _each(SLEEP, way, on_event=seen)
    assert len(seen.pids) == 2
    assert all(reaped(pid) for pid in seen.pids)


async def test_fail_after_and_the_runs_own_timeout_tell_themselves_apart() -> None:
    """The scope's is a TimeoutError of anyio's, the run's a PipelineTimeout."""
    with pytest.raises(TimeoutError) as caught, anyio.fail_after(0.05):
        await SLEEP.arun(timeout=60)
    assert not isinstance(caught.value, PipelineTimeout)
    with pytest.raises(PipelineTimeout), anyio.fail_after(60):
        await SLEEP.arun(timeout=0.05)


async def test_a_function_that_is_blocked_wakes() -> None:
    """A cancellation reaches function stages too, as a reason."""
    seen: list[BaseException] = []

    def read(_ctx: StageContext, stdin: Any, _stdout: Any) -> None:
        try:
            stdin.read()
        except BaseException as error:
            seen.append(error)
            raise

    with anyio.move_on_after(0.05):
        await (SLEEP | function(read)).arun()
    (reason,) = seen
    assert str(reason) == "the task that owned the run was cancelled"


async def test_waiting_is_not_owning() -> None:
    """A `wait` that is cancelled, or over, leaves the run to its block."""
    async with command("cat").astart(stdin=PIPE, stdout=PIPE) as run:
        with anyio.move_on_after(0.01) as scope:
            await run.wait()
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError, match=r"has not ended within 0\.01 s"):
            await run.wait(0.01)
        assert not run.done()
        assert run.stdin is not None
        assert run.stdout is not None
        await run.stdin.send(b"still here")
        assert await run.stdout.receive() == b"still here"
        await run.stdin.aclose()
        assert (await run.wait()).ok


async def test_an_exception_in_the_block_cancels_the_run_for_it() -> None:
    """It is the reason, and goes on."""
    runs: list[AsyncRun] = []
    error = ValueError("mine")

    async def block() -> None:
        async with SLEEP.astart() as run:
            runs.append(run)
            raise error

    with pytest.raises(ValueError, match="mine") as caught:
        await block()
    assert caught.value is error
    (run,) = runs
    assert [reaped(pid) for pid in run.pids] == [True]
    with pytest.raises(PipelineCancelled) as told:
        await run.wait()
    assert told.value.cause is error


async def test_cancel_from_a_thread_and_from_a_signal_handler() -> None:
    """As with `Run.cancel`; leaving the block of a run that failed raises its error."""

    async def from_a_thread() -> None:
        async with SLEEP.astart() as run:
            thread = threading.Thread(target=run.cancel, args=("from a thread",))
            thread.start()
            thread.join()
            assert not (await run.wait(check=False)).ok

    async def from_a_handler() -> None:
        async with SLEEP.astart() as run:
            signal.signal(signal.SIGUSR1, lambda *_: run.cancel("from a handler"))
            os.kill(os.getpid(), signal.SIGUSR1)

    with pytest.raises(PipelineCancelled, match="from a thread"):
        await from_a_thread()
    before = signal.getsignal(signal.SIGUSR1)
    try:
        with pytest.raises(PipelineCancelled, match="from a handler"):
            await from_a_handler()
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.slow
async def test_starts_that_still_wait_when_their_tasks_are_cancelled_do_not_happen() -> None:
    """However often the tasks are cancelled: afterwards no child is there, nor comes later."""
    deaf = command("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    before = {child.pid for child in psutil.Process().children()}
    ended = 0

    async def one() -> None:
        nonlocal ended
        try:
            await deaf.arun(grace=0.2)
        finally:
            ended += 1

    async with anyio.create_task_group() as group:
        for _ in range(2000):  # more than can be started in the second for which a start is waited for
            group.start_soon(one)
        await anyio.sleep(0.05)
        group.cancel_scope.cancel()
    assert {child.pid for child in psutil.Process().children()} <= before
    assert ended == 2000

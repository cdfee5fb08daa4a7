"""Maps in event loops: `async for` under asyncio and trio, their cancellation and their end."""

from __future__ import annotations

import itertools
import subprocess
import sys

import anyio
import anyio.lowlevel
import pytest

from penstock import MapError, command, item

echo = command("echo", item)
asleep = command("sleep", item)


async def test_jobs_come_as_in_a_plain_loop() -> None:
    seen = [job.stdout async for job in echo.map(range(20), collect="text", ordered=True)]
    assert seen == [f"{number}\n" for number in range(20)]


async def test_the_error_comes_at_the_end() -> None:
    jobs = command("false", item).map([1, 2], halt="never")
    assert [(await anext(jobs)).ok for _ in range(2)] == [False, False]
    with pytest.raises(MapError):
        await anext(jobs)
    with pytest.raises(StopAsyncIteration):
        await anext(jobs)


async def test_other_tasks_run_meanwhile() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.lowlevel.checkpoint()
            ticks += 1

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        async for job in asleep.map(["0.05"]):
            assert job.ok
        group.cancel_scope.cancel()
    assert ticks > 5


async def test_a_cancelled_task_ends_what_runs() -> None:
    jobs = asleep.map(itertools.chain([0], itertools.repeat(1000)), workers=2)
    assert (await anext(jobs)).ok
    with anyio.move_on_after(0.05) as scope:
        await anext(jobs)
    assert scope.cancelled_caught
    assert [job async for job in jobs] == []  # the leak check finds the children otherwise


async def test_leaving_the_block_ends_what_runs() -> None:
    async with asleep.map(itertools.chain([0], itertools.repeat(1000)), workers=2) as jobs:
        assert (await anext(jobs)).ok
    assert [job async for job in jobs] == []


async def test_several_tasks_may_take_jobs() -> None:
    jobs = echo.map(range(30), collect="text", workers=2)
    taken: list[int] = []

    async def take() -> None:
        taken.extend([job.index async for job in jobs])

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(take)
    assert sorted(taken) == list(range(30))


def test_asyncio_needs_no_anyio() -> None:
    program = """
import asyncio, sys
from penstock import command, item

async def main():
    return [job.stdout async for job in command("echo", item).map([1], collect="text")]

print(asyncio.run(main()), "anyio" in sys.modules)
"""
    ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert ended.stdout == "['1\\n'] False\n"

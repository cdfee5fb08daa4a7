"""`AsyncRun.snapshot()` tells what `Run.snapshot()` does, from a task, and does not block the loop."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from blockbuster import blockbuster_ctx
from tests.support.waiting import DEADLINE

from penstock import PIPE, PipelineCancelled, command, function, source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock import Snapshot
    from penstock.api.async_run import AsyncRun

CAT = command("cat")


async def until(run: AsyncRun, condition: Callable[[Snapshot], object]) -> Snapshot:
    """Ask until a snapshot is as it should be."""
    with anyio.fail_after(DEADLINE):
        while not condition(snapshot := run.snapshot()):  # noqa: ASYNC110 - no event tells of it
            await anyio.sleep(0.005)
    return snapshot


@pytest.fixture
def thousand(tmp_path: Path) -> Path:
    """A file of 1,000 bytes."""
    path = tmp_path / "thousand"
    path.write_bytes(b"x" * 1000)
    return path


async def passing(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Pass all chunks on, in a task."""
    async for chunk in stdin:
        await stdout.send(chunk)


async def test_stages_that_wait_for_bytes_are_reading() -> None:
    """Commands and tasks alike."""
    async with (CAT | function(passing) | CAT).astart(stdin=PIPE, stdout=PIPE) as run:
        snapshot = await until(run, lambda seen: {stage.state for stage in seen.stages} == {"reading"})
        assert snapshot.stages[0].pid == run.pids[0]
        assert run.stdin is not None
        await run.stdin.aclose()
    assert {stage.state for stage in run.snapshot().stages} == {"ended"}
    assert run.snapshot().done


async def test_stages_that_wait_for_room_are_writing() -> None:
    """All wait for the task that reads `run.stdout`, which is named with the last stage."""
    line = source([b"x" * 1000] * 1_000_000) | function(passing) | CAT

    with contextlib.suppress(PipelineCancelled):  # or its output is closed first, which is not a failure
        async with line.astart(stdout=PIPE) as run:
            await until(run, lambda seen: {stage.state for stage in seen.stages} == {"writing"})
            await until(run, lambda seen: (seen.bottleneck, seen.bottleneck_end) == ("cat", "stdout"))
            run.cancel()


async def test_the_bytes_of_a_task_are_counted() -> None:
    """Those of the streams that it uses."""
    async with function(passing).astart(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdin is not None
        await run.stdin.send(b"x" * 1000)
        await until(run, lambda seen: seen.stages[0].bytes_out == seen.stages[0].bytes_in == 1000)
        await run.stdin.aclose()


@pytest.mark.backends("asyncio")
async def test_a_snapshot_makes_no_call_that_blocks(thousand: Path) -> None:
    """It may be taken in the loop's own thread."""
    async with (command("sleep", "0.2") | function(passing) | CAT).astart(stdin=thousand, stdout=PIPE) as run:
        with blockbuster_ctx():
            assert run.snapshot().fraction == 0.0
            await until(run, lambda seen: seen.stages[-1].state == "reading")

"""Small sends to a pipe: a burst shares system calls, and all of it arrives without a flush."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.support.processes import write_calls

from penstock import CAPTURE, DEVNULL, PIPE, PipelineError, command, function

if TYPE_CHECKING:
    from penstock.api.async_run import AsyncRun

LINE = b"0123456789\n"
MANY = 2000


async def _send(stdin: Any, count: int = MANY) -> None:
    for _ in range(count):
        await stdin.send(LINE)


async def _received(run: AsyncRun, size: int) -> bytes:
    assert run.stdout is not None
    got = b""
    while len(got) < size:
        got += await run.stdout.receive()
    return got


async def test_a_burst_shares_system_calls() -> None:
    async with command("cat").astart(stdin=PIPE, stdout=DEVNULL) as run:
        before = write_calls()
        await _send(run.stdin)
        assert write_calls() - before < MANY / 4


async def test_a_burst_arrives_though_nothing_more_is_sent() -> None:
    """The receiving task waits, and the loop has its turn."""
    async with command("cat").astart(stdin=PIPE, stdout=PIPE) as run:
        for count in (MANY, MANY + 1, MANY + 77):
            await _send(run.stdin, count)
            assert await _received(run, count * len(LINE)) == LINE * count


async def test_each_question_of_a_dialogue_goes_on_at_once() -> None:
    """Even after a burst."""
    async with command("cat").astart(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdin is not None
        await _send(run.stdin)
        await _received(run, MANY * len(LINE))
        before = write_calls()
        for _ in range(100):
            await run.stdin.send(LINE)
            assert await _received(run, len(LINE)) == LINE
        assert write_calls() - before >= 100


async def test_pieces_of_all_sizes_and_kinds_keep_their_order() -> None:
    """Each of them is counted, whether it is held or not."""
    dice = random.Random(1)
    sent = bytearray()
    async with command("cat").astart(stdin=PIPE, stdout=CAPTURE) as run:
        assert run.stdin is not None
        for number in range(20_000):
            size = dice.choice((1, 3, 10, 10, 10, 100, 4095, 4096, 4097, 70_000 if number % 50 == 0 else 0))
            piece = b"%d " % number * (size // 4 + 1)
            await run.stdin.send(dice.choice((bytes, bytes, bytes, bytearray, memoryview))(piece))
            sent += piece
            assert run.stdin.count == len(sent)
    assert (await run.wait()).stdout == bytes(sent)


@pytest.mark.parametrize("close", ["aclose", "close"])
async def test_the_close_writes_what_is_held(close: str) -> None:
    """After it nothing is taken any more."""
    async with command("cat").astart(stdin=PIPE, stdout=CAPTURE) as run:
        assert run.stdin is not None
        await _send(run.stdin)
        if close == "aclose":
            await run.stdin.aclose()
        else:
            run.stdin.close()
        with pytest.raises(anyio.ClosedResourceError):
            await run.stdin.send(LINE)
    assert (await run.wait()).stdout == LINE * MANY


async def test_the_end_of_the_block_writes_what_is_held() -> None:
    async with command("cat").astart(stdin=PIPE, stdout=CAPTURE) as run:
        await _send(run.stdin)
    assert (await run.wait()).stdout == LINE * MANY


async def test_a_cancelled_task_loses_nothing_of_what_it_has_sent() -> None:
    sent = 0
    async with command("cat").astart(stdin=PIPE, stdout=CAPTURE) as run:
        assert run.stdin is not None
        with anyio.CancelScope() as scope:
            while True:
                await run.stdin.send(LINE)
                sent += 1
                if sent == MANY:
                    scope.cancel()
    assert (await run.wait()).stdout == LINE * MANY


async def test_a_reader_that_has_gone_is_told_in_a_burst_too() -> None:
    async with command("true").astart(stdin=PIPE) as run:
        with pytest.raises(anyio.BrokenResourceError) as caught:
            await _send(run.stdin, 1 << 30)
        assert isinstance(caught.value.__cause__, BrokenPipeError)
    assert (await run.wait()).ok


async def test_the_sends_of_a_stage_arrive_and_are_counted() -> None:
    async def give(_ctx: object, _stdin: object, stdout: Any) -> None:
        await _send(stdout)

    result = await (function(give) | command("cat")).arun(stdout=CAPTURE)
    assert result.stdout == LINE * MANY
    assert result.edges[1].bytes == len(LINE) * MANY


async def test_the_sends_before_a_failure_arrive() -> None:
    async def fail(_ctx: object, _stdin: object, stdout: Any) -> None:
        await _send(stdout)
        raise KeyError("lost")

    with pytest.raises(PipelineError) as caught:
        await (function(fail) | command("cat")).arun(stdout=CAPTURE)
    assert caught.value.result is not None
    assert caught.value.result.stdout == LINE * MANY

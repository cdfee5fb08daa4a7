"""Graphs in event loops: the same outputs and verdicts, with stages of the loop in branches and sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from penstock import (
    CAPTURE,
    DEVNULL,
    PIPE,
    Pipeline,
    PipelineError,
    PipelineTimeout,
    command,
    concat,
    function,
    map_lines,
    merge,
    reading,
    shared,
    source,
    tee,
    writing,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from penstock import StageContext

CAT = command("cat")
UPPER = map_lines(bytes.upper)


async def _upper(_ctx: object, stdin: Any, stdout: Any) -> None:
    async for chunk in stdin:
        await stdout.send(chunk.upper())


async def _chunks() -> AsyncIterator[bytes]:
    for number in range(1, 10):
        await anyio.lowlevel.checkpoint()
        yield b"%d\n" % number


async def _fail(_ctx: object, stdin: Any, _stdout: Any) -> None:
    async for _ in stdin:
        pass
    raise ValueError("refused")


LOUD = function(_upper, name="loud")
NUMBERS = b"".join(b"%d\n" % number for number in range(1, 10))


def graph() -> Pipeline:
    """Return one with every kind of stage."""
    lines = shared(command("seq", "9"))
    joined = command("paste", reading(lines), reading(lines | UPPER, via="fifo"))
    copied = joined | command("tee", writing(Pipeline(command("wc", "-l"), name="lines")))
    return copied | tee(Pipeline(CAT, name="copy")) | merge_free()


def merge_free() -> Pipeline:
    """Return a stage that reads two sources beside its stdin."""
    sources = reading(merge(command("echo", "a"))), reading(concat(command("echo", "b")))
    return Pipeline(command("paste", "-", *sources))


async def test_a_graph_of_commands_and_functions() -> None:
    """It is the same value as in a thread."""
    pipeline = graph()
    result = await pipeline.arun(stdout=CAPTURE)
    assert result.stdout == pipeline.output()
    assert int(result.output("lines")) == 9
    assert result.output("copy").count(b"\n") == 9


async def test_stages_of_the_loop_on_every_side_of_a_tee() -> None:
    """They need no thread."""
    pipeline = source(_chunks()) | LOUD | tee(Pipeline(LOUD, name="one"), LOUD | CAT) | LOUD
    result = await Pipeline(pipeline).arun(stdout=CAPTURE)
    assert result.stdout == result.output("one") == result.output("cat") == NUMBERS


async def test_stages_of_the_loop_behind_names() -> None:
    """As sources and as branches of a command."""
    one = reading(Pipeline(source(_chunks()), LOUD))
    pipeline = command("paste", one, "-") | command("tee", writing(LOUD)) | CAT
    result = await pipeline.arun(stdout=CAPTURE, input=NUMBERS)
    assert result.stdout == result.output("loud")
    assert result.stdout == b"".join(b"%d\t%d\n" % (number, number) for number in range(1, 10))


async def test_stages_of_the_loop_are_merged_and_shared() -> None:
    """Each source runs once."""
    lines = shared(Pipeline(source(_chunks()), LOUD))
    found = await merge(lines, lines | LOUD, concat(lines, LOUD)).aoutput()
    assert sorted(found.split()) == sorted(NUMBERS.split() * 3)


async def test_a_failed_branch_is_named() -> None:
    """The others get everything."""
    pipeline = command("seq", "100000") | tee(function(_fail, name="bad")) | command("wc", "-l")
    result = await pipeline.arun(stdout=CAPTURE, check=False)
    assert isinstance(result.error, PipelineError)
    assert result.error.stage == "bad"
    assert result.stdout == b"100000\n"


async def test_objects_of_the_loop_are_branches() -> None:
    """A byte stream gets a copy."""
    send, receive = anyio.create_memory_object_stream[bytes](1000)

    class Target:
        async def send(self, data: bytes) -> None:
            await send.send(bytes(data))

    result = await (command("seq", "9") | tee(Target())).arun(stdout=CAPTURE)
    send.close()
    assert b"".join([data async for data in receive]) == result.stdout == NUMBERS
    receive.close()


@pytest.mark.parametrize("iterate", ["aiter_lines", "aiter_bytes"])
async def test_leaving_an_iteration_early_ends_the_branches(iterate: str) -> None:
    """Endless ones too."""
    pipeline = command("yes") | tee(Pipeline(LOUD).to(DEVNULL), UPPER | command("wc")) | CAT
    async for chunk in getattr(pipeline, iterate)():
        assert chunk.startswith(b"y")
        break


async def test_a_scope_that_is_cancelled_ends_the_graph() -> None:
    """Whatever its stages are blocked in."""
    lines = shared(command("yes"))
    pipeline = command("cat", reading(lines), reading(lines | LOUD)) | tee(command("sleep", "1000")) | LOUD
    with anyio.move_on_after(0.2) as scope:
        await Pipeline(pipeline).arun(stdout=DEVNULL, grace=0.2)
    assert scope.cancelled_caught


async def test_a_deadline_ends_the_graph() -> None:
    """In the loop, too."""
    with pytest.raises(PipelineTimeout):
        await (command("yes") | tee(LOUD) | command("wc")).arun(stdout=DEVNULL, timeout=0.2, grace=0.2)


async def test_a_dialogue_through_a_tee() -> None:
    """`astart(stdin=PIPE, stdout=PIPE)`."""
    async with (tee(Pipeline(LOUD, name="copy")) | CAT).astart(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        for number in range(3):
            await run.stdin.send(b"%d" % number)
            assert await run.stdout.receive() == b"%d" % number
        await run.stdin.aclose()
    assert (await run.wait()).output("copy") == b"012"


async def test_many_graphs_at_once() -> None:
    """In one loop."""
    pipeline = graph()
    expected = await pipeline.aoutput()
    found = []

    async def run() -> None:
        found.append(await pipeline.aoutput())

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(run)
    assert found == [expected] * 10


async def test_an_async_function_has_more_ends_than_two() -> None:
    """They are streams of its loop, as its stdin and stdout are."""

    async def pair(ctx: StageContext, stdin: Any, stdout: Any) -> None:
        async for chunk in stdin:
            await ctx.outputs["copy"].send(chunk)
        async for chunk in ctx.inputs["more"]:
            await stdout.send(chunk.upper())

    paired = function(pair, inputs={"more": command("echo", "b")}, outputs={"copy": command("wc", "-c")})
    result = await (command("echo", "a") | paired | command("cat")).arun(stdout=CAPTURE)
    assert result.stdout == b"B\n"
    assert int(result.output("wc")) == 2


async def test_a_cancelled_async_function_leaves_its_ends() -> None:
    """And what stands behind them."""

    async def wait(ctx: StageContext, _stdin: Any, _stdout: Any) -> None:
        async for _ in ctx.inputs["silent"]:
            pass

    waiting = function(wait, inputs={"silent": command("sleep", "1000")}, outputs={"never": command("cat")})
    with anyio.move_on_after(0.05) as scope:
        await waiting.arun(stdout=DEVNULL)
    assert scope.cancelled_caught


async def test_a_whole_file_is_waited_for() -> None:
    """Without holding up the loop."""
    reads = command("tail", "-n", "1", reading(command("sh", "-c", "sleep 0.05; seq 9"), via="file"))
    assert await reads.atext() == "9\n"

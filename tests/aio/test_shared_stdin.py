"""Async objects as stdin of a run: their owner reads on where the run has stopped."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.support.waiting import DEADLINE

from penstock import DEVNULL, Pipeline, PipelineTimeout, StartError, command, function, source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LINES = b"0\n1\n2\n3\n4\n"
LINE = command("sh", "-c", "read -r line; echo $line")  # sh reads byte by byte, so it takes one line
TRUE = command("true")
CAT = command("cat")


async def line_of(stdin: Any) -> bytes:
    """Read one line."""
    line = b""
    while not line.endswith(b"\n"):
        line += await stdin.receive(1)
    return line


async def rest_of(stdin: Any) -> bytes:
    """Read to the end."""
    return b"".join([chunk async for chunk in stdin])


async def take_line(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Take one line."""
    await stdout.send(await line_of(stdin))


async def lines() -> AsyncIterator[bytes]:
    """Yield the lines."""
    yield LINES


FIRST: dict[str, Callable[[], Pipeline] | None] = {
    "command": lambda: command("printf", "%s", LINES),
    "function": lambda: source([LINES]),
    "generator": lambda: source(lines()),
    "input": None,
    "file": None,
}


@pytest.mark.parametrize("kind", FIRST)
def test_an_async_function_and_its_runs_take_turns(kind: str, tmp_path: Any) -> None:
    """Nothing is lost, doubled or out of order."""
    (tmp_path / "data").write_bytes(LINES)

    async def outer(_ctx: object, stdin: Any, stdout: Any) -> None:
        await TRUE.arun(stdin=stdin, stdout=DEVNULL)
        await stdout.send(await LINE.aoutput(stdin=stdin))
        await stdout.send(await line_of(stdin))
        await stdout.send(await function(take_line).aoutput(stdin=stdin))
        with pytest.raises(StartError):
            await (CAT | command("/nowhere")).arun(stdin=stdin)
        await TRUE.arun(stdin=stdin, stdout=DEVNULL)
        await stdout.send(await rest_of(stdin))
        assert await CAT.aoutput(stdin=stdin) == b""

    stage = function(outer)
    first = FIRST[kind]
    given: dict[str, Any] = {"file": {"stdin": tmp_path / "data"}, "input": {"input": LINES}}.get(kind, {})
    whole = stage if first is None else first() | stage
    assert asyncio.run(whole.aoutput(timeout=DEADLINE, **given)) == LINES


def test_after_a_deadline_the_stream_still_works() -> None:
    """No task is left in it."""

    async def main() -> bytes:
        read, write = os.pipe()
        with os.fdopen(read, "rb") as reader, os.fdopen(write, "wb", buffering=0) as other:

            async def outer(_ctx: object, stdin: Any, stdout: Any) -> None:
                with pytest.raises(PipelineTimeout):
                    await CAT.arun(stdin=stdin, stdout=DEVNULL, timeout=0.1)
                other.write(b"late\n")
                other.close()
                await stdout.send(await line_of(stdin))

            return await (CAT | function(outer)).aoutput(stdin=reader)

    assert asyncio.run(main()) == b"late\n"


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_stream_reader_of_asyncio(size: int) -> None:
    """It gets back what no stage has taken, and is at its end only then."""

    async def main() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(b"1\n2\n" + b"x" * size + b"\n")
        reader.feed_eof()
        assert await reader.readline() == b"1\n"
        await TRUE.arun(stdin=reader)
        assert await LINE.aoutput(stdin=reader) == b"2\n"
        assert not reader.at_eof()
        assert await reader.read(1) == b"x"
        assert await CAT.aoutput(stdin=reader) == b"x" * (size - 1) + b"\n"
        assert await reader.read() == b""

    asyncio.run(main())


def test_trio() -> None:
    """The same under trio."""

    async def outer(_ctx: object, stdin: Any, stdout: Any) -> None:
        await TRUE.arun(stdin=stdin, stdout=DEVNULL)
        await stdout.send(await LINE.aoutput(stdin=stdin))
        await stdout.send(await rest_of(stdin))

    async def main() -> bytes:
        return await (command("printf", "%s", LINES) | function(outer)).aoutput(timeout=DEADLINE)

    assert anyio.run(main, backend="trio") == LINES

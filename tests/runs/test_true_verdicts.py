"""Failures that look like something else: each is the error of its run, and never a success."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from tests.isolation import stage_functions

from penstock import (
    CAPTURE,
    Pipeline,
    command,
    each_line,
    filter_lines,
    map_line_batches,
    map_lines,
    transform,
    transform_lines,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

LINES = b"".join(b"%d\n" % number for number in range(5000))


def leaves(kind: type[BaseException], line: bytes) -> bytes:
    """Return the line; raise `kind` for one in the middle."""
    if line == b"2500":
        raise kind("mine")
    return line


def many(fn: Callable[[bytes], bytes], lines: Iterable[bytes]) -> Iterator[bytes]:
    """Do so for each of some lines."""
    for line in lines:
        yield fn(line)


class Many:
    """The same as an iterator of a class of its own, which may raise anything at all."""

    def __init__(self, fn: Callable[[bytes], bytes], lines: Iterable[bytes]) -> None:
        self._fn = fn
        self._lines = iter(lines)

    def __iter__(self) -> Many:
        return self

    def __next__(self) -> bytes:
        return self._fn(next(self._lines))


MADE: dict[str, Callable[[Callable[[bytes], bytes]], Pipeline]] = {
    "map_lines": map_lines,
    "filter_lines": lambda fn: filter_lines(lambda line: bool(fn(line))),
    "map_line_batches": lambda fn: map_line_batches(partial(many, fn)),
    "a list of batches": lambda fn: map_line_batches(lambda lines: [fn(line) for line in lines]),
    "transform_lines": lambda fn: transform_lines(partial(many, fn)),
    "an iterator": lambda fn: transform_lines(partial(Many, fn)),
    "each_line": lambda fn: each_line(lambda _ctx, line, out: out.write(fn(line))),
    "transform": lambda fn: transform(
        lambda chunks: many(fn, (line for chunk in chunks for line in chunk.split(b"\n")))
    ),
}


@pytest.mark.parametrize("after", ["nothing", "a stage", "a command"])
@pytest.mark.parametrize("made", MADE)
def test_generator_exit_of_user_code_is_an_error(made: str, after: str) -> None:
    """For each kind of stage, and each kind of stage after it: the output is cut short."""
    pipeline = MADE[made](partial(leaves, GeneratorExit))
    if after != "nothing":
        pipeline |= map_lines(bytes.upper) if after == "a stage" else command("cat")
    result = pipeline.run(input=LINES, stdout=CAPTURE, check=False)
    assert result.error is not None
    assert isinstance(result.error.cause, GeneratorExit)
    assert result.error.index == 0
    assert result.stdout is not None
    assert not result.stdout.endswith(b"4999\n")


def test_generator_exit_in_a_worker_process_is_an_error() -> None:
    """The engine of the worker is the same."""
    result = map_lines(stage_functions.leave, isolate="process").run(input=LINES, stdout=CAPTURE, check=False)
    assert result.error is not None
    assert isinstance(result.error.cause, GeneratorExit)


def test_a_stage_whose_reader_leaves_is_still_no_failure() -> None:
    """The generator of the first stage is closed, which raises GeneratorExit in it too."""
    closed = []

    def endless(_lines: object) -> Iterator[bytes]:
        try:
            while True:
                yield b"y"
        finally:
            closed.append(True)

    pipeline = transform_lines(endless) | transform_lines(lambda lines: [next(iter(lines))])
    assert pipeline.output() == b"y\n"
    assert closed == [True]


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit])
def test_an_async_line_function_may_raise_anything(kind: type[BaseException], concurrency: int) -> None:
    """Also a CancelledError of its own: that of a task that it awaited. The lines before it are written."""

    async def fn(line: bytes) -> bytes:
        await asyncio.sleep(0)
        return leaves(kind, line)

    async def lines(given: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in given:
            yield leaves(kind, line)

    async def run() -> None:
        stages: list[Any] = [
            map_lines(fn, concurrency=concurrency),
            filter_lines(fn, concurrency=concurrency),
            transform_lines(lines),
        ]
        for stage in stages:
            result = await stage.arun(input=LINES, stdout=CAPTURE, check=False)
            assert result.error is not None
            assert isinstance(result.error.cause, kind)
            assert result.stdout.endswith(b"\n2499\n")

    asyncio.run(run())

"""Line works: many short lines, counted, and mapped on their way into a command.

A file of lines of seven bytes is read by `cat`. Lines are handed over without their LF everywhere. Loops by
hand use a buffer of 64 KiB, as much as Penstock and go-pipe take from a pipe at most; the same loop with
Popen's own buffer is shown too. The mapping puts one letter before each line. `baselines`
measures the cost of the system calls, the splitting and the function with nothing around them.
"""

from __future__ import annotations

import os
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import baselines
from benchmarks.context import CHUNK
from benchmarks.measure import OURS, Bar, Work, expect, repeat
from benchmarks.peers import library
from penstock import DEVNULL, command, map_line_batches, map_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from benchmarks.context import Context
    from penstock import Pipeline

__all__ = ["works"]


def works(context: Context) -> Iterator[Work]:
    """Counted by line, by batch; mapped by line, by batch."""
    yield from _counted(context)
    yield from _mapped(context)


def _counted(context: Context) -> Iterator[Work]:
    path = str(context.lines_path)

    def by_line() -> None:
        count = 0
        for _ in command("cat", path).iter_lines():
            count += 1
        expect(count, context.lines)

    def by_batch() -> None:
        count = 0

        def add(lines: list[bytes]) -> list[bytes]:
            nonlocal count
            count += len(lines)
            return []

        (command("cat", path) | map_line_batches(add)).run(stdout=DEVNULL)
        expect(count, context.lines)

    def counts(bufsize: int) -> Callable[[], None]:
        return lambda: expect(
            _count(subprocess.Popen(["cat", path], stdout=subprocess.PIPE, bufsize=bufsize)), context.lines
        )

    peers = {
        "Popen loop by hand": repeat(1, counts(CHUNK)),
        "Popen loop, its own buffer": repeat(1, counts(-1)),
    }
    plumbum = library("plumbum")
    if plumbum is not None:
        cat = plumbum.local["cat"][path]
        peers["plumbum"] = repeat(1, lambda: expect(_count(cat.popen(encoding=None)), context.lines))
    for name, ours, floor, limit in (
        ("line", by_line, baselines.count_by_line, 1.6),
        ("batch", by_batch, baselines.count_by_batch, 3),
    ):
        bare = repeat(1, partial(_counts, floor, context))
        yield Work(
            f"count-by-{name}",
            f"{_amount(context)} short lines counted, by {name}",
            {OURS: repeat(1, ours), **peers, baselines.BARE: bare},
            (Bar("Popen loop by hand", "throughput", limit),),
            volume=7 * context.lines,
        )


def _counts(floor: Callable[[Path], int], context: Context) -> None:
    expect(floor(context.lines_path), context.lines)


def _count(process: Any) -> int:
    count = 0
    with process:
        for line in process.stdout:
            line.rstrip(b"\n")
            count += 1
    expect(process.returncode, 0)
    return count


def _mapped(context: Context) -> Iterator[Work]:
    path = context.lines_path

    def one(line: bytes) -> bytes:
        return b"x" + line

    def many(lines: list[bytes]) -> list[bytes]:
        return [b"x" + line for line in lines]

    by_line = command("cat", path) | map_lines(one) | command("cat")
    by_batch = command("cat", path) | map_line_batches(many) | command("cat")
    wanted = b"x" + path.read_bytes()[:-1].replace(b"\n", b"\nx") + b"\n"
    for pipeline in (by_line, by_batch):
        expect(pipeline.output() == wanted, True)
    _check_by_hand(path, context.scratch / "mapped", wanted)
    peers = {"Popen loop by hand": repeat(1, lambda: _by_hand(path, subprocess.DEVNULL))}
    if context.go is not None:
        _, delivered = context.go.ask("lines", 1, 0, str(path))
        expect(delivered, len(wanted))
        peers["go-pipe's linewise"] = context.go.round("lines-cat", 1, 0, str(path), wanted=0)
    against_loop, against_go = "Popen loop by hand", "go-pipe's linewise"
    rows: tuple[tuple[str, Pipeline, Callable[[list[bytes]], Iterable[bytes]], tuple[Bar, ...]], ...] = (
        (
            "map_lines",
            by_line,
            partial(map, one),
            (Bar(against_loop, "throughput", 1.8), Bar(against_go, "throughput", 0.9)),
        ),
        ("map_line_batches", by_batch, many, (Bar(against_go, "throughput", 1.6),)),
    )
    for name, pipeline, work, bars in rows:
        bare = repeat(1, partial(baselines.mapped, path, work, subprocess.DEVNULL))
        yield Work(
            name.replace("_", "-"),
            f"{_amount(context)} short lines through `{name}` into `cat`",
            {OURS: _to_null(pipeline), **peers, baselines.BARE: bare},
            bars,
            volume=7 * context.lines,
        )


def _to_null(pipeline: Pipeline) -> Callable[[], float]:
    return repeat(1, lambda: pipeline.run(stdout=DEVNULL))


def _by_hand(path: Path, target: int) -> None:
    def add(line: bytes) -> bytes:
        return b"x" + line

    with (
        subprocess.Popen(["cat", path], stdout=subprocess.PIPE, bufsize=CHUNK) as first,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=target, bufsize=CHUNK) as last,
    ):
        stdin = _opened(last.stdin)
        for line in _opened(first.stdout):
            stdin.write(add(line.rstrip(b"\n")) + b"\n")
        stdin.close()
    expect((first.returncode, last.returncode), (0, 0))


def _check_by_hand(path: Path, target: Path, wanted: bytes) -> None:
    number = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        _by_hand(path, number)
    finally:
        os.close(number)
    expect(target.read_bytes() == wanted, True)


def _opened(stream: Any) -> Any:
    if stream is None:
        raise ValueError("no pipe was asked for")
    return stream


def _amount(context: Context) -> str:
    return "1 M" if context.lines == 1_000_000 else f"{context.lines:,}"

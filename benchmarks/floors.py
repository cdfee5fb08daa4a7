"""Floors: the same work by the same system calls, with nothing around them.

No deadline, no cancellation, no error that names a stage, no line longer than memory, nothing passed on in
time: what is left is what the kernel, `bytes.split` and the user's function cost. A bar beyond a floor cannot
be met by any library in this language; how near a figure comes to its floor is what can be asked of one.
"""

from __future__ import annotations

import os
import subprocess
from itertools import chain
from typing import TYPE_CHECKING, Any

from benchmarks.kit import CHUNK
from benchmarks.measure import expect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

__all__ = ["BARE", "count_by_batch", "count_by_line", "mapped", "read"]

BARE = "floor: the bare calls"


def read(argv: list[str], sink: Any) -> None:
    """Read in chunks, and hand each to the sink."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, bufsize=0) as process:
        number = _number(process.stdout)
        while chunk := os.read(number, CHUNK):
            sink.write(chunk)
    expect(process.returncode, 0)


def count_by_line(path: Path) -> int:
    """Read, split, and go over the lines."""
    count = 0
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE, bufsize=0) as process:
        for _ in chain.from_iterable(_blocks(_number(process.stdout))):
            count += 1
    return count


def count_by_batch(path: Path) -> int:
    """Read, split, and look at how many there are."""
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE, bufsize=0) as process:
        return sum(map(len, _blocks(_number(process.stdout))))


def mapped(path: Path, work: Callable[[list[bytes]], Iterable[bytes]], target: int) -> None:
    """Read, split, do the work on each block, join, and write."""
    with (
        subprocess.Popen(["cat", path], stdout=subprocess.PIPE, bufsize=0) as first,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=target, bufsize=0) as last,
    ):
        number = _number(last.stdin)
        for lines in _blocks(_number(first.stdout)):
            data = memoryview(b"\n".join(work(lines)) + b"\n")
            while data:
                data = data[os.write(number, data) :]
        if last.stdin is not None:
            last.stdin.close()
    expect((first.returncode, last.returncode), (0, 0))


def _blocks(number: int) -> Iterator[list[bytes]]:
    """The lines that each read completes; every line of these works has its LF."""
    rest = b""
    while chunk := os.read(number, CHUNK):
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        yield lines


def _number(stream: Any) -> int:
    if stream is None:
        raise ValueError("no pipe was asked for")
    return int(stream.fileno())

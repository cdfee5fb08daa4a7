"""The async methods: the same engine under an event loop, compared with its alternatives there.

Everything runs on asyncio's own loop, as all the peers do; starting the loop is not part of the time. In the
first work all runs are started before any is awaited.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import subprocess
import sys
import time
from asyncio.subprocess import DEVNULL as NULL
from asyncio.subprocess import PIPE
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from benchmarks import baselines
from benchmarks.measure import OURS, Bar, Work, expect, in_a_loop, repeat
from benchmarks.peers import library
from penstock import DEVNULL, command

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from benchmarks.context import Context

__all__ = ["works"]

AT_ONCE = 200
CHUNK = 256 * 1024
"""Bytes that `aiter_bytes` reads at once, and the most that asyncio's pipe transport reads."""
PRODUCER = """
import os, sys
chunk = bytes(int(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    os.write(1, chunk)
"""
KILOBYTE = b"x" * 1023 + b"\n"
ASYNCIO = "asyncio.create_subprocess_exec"


def works(context: Context) -> Iterator[Work]:
    """Many short runs at once, one long pipeline, and many bytes."""
    logging.getLogger("shellous").setLevel(logging.ERROR)  # it reports each start that takes 0.1 s
    yield _at_once()
    yield _ten()
    yield from _in_turn()
    yield _read(context)


def _at_once() -> Work:
    ours = command("true")

    async def by_asyncio() -> None:
        process = await asyncio.create_subprocess_exec("true", stdin=NULL, stdout=NULL, stderr=PIPE)
        await process.communicate()
        expect(process.returncode, 0)

    bare = repeat(1, baselines.many_true(AT_ONCE))
    contenders = {
        OURS: _together(lambda: ours.arun(stdout=DEVNULL)),
        ASYNCIO: _together(by_asyncio),
        baselines.BARE: lambda: bare() / AT_ONCE,
    }
    shellous = library("shellous")
    if shellous is not None:
        theirs = shellous.sh("true").stdout(shellous.sh.DEVNULL)
        contenders["shellous"] = _together(theirs.coro)
    bars = (Bar(ASYNCIO, "throughput", 1.35), Bar("shellous", "throughput", 1.7))
    title = f"{AT_ONCE} `true` at once, each"
    return Work("async-at-once", title, contenders, bars, per_round=AT_ONCE)


def _ten() -> Work:
    count = 8
    ours = reduce(or_, [command("echo", "hello"), *(command("cat") for _ in range(9))])
    bare = baselines.echo_and_cats(9)
    contenders = {
        OURS: in_a_loop(count, lambda: _output(ours.aoutput())),
        baselines.BARE: repeat(count, lambda: expect(bare(), b"hello\n")),
    }
    shellous = library("shellous")
    if shellous is not None:
        piped = reduce(or_, [shellous.sh("echo", "hello"), *(shellous.sh("cat") for _ in range(9))])
        contenders["shellous"] = in_a_loop(count, lambda: _output(piped.coro()))
    bars = (Bar("shellous", "time", 0.55), Bar(baselines.BARE, "time", 1.12))
    return Work("async-echo9cat", "`echo` + 9 `cat`, awaited", contenders, bars, per_round=count)


def _in_turn() -> Iterator[Work]:
    """Yield runs that a task awaits one after the other, as a service does that handles one request."""
    count = 20
    true, cat = command("true"), command("cat")

    async def true_by_asyncio() -> None:
        process = await asyncio.create_subprocess_exec("true", stdin=NULL, stdout=NULL, stderr=PIPE)
        await process.communicate()
        expect(process.returncode, 0)

    async def cat_by_asyncio() -> None:
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        out, _ = await process.communicate(KILOBYTE)
        expect(out, KILOBYTE)

    async def cat_by_us() -> None:
        expect(await cat.aoutput(input=KILOBYTE), KILOBYTE)

    bars = (Bar(ASYNCIO, "time", 1.1),)
    contenders = {
        OURS: in_a_loop(count, lambda: true.arun(stdout=DEVNULL)),
        ASYNCIO: in_a_loop(count, true_by_asyncio),
    }
    yield Work("async-true", "`true`, one after the other, awaited", contenders, bars, per_round=count)
    contenders = {OURS: in_a_loop(count, cat_by_us), ASYNCIO: in_a_loop(count, cat_by_asyncio)}
    yield Work("async-cat", "1 KB into `cat` and out, awaited", contenders, bars, per_round=count)


def _read(context: Context) -> Work:
    """Measure the reader: the producer writes the same buffer again and again.

    A loop of blocking reads, from a pipe of the same size as Penstock's, shows the possible speed.
    """
    argv = (sys.executable, "-I", "-S", "-c", PRODUCER, str(CHUNK), str(context.size // CHUNK))
    ours = command(*argv)

    async def iterate() -> None:
        total = 0
        async for chunk in ours.aiter_bytes():
            total += len(chunk)
        expect(total, context.size)

    async def by_asyncio() -> None:
        process = await asyncio.create_subprocess_exec(*argv, stdin=NULL, stdout=PIPE)
        assert process.stdout is not None
        total = 0
        while chunk := await process.stdout.read(CHUNK):
            total += len(chunk)
        await process.wait()
        expect(total, context.size)

    def by_hand() -> None:
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            number = process.stdout.fileno()
            fcntl.fcntl(number, fcntl.F_SETPIPE_SZ, CHUNK)
            total = 0
            while chunk := os.read(number, CHUNK):
                total += len(chunk)
        expect(total, context.size)

    contenders = {
        OURS: in_a_loop(1, iterate),
        "asyncio.StreamReader": in_a_loop(1, by_asyncio),
        "blocking reads by hand": repeat(1, by_hand),
    }
    bars = (Bar("asyncio.StreamReader", "throughput", 2),)
    title = f"command → async iteration, {context.size >> 20} MiB"
    return Work("async-read", title, contenders, bars, volume=context.size)


async def _output(made: Awaitable[Any]) -> None:
    text = await made
    expect(text if isinstance(text, bytes) else text.encode(), b"hello\n")


def _together(make: Callable[[], Coroutine[Any, Any, object]]) -> Callable[[], float]:
    """Return the seconds of one of them, with `AT_ONCE` running at once."""

    async def timed() -> float:
        began = time.perf_counter()
        await asyncio.gather(*[make() for _ in range(AT_ONCE)])
        return (time.perf_counter() - began) / AT_ONCE

    return lambda: asyncio.run(timed())

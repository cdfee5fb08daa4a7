"""Everyday works that `subprocess` and asyncio do well: small writes, lines, a large output, small pieces.

The peers are the standard library's own objects: `Popen.stdin`, `Popen.stdout`, `subprocess.run` and the
streams of asyncio. `Popen.stdin` holds small writes back until a flush. Penstock does not, and the bars say
how much that may cost.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import threading
from asyncio.subprocess import DEVNULL as NULL
from typing import TYPE_CHECKING, Any

from benchmarks import async_api
from benchmarks.measure import OURS, Bar, Figure, Limit, Work, expect, in_a_loop, repeat
from benchmarks.peers import HERE
from penstock import DEVNULL, PIPE, command, function, source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.context import Context
    from penstock import StageContext

__all__ = ["works"]

LINE = b"0123456789\n"
CHUNK = b"*" * 10
POPEN = "Popen.stdin"
PEAK = """
import sys
from pathlib import Path
{imports}
Path("/proc/self/clear_refs").write_text("5")
output = {call}
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(len(output), int(peak) * 1024)
"""


def works(context: Context) -> Iterator[Work]:
    """The works of threads, then those of event loops."""
    yield _writes(context)
    yield _lines(context)
    yield _output(context)
    yield _output_memory(context)
    yield from _pieces(context)
    yield _sends(context)
    yield _received(context)


def _writes(context: Context) -> Work:
    count = 30_000 if context.quick else 300_000

    def ours() -> None:
        with command("cat").start(stdin=PIPE, stdout=DEVNULL) as run:
            _write_lines(run.stdin, count)

    def by_hand(bufsize: int) -> None:
        null = subprocess.DEVNULL
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=null, bufsize=bufsize) as process:
            _write_lines(process.stdin, count)

    contenders = {
        OURS: repeat(1, ours),
        POPEN: repeat(1, lambda: by_hand(-1)),
        f"{POPEN}, unbuffered": repeat(1, lambda: by_hand(0)),
    }
    title = f"{count:,} small writes to `run.stdin`"
    return Work("everyday-writes", title, contenders, (Bar(POPEN, "time", 2),))


def _write_lines(stream: Any, count: int) -> None:
    write = stream.write
    for _ in range(count):
        write(LINE)


def _lines(context: Context) -> Work:
    argv = ["cat", str(context.lines_path)]

    def ours() -> None:
        with command(*argv).start(stdout=PIPE) as run:
            expect(_count(run.stdout), context.lines)

    def by_hand() -> None:
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            expect(_count(process.stdout), context.lines)

    peer = "Popen.stdout"
    contenders = {OURS: repeat(1, ours), peer: repeat(1, by_hand)}
    title = f"{context.lines:,} lines of `run.stdout`"
    return Work("everyday-lines", title, contenders, (Bar(peer, "time", 1.15),))


def _count(lines: Any) -> int:
    count = 0
    for _ in lines:
        count += 1
    return count


def _output(context: Context) -> Work:
    argv = ["head", "-c", str(context.size), "/dev/zero"]

    def by_hand() -> None:
        expect(len(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout), context.size)

    contenders = {
        OURS: repeat(1, lambda: expect(len(command(*argv).output()), context.size)),
        "subprocess.run": repeat(1, by_hand),
    }
    title = f"`output()` of {context.size >> 20} MiB"
    return Work("everyday-output", title, contenders, (Bar("subprocess.run", "time", 1.05),))


def _output_memory(context: Context) -> Work:
    argv = ["head", "-c", str(context.size), "/dev/zero"]

    def probe() -> list[Figure]:
        ours = _peak("from penstock import command", f"command(*{argv}).output()", context.size)
        run = f"subprocess.run({argv}, stdout=subprocess.PIPE, check=True).stdout"
        theirs = _peak("import subprocess", run, context.size)
        return [Figure("peak memory, of that of subprocess.run", ours / theirs, "x", Limit(1.1))]

    return Work("everyday-output-memory", f"`output()` of {context.size >> 20} MiB", probe=probe)


def _peak(imports: str, call: str, size: int) -> int:
    program = PEAK.format(imports=imports, call=call)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=HERE.parent, stdout=subprocess.PIPE, check=True
    )
    length, peak = map(int, done.stdout.split())
    expect(length, size)
    return peak


class _SmallReads:
    """An object whose `read` gives a few bytes at a time."""

    def __init__(self, count: int) -> None:
        self._left = count

    def read(self, _size: int = -1) -> bytes:
        if not self._left:
            return b""
        self._left -= 1
        return CHUNK


def _pieces(context: Context) -> Iterator[Work]:
    count = 20_000 if context.quick else 200_000
    size = count * len(CHUNK)

    def produce(_ctx: StageContext, _stdin: Any, stdout: Any) -> None:
        write = stdout.write
        for _ in range(count):
            write(CHUNK)

    def consume(_ctx: StageContext, stdin: Any, stdout: Any) -> None:
        total = 0
        for chunk in stdin.chunks():
            total += len(chunk)
        stdout.write(b"%d" % total)

    def chunks() -> Iterator[bytes]:
        return (CHUNK for _ in range(count))

    def written(stdin: Any) -> None:
        write = stdin.write
        for chunk in chunks():
            write(chunk)

    cat = command("cat")
    ways: list[tuple[str, str, Callable[[], object], Callable[[Any], object]]] = [
        ("chunks", "an iterable into `cat`", lambda: len(cat.output(stdin=chunks())), written),
        (
            "reads",
            "an object with `read` into `cat`",
            lambda: len(cat.output(stdin=_SmallReads(count))),
            lambda stdin: shutil.copyfileobj(_SmallReads(count), stdin),
        ),
        (
            "chunks-function",
            "an iterable into a function",
            lambda: int(function(consume).output(stdin=chunks())),
            written,
        ),
        ("source", "`source` into `cat`", lambda: len((source(chunks()) | cat).output()), written),
        ("function", "a function into `cat`", lambda: len((function(produce) | cat).output()), written),
    ]
    for name, title, ours, theirs in ways:
        contenders = {OURS: repeat(1, _expecting(ours, size)), POPEN: repeat(1, _by_hand(theirs, size))}
        bars = (Bar(POPEN, "throughput", 0.7),)
        yield Work(
            f"everyday-{name}", f"{count:,} pieces of 10 bytes: {title}", contenders, bars, volume=size
        )


def _expecting(call: Callable[[], object], wanted: int) -> Callable[[], None]:
    return lambda: expect(call(), wanted)


def _by_hand(write: Callable[[Any], object], size: int) -> Callable[[], None]:
    """Return a function that writes into `cat`, while a thread reads its output, as `communicate` does."""

    def by_hand() -> None:
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            got: list[bytes] = []
            stdout = process.stdout
            thread = threading.Thread(target=lambda: got.append(stdout.read()))
            thread.start()
            write(process.stdin)
            process.stdin.close()
            thread.join()
        expect(len(got[0]), size)

    return by_hand


def _sends(context: Context) -> Work:
    count = 5_000 if context.quick else 50_000

    async def ours() -> None:
        async with command("cat").astart(stdin=PIPE, stdout=DEVNULL) as run:
            assert run.stdin is not None
            for _ in range(count):
                await run.stdin.send(LINE)

    async def by_asyncio() -> None:
        process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=NULL)
        assert process.stdin is not None
        for _ in range(count):
            process.stdin.write(LINE)
            await process.stdin.drain()
        process.stdin.close()
        expect(await process.wait(), 0)

    contenders = {OURS: in_a_loop(1, ours), async_api.ASYNCIO: in_a_loop(1, by_asyncio)}
    title = f"{count:,} small sends to `run.stdin`, awaited"
    return Work("everyday-sends", title, contenders, (Bar(async_api.ASYNCIO, "time", 1.5),))


def _received(context: Context) -> Work:
    size = context.size // 2
    argv = ("head", "-c", str(size), "/dev/zero")

    async def ours() -> None:
        total = 0
        async with command(*argv).astart(stdout=PIPE) as run:
            assert run.stdout is not None
            async for chunk in run.stdout:
                total += len(chunk)
        expect(total, size)

    async def by_asyncio() -> None:
        process = await asyncio.create_subprocess_exec(*argv, stdin=NULL, stdout=subprocess.PIPE)
        assert process.stdout is not None
        total = 0
        while chunk := await process.stdout.read(65536):
            total += len(chunk)
        expect(await process.wait(), 0)
        expect(total, size)

    contenders = {OURS: in_a_loop(1, ours), async_api.ASYNCIO: in_a_loop(1, by_asyncio)}
    title = f"`run.stdout`, awaited, {size >> 20} MiB"
    return Work("everyday-received", title, contenders, (Bar(async_api.ASYNCIO, "time", 1.0),))

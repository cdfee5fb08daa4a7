"""The runs whose calls test_faults.py breaks: each returns what it brought, or raises."""

from __future__ import annotations

import asyncio
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from penstock import (
    CAPTURE,
    DEVNULL,
    NEXT,
    PIPE,
    TEE,
    Limits,
    Pipeline,
    appending,
    closing,
    command,
    function,
    ignore_error,
    map_lines,
    memory_limit,
    source,
)
from penstock.system import event_loops

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RUNS", "copy"]

DATA = b"some bytes\n" * 30
GRACE = 0.2


def copy(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Pass everything on."""
    for chunk in stdin.chunks():
        stdout.write(chunk)


async def acopy(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Pass everything on."""
    async for chunk in stdin:
        await stdout.send(chunk)


SLEEP = command("sleep", "60")
DEAF = command("sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 60; done")
CATS = command("cat") | command("cat")
MIXED = command("cat") | function(copy) | command("cat")


def cancelled() -> object:
    """Cancelled while it goes on."""
    run = SLEEP.start(grace=GRACE)
    run.cancel("enough")
    return run.wait()


def without_anyio() -> object:
    """Awaited as in a program that has not imported anyio."""
    with patch.object(event_loops, "_asyncio_loop", asyncio._get_running_loop):
        return asyncio.run(MIXED.aoutput(input=DATA, grace=GRACE))


def left_early() -> object:
    """Its output is read no further."""
    lines = command("yes").iter_lines(grace=GRACE)
    first = next(lines)
    lines.close()
    return first


def dialogue() -> object:
    """The caller writes and reads."""
    with MIXED.start(stdin=PIPE, stdout=PIPE, grace=GRACE) as run:
        run.stdin.write(DATA)  # type: ignore[union-attr]
        run.stdin.close()  # type: ignore[union-attr]
        return run.stdout.read()  # type: ignore[union-attr]


def objects() -> object:
    """From an object into an object that is closed."""
    sink = io.BytesIO()
    kept: list[bytes] = []
    sink.close = lambda: kept.append(sink.getvalue())  # type: ignore[method-assign]
    CATS.run(stdin=io.BytesIO(DATA), stdout=closing(sink), grace=GRACE)
    return kept[0]


def events() -> object:
    """With a handler."""
    kinds: list[str] = []
    MIXED.run(input=DATA, stdout=DEVNULL, grace=GRACE, on_event=lambda event: kinds.append(event.kind))
    return kinds.count("start"), kinds.count("exit")


def one_file() -> object:
    """Its outputs are one file, by several names."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "f")
        noisy = command("sh", "-c", "echo one >&2; echo two", stderr=appending(path))
        (noisy | command("sh", "-c", "cat; echo three >&2")).run(
            stdout=path, stderr=f"{folder}/./f", grace=GRACE
        )
        return sorted(path.read_text().split())


async def atalk() -> object:
    """A task writes and reads."""
    async with MIXED.astart(stdin=PIPE, stdout=PIPE, grace=GRACE) as run:
        await run.stdin.send(DATA)  # type: ignore[union-attr]
        await run.stdin.aclose()  # type: ignore[union-attr]
        return b"".join([chunk async for chunk in run.stdout])  # type: ignore[union-attr]


async def alines() -> object:
    """Lines, as they come."""
    return [line async for line in MIXED.aiter_lines(input=DATA, grace=GRACE)]


async def aloop() -> object:
    """A stage that is a coroutine."""
    return await (command("cat") | function(acopy) | command("cat")).aoutput(input=DATA, grace=GRACE)


RUNS: dict[str, Callable[[], object]] = {
    "command": lambda: command("echo", "hi").output(grace=GRACE),
    "commands": lambda: CATS.output(input=DATA, grace=GRACE),
    "mixed": lambda: MIXED.output(input=DATA, grace=GRACE),
    "functions": lambda: (source([DATA]) | function(copy) | map_lines(bytes.upper)).output(grace=GRACE),
    "deadline": lambda: SLEEP.run(timeout=0.05, grace=GRACE),
    "deaf": lambda: DEAF.run(timeout=0.05, grace=GRACE, stdout=DEVNULL),
    "deadline mixed": lambda: (SLEEP | function(copy)).run(timeout=0.05, grace=GRACE),
    "cancelled": cancelled,
    "memory limit": lambda: memory_limit(CATS, "1GB").output(input=DATA, grace=GRACE),
    "leftover": lambda: command("sh", "-c", "sleep 60 & echo hi", on_leftover="kill").output(grace=GRACE),
    "stderr": lambda: command("sh", "-c", "echo out; echo err >&2; exit 3").run(stdout=DEVNULL, grace=GRACE),
    "shown": lambda: command("sh", "-c", "echo err >&2; exit 3").run(stderr=TEE, grace=GRACE),
    "shown deadline": lambda: DEAF.start(timeout=0.05, grace=GRACE, stdout=DEVNULL, stderr=TEE).wait(),
    "next": lambda: (
        command("sh", "-c", "echo out; echo err >&2", stderr=NEXT, stdout=DEVNULL) | function(copy)
    ).output(grace=GRACE),
    "profile": lambda: MIXED.output(input=DATA, profile=True, grace=GRACE),
    "profile deadline": lambda: SLEEP.start(timeout=0.25, profile=True, grace=GRACE).wait(),
    "watched": lambda: MIXED.output(input=DATA, progress=repr, grace=GRACE),
    "watched deadline": lambda: SLEEP.start(timeout=0.25, progress="plain", grace=GRACE).wait(),
    "one file": one_file,
    "left early": left_early,
    "started": lambda: MIXED.start(input=DATA, stdout=CAPTURE, grace=GRACE).wait().stdout,
    "started deadline": lambda: DEAF.start(timeout=0.05, grace=GRACE, stdout=DEVNULL).wait(),
    "dialogue": dialogue,
    "objects": objects,
    "events": events,
    "nested": lambda: (command("cat") | Pipeline(*[command("cat")], timeout=20, name="inner")).output(
        input=DATA, grace=GRACE
    ),
    "filtered": lambda: (
        ignore_error(command("false"), lambda _error: True).run(stdout=DEVNULL, grace=GRACE).ok
    ),
    "fail fast": lambda: (SLEEP | command("false")).run(fail_fast=True, grace=GRACE),
    "limits": lambda: command("cat", limits=Limits(nice=1)).output(input=DATA, grace=GRACE),
    "isolated": lambda: (command("cat") | function(copy, isolate="process")).output(input=DATA, grace=GRACE),
    "isolated deadline": lambda: (SLEEP | function(copy, isolate="process")).run(timeout=0.1, grace=GRACE),
    "async": lambda: asyncio.run(MIXED.aoutput(input=DATA, grace=GRACE)),
    "async without anyio": without_anyio,
    "async deadline": lambda: asyncio.run(SLEEP.arun(timeout=0.05, grace=GRACE)),
    "async dialogue": lambda: asyncio.run(atalk()),
    "async lines": lambda: asyncio.run(alines()),
    "async function": lambda: asyncio.run(aloop()),
}

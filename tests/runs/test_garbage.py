"""A run that has ended is freed at once: nothing of it refers to itself, and waits for the garbage collector.

A service that starts pipelines at a high rate would else be collected at that rate, and one that has switched
the collector off, as some do, would grow without end.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import io
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from penstock import (
    DEVNULL,
    PIPE,
    Pipeline,
    command,
    function,
    ignore_error,
    is_sigpipe,
    map_lines,
    memory_limit,
    transform,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def passing(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Pass all chunks on."""
    for chunk in stdin.chunks():
        stdout.write(chunk)


def same(chunks: Any) -> Any:
    """Change nothing."""
    return chunks


def dialogue() -> None:
    """Write to a run and read from it."""
    with command("cat").start(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        run.stdin.write(b"hello\n")
        run.stdin.close()
        run.stdout.read()


async def in_a_loop() -> None:
    """The async methods."""
    await command("true").arun()
    await (command("echo", "x") | map_lines(bytes.upper)).aoutput()
    async with command("true").astart() as run:
        await run.wait()
    async for _ in command("echo", "x").aiter_bytes():
        pass


RUNS: dict[str, Callable[[], object]] = {
    "a command": lambda: command("true").run(stdout=DEVNULL),
    "a command that is watched": lambda: command("true").run(stdout=DEVNULL, progress=repr),
    "a command with a profile": lambda: command("true").run(stdout=DEVNULL, profile=True),
    "a command with plain lines": lambda: command("true").start(stdout=DEVNULL, progress="plain").wait(),
    "commands": (command("echo", "x") | command("cat")).output,
    "transforms": lambda: (transform(same) | transform(same)).output(input=b"x"),
    "functions": lambda: (function(passing) | function(passing)).output(input=b"x"),
    "mixed": lambda: (function(passing) | command("cat") | map_lines(bytes.upper)).output(input=b"x"),
    "an error filter": lambda: ignore_error(command("true"), is_sigpipe).run(),
    "a pipeline in a pipeline": (Pipeline(command("pwd"), cwd="/") | command("cat")).output,
    "iterated": lambda: list(command("echo", "x").iter_lines()),
    "started": lambda: command("true").start().wait(),
    "a dialogue": dialogue,
    "from an object into an object": lambda: command("cat").run(
        stdin=io.BytesIO(b"x" * 100_000), stdout=io.BytesIO()
    ),
    "with a handler": lambda: command("true").run(on_event=lambda _event: None),
    "lines of stderr": lambda: command("sh", "-c", "echo x >&2").run(stderr=lambda _line: None),
    "a deadline": lambda: command("true").run(timeout=60),
    "looking for what is left": lambda: command("true").run(on_leftover="kill"),
    "a memory limit": lambda: memory_limit(command("true"), "1G").run(),
    "in an event loop": lambda: asyncio.run(in_a_loop()),
}


def left_by(run: Callable[[], object]) -> list[str]:
    """What of the package's only the collector would free after a run."""
    for _ in range(3):  # what is loaded and kept on first use
        run()
    gc.collect()
    gc.disable()
    run()
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    left = [repr(thing) for thing in gc.garbage if type(thing).__module__.startswith("penstock")]
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()
    return left


@pytest.mark.slow
def test_a_run_leaves_nothing_to_the_garbage_collector() -> None:
    """Not even where the collector never runs. In an interpreter that no other test has left anything to."""
    program = (
        "from tests.runs.test_garbage import RUNS, left_by; print({n: left_by(r) for n, r in RUNS.items()})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert ast.literal_eval(done.stdout) == {kind: [] for kind in RUNS}

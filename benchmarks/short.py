"""Short works: what it costs to start, join and end stages that have next to nothing to do.

Everybody gets no input and captures stderr, as a pipeline that may fail has to.
"""

from __future__ import annotations

import subprocess
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from benchmarks import baselines
from benchmarks.measure import OURS, Bar, Work, expect, in_a_loop, repeat
from benchmarks.peers import library
from penstock import DEVNULL, command, function, transform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.context import Context
    from penstock import Pipeline, StageContext

__all__ = ["works"]

TEXT = b"hello\n"
KILOBYTE = b"x" * 1023 + b"\n"


def works(context: Context) -> Iterator[Work]:
    """The works on commands, then those on functions."""
    yield _one(context)
    yield _ten(context)
    yield from _captured()
    yield from _functions(context)


def _one(context: Context) -> Work:
    count = 40
    ours = command("true")

    def by_hand() -> None:
        with subprocess.Popen(
            ["true"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            process.communicate()
        expect(process.returncode, 0)

    contenders = {
        OURS: repeat(count, lambda: ours.run(stdout=DEVNULL)),
        "subprocess by hand": repeat(count, by_hand),
        baselines.BARE: repeat(count, baselines.one_true()),
    }
    if context.go is not None:
        contenders["go-pipe"] = context.go.round("true", count, wanted=0)
    plumbum, sh, shellous = library("plumbum"), library("sh"), library("shellous")
    if plumbum is not None:
        contenders["plumbum"] = repeat(count, plumbum.local["true"].run)
    if sh is not None:
        contenders["sh"] = repeat(count, sh.Command("true"))
    if shellous is not None:
        contenders["shellous"] = in_a_loop(count, lambda: shellous.sh("true"))
    bars = (Bar("go-pipe", "time", 1.05), Bar("subprocess by hand", "time", 1.08))
    own = Bar("subprocess by hand", "time", 1.4)
    return Work("true", "one `true`", contenders, bars, per_round=count, cpu_bar=own)


def _ten(context: Context) -> Work:
    count = 8
    ours = reduce(or_, [command("echo", "hello"), *(command("cat") for _ in range(9))])
    script = "set -o pipefail; echo hello" + " | cat" * 9

    bare = baselines.echo_and_cats(9)

    def bash() -> None:
        done = subprocess.run(
            ["bash", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, check=True
        )
        expect(done.stdout, TEXT)

    def by_hand() -> None:
        expect(_chain([["echo", "hello"], *([["cat"]] * 9)]), TEXT)

    contenders = {
        OURS: repeat(count, lambda: expect(ours.output(), TEXT)),
        "bash": repeat(count, bash),
        baselines.BARE: repeat(count, lambda: expect(bare(), TEXT)),
        "subprocess by hand": repeat(count, by_hand),
    }
    if context.go is not None:
        contenders["go-pipe"] = context.go.round("echo9cat", count, wanted=len(TEXT))
    plumbum, sh, shellous = library("plumbum"), library("sh"), library("shellous")
    if plumbum is not None:
        cat = plumbum.local["cat"]
        chain = reduce(or_, [plumbum.local["echo"]["hello"], *([cat] * 9)])
        contenders["plumbum"] = repeat(count, lambda: expect(chain().encode(), TEXT))
    if sh is not None:
        contenders["sh"] = repeat(count, lambda: expect(_sh_chain(sh).encode(), TEXT))
    if shellous is not None:
        piped = reduce(or_, [shellous.sh("echo", "hello"), *(shellous.sh("cat") for _ in range(9))])
        contenders["shellous"] = in_a_loop(count, lambda: piped)
    bars = (Bar("go-pipe", "time", 1.0), Bar("bash", "time", 0.82), Bar(baselines.BARE, "time", 1.06))
    return Work("echo9cat", "`echo` + 9 `cat`", contenders, bars, per_round=count)


def _functions(context: Context) -> Iterator[Work]:
    transforms = reduce(or_, [transform(lambda chunks: chunks) for _ in range(10)])
    functions = reduce(or_, [function(_pass) for _ in range(10)])
    mixed = reduce(or_, [stage for _ in range(5) for stage in (function(_pass), command("cat"))])
    yield _against_functions(context, "transforms", "10 transforms on one short text", transforms, 1.0)
    yield _against_functions(context, "functions", "10 blocking functions on one short text", functions, 1.5)
    count = 8
    bare = baselines.cats_in_turn(5)
    contenders = {
        OURS: _on_text(mixed, count),
        baselines.BARE: repeat(count, lambda: expect(bare(TEXT), TEXT)),
    }
    if context.go is not None:
        contenders["go-pipe"] = context.go.round("mixed", count, wanted=len(TEXT))
    title = "10 mixed stages, function and `cat` in turn"
    yield Work("mixed", title, contenders, (Bar("go-pipe", "time", 1.05),), per_round=count)


def _captured() -> Iterator[Work]:
    """Yield two commands whose output is captured, and one that gets a kilobyte."""
    count = 20
    two = command("echo", "hello") | command("cat")
    contenders = {
        OURS: repeat(count, lambda: expect(two.output(), TEXT)),
        "Popen by hand": repeat(count, lambda: expect(_chain([["echo", "hello"], ["cat"]]), TEXT)),
    }
    title = "`echo | cat`, output captured"
    yield Work("two", title, contenders, (Bar("Popen by hand", "time", 1.15),), per_round=count)
    cat = command("cat")

    def by_run() -> None:
        expect(subprocess.run(["cat"], input=KILOBYTE, capture_output=True, check=True).stdout, KILOBYTE)

    contenders = {
        OURS: repeat(count, lambda: expect(cat.output(input=KILOBYTE), KILOBYTE)),
        "subprocess.run": repeat(count, by_run),
    }
    title = "1 KB into `cat` and out"
    yield Work("cat-1k", title, contenders, (Bar("subprocess.run", "time", 1.1),), per_round=count)


def _against_functions(context: Context, name: str, title: str, pipeline: Pipeline, limit: float) -> Work:
    count = 200
    hand_over = baselines.HandOver()
    contenders = {
        OURS: _on_text(pipeline, count),
        "floor: to a thread and back": repeat(count, lambda: expect(hand_over(TEXT), TEXT)),
    }
    if context.go is not None:
        contenders["go-pipe"] = context.go.round("functions", count, wanted=len(TEXT))
    return Work(name, title, contenders, (Bar("go-pipe", "time", limit),), per_round=count)


def _on_text(pipeline: Pipeline, count: int) -> Callable[[], float]:
    return repeat(count, lambda: expect(pipeline.output(input=TEXT), TEXT))


def _pass(_ctx: StageContext, stdin: Any, stdout: Any) -> None:
    for chunk in stdin.chunks():
        stdout.write(chunk)


def _chain(commands: list[list[str]]) -> bytes:
    """Write it by hand, without capturing ten stderrs, which would take ten threads or files."""
    processes: list[subprocess.Popen[bytes]] = []
    stdin: Any = subprocess.DEVNULL
    for argv in commands:
        process = subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE)
        if processes:
            stdin.close()
        processes.append(process)
        stdin = process.stdout
    out, _ = processes[-1].communicate()
    for process in processes:
        expect(process.wait(), 0)
    return out


def _sh_chain(sh: Any) -> str:
    running = sh.echo("hello", _piped=True)
    for _ in range(8):
        running = sh.cat(_in=running, _piped=True)
    return str(sh.cat(_in=running))

"""Python code that keeps a core busy: stages in processes of their own, against the same stages in threads.

Both contenders run the same functions over the same lines; only `isolate="process"` differs. The cost
of a start is measured too, with an idle worker and with one that has to be started.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks.measure import OURS, Bar, Figure, Work, expect, repeat
from penstock import function, map_lines
from penstock.isolation import worker_pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.context import Context
    from penstock import Pipeline, StageContext

__all__ = ["works"]

STEPS = 20000
"""Steps of plain Python for one line: about a millisecond."""


def compute(line: bytes) -> bytes:
    """Keep a core busy; the result depends on every step."""
    state = int(line)
    for _ in range(STEPS):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
    return b"%d" % state


def pass_on(_ctx: StageContext, stdin: Any, stdout: Any) -> None:
    """Do nothing, so that only the start counts."""
    for chunk in stdin.chunks():
        stdout.write(chunk)


def works(context: Context) -> Iterator[Work]:
    """Two busy stages at once, and the start."""
    count = 100 if context.quick else 400
    text = b"".join(b"%d\n" % number for number in range(count))
    wanted = b"".join(compute(compute(b"%d" % number)) + b"\n" for number in range(count))
    threads = map_lines(compute) | map_lines(_compute_again)
    isolated = map_lines(compute, isolate="process") | map_lines(_compute_again, isolate="process")
    in_threads = function(_lines) | function(_lines)

    def run(pipeline: Pipeline) -> None:
        expect(pipeline.output(input=text), wanted)

    contenders = {
        OURS: repeat(1, lambda: run(isolated)),
        "the same fused in one thread": repeat(1, lambda: run(threads)),
        "functions in two threads": repeat(1, lambda: run(in_threads)),
    }
    bars = (
        Bar("the same fused in one thread", "throughput", 1.7),
        Bar("functions in two threads", "throughput", 1.7),
    )
    title = "two stages of plain Python, each in its own process"
    yield Work("two-cores", title, contenders, bars)
    yield Work("process-start", "one function in a process, next to no work", probe=_start)


def _compute_again(line: bytes) -> bytes:
    return compute(line)


def _lines(_ctx: StageContext, stdin: Any, stdout: Any) -> None:
    for line in stdin:
        stdout.write(compute(line) + b"\n")


def _start() -> list[Figure]:
    """Return the milliseconds of a call of `output()`."""
    pipeline = function(pass_on, isolate="process")
    context = multiprocessing.get_context("spawn")

    def isolated() -> float:
        began = time.perf_counter()
        expect(pipeline.output(input=b"x"), b"x")
        return (time.perf_counter() - began) * 1000

    def spawned() -> float:
        began = time.perf_counter()
        process = context.Process(target=_nothing)
        process.start()
        process.join()
        return (time.perf_counter() - began) * 1000

    cold, warm, others = [], [], []
    for _ in range(9):
        worker_pool.shutdown()
        cold.append(isolated())
        warm += [isolated() for _ in range(10)]
        others.append(spawned())
    worker_pool.shutdown()
    return [
        Figure("with a warm worker", statistics.median(warm), "ms"),
        Figure("with a worker to be started", statistics.median(cold), "ms"),
        Figure("multiprocessing.Process, spawn, empty target", statistics.median(others), "ms"),
    ]


def _nothing() -> None:
    """Do nothing: the target of the other process."""

"""Measurements of memory, each in a process of its own, so that no other work has left anything there.

`python -m benchmarks.probes NAME ARGUMENT` prints one JSON object of numbers.

Allocated bytes are tracemalloc's high-water mark of a pipeline above the memory that was live when it began,
summed over the pipelines. A buffer that is reused was live before, so it counts nothing; a buffer that a copy
allocates counts once for each copy, whatever happens to it afterwards. Small objects that come and go below
the high-water mark are not counted, so it is a lower bound, the same for all.
"""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.bulk import Counter
from benchmarks.context import CHUNK
from benchmarks.measure import WrongResult, expect
from benchmarks.peers import HERE, status
from penstock import DEVNULL, PIPE, buffer_pool, command, function

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock import StageContext

__all__ = ["probe"]

WARM_UP = 200


def probe(name: str, argument: int) -> dict[str, float]:
    """Run one of the measurements in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.probes", name, str(argument)],
        cwd=HERE.parent,
        stdout=subprocess.PIPE,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _copies(count: int) -> dict[str, float]:
    """Many short copies out of a command into a Python writer, one after the other."""
    pipeline = command("echo", "hello")
    sink = Counter()
    for _ in range(WARM_UP):
        pipeline.run(stdout=sink)
    tracemalloc.start()
    for _ in range(WARM_UP):  # caches that the first ones fill are then traced, and may be replaced
        pipeline.run(stdout=sink)
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    hits, misses, bytes_before = buffer_pool.hits, buffer_pool.misses, sink.count
    for _ in range(count):
        pipeline.run(stdout=sink)
    gc.collect()
    after, peak = tracemalloc.get_traced_memory()
    expect(sink.count - bytes_before, count * len(b"hello\n"))
    hits, misses = buffer_pool.hits - hits, buffer_pool.misses - misses
    return {
        "growth": (after - before) / count,
        "peak": peak - before,
        "borrowed": hits + misses,
        "hits": 100 * hits / max(1, hits + misses),
    }


def _resident(size: int) -> dict[str, float]:
    """A command's bytes through a Python function into another command."""

    def run(amount: int) -> None:
        seen = Counter()

        def pass_on(_ctx: StageContext, stdin: Any, stdout: Any) -> None:
            for chunk in stdin.chunks():
                seen.count += len(chunk)
                stdout.write(chunk)

        (command("head", "-c", str(amount), "/dev/zero") | function(pass_on) | command("cat")).run(
            stdout=DEVNULL
        )
        expect(seen.count, amount)

    cold = status("self", "VmRSS")
    run(CHUNK)
    warm = status("self", "VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins again here
    run(size)
    peak = status("self", "VmHWM")
    return {"growth": (peak - warm) / 1e6, "cold": (peak - cold) / 1e6, "peak": peak / 1e6}


def _service(seconds: int) -> dict[str, float]:
    """Short pipelines into a Python writer without a pause: with the pool, without it, by copyfileobj."""
    pipeline = command("echo", "hello")
    sink = Counter()
    limit = buffer_pool.limit

    def penstock() -> None:
        pipeline.run(stdout=sink)

    def copyfileobj() -> None:
        with subprocess.Popen(["echo", "hello"], stdout=subprocess.PIPE) as process:
            if process.stdout is None:
                raise WrongResult("no pipe")
            shutil.copyfileobj(process.stdout, sink)
        expect(process.returncode, 0)

    variants: dict[str, tuple[Callable[[], None], int]] = {
        "pool": (penstock, limit),
        "no pool": (penstock, 0),
        "copyfileobj": (copyfileobj, limit),
    }
    tracemalloc.start()
    totals = {name: [0.0, 0.0, 0.0, 0.0] for name in variants}
    for turn in range(seconds + 1):  # slices of a second in turn; the first of each warms up
        for name, (call, kept) in variants.items():
            buffer_pool.configure(limit=kept)
            slice_ = _slice(call, 1.0 if turn else 0.3)
            if turn:
                totals[name] = [a + b for a, b in zip(totals[name], slice_, strict=True)]
    figures: dict[str, float] = {}
    for name, (allocated, count, collections, elapsed) in totals.items():
        figures[f"{name}: MB/s"] = allocated / elapsed / 1e6
        figures[f"{name}: KB each"] = allocated / count / 1e3
        figures[f"{name}: pipelines/s"] = count / elapsed
        figures[f"{name}: collections per 1000"] = 1000 * collections / count
    return figures


def _slice(call: Callable[[], None], seconds: float) -> list[float]:
    """Bytes allocated, pipelines, collections of garbage, seconds."""
    allocated, count = 0, 0
    collections = sum(generation["collections"] for generation in gc.get_stats())
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        live, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        call()
        _, peak = tracemalloc.get_traced_memory()
        allocated += peak - live
        count += 1
    elapsed = time.perf_counter() - began
    collections = sum(generation["collections"] for generation in gc.get_stats()) - collections
    return [allocated, count, collections, elapsed]


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _idle(count: int) -> dict[str, float]:
    """Many pipelines of five commands, all waiting for input at one time."""
    pipeline = command("cat") | command("cat") | command("cat") | command("cat") | command("cat")
    pipeline.output(input=b"")
    before = status("self", "VmRSS")
    descriptors = _descriptors()
    runs = [pipeline.start(stdin=PIPE, stdout=DEVNULL) for _ in range(count)]
    figures = {
        "commands": 5.0 * count,
        "threads": float(status("self", "Threads")),
        "descriptors": (_descriptors() - descriptors) / count,
        "KB": (status("self", "VmRSS") - before) / count / 1e3,
    }
    for run in runs:
        with run:
            pass
    return figures


PROBES = {"copies": _copies, "resident": _resident, "service": _service, "idle": _idle}

if __name__ == "__main__":
    print(json.dumps(PROBES[sys.argv[1]](int(sys.argv[2]))))

"""How the cost grows: with the stages of a pipeline, the waiting runs, the length of lines, the host's size.

Each figure is measured in a process of its own. The exponent is that between the two largest sizes: 1 is
linear, 2 quadratic, 0 constant. `python -m benchmarks.growth NAME SIZE` prints the figures of one size.
"""

from __future__ import annotations

import json
import math
import resource
import statistics
import subprocess
import sys
import time
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Figure, Limit, Work, expect
from benchmarks.peers import HERE, status
from penstock import DEVNULL, PIPE, command, function, map_lines, source, transform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.context import Context
    from penstock import Pipeline

__all__ = ["works"]

LINEAR = Limit(1.1)
CONSTANT = Limit(0.2)
LINES_BYTES = 64 << 20
MIB = 1 << 20


def works(context: Context) -> Iterator[Work]:
    """The works, with fewer sizes in a quick run."""
    stages = (1, 10, 100) if context.quick else (1, 10, 100, 1000)
    for kind in ("commands", "transforms", "functions"):
        yield _work(f"grow-{kind}", f"a pipeline of n {kind}", kind, stages, {"time": ("ms", LINEAR)})
    runs = (1, 100) if context.quick else (1, 100, 1000, 5000)
    waiting = {
        "start": ("ms each", CONSTANT),
        "RSS": ("KB each", CONSTANT),
        "descriptors": ("each", CONSTANT),
    }
    yield _work("grow-runs", "n runs of `cat` that wait at one time", "runs", runs, waiting)
    lengths = (10, 10_000) if context.quick else (10, 1000, 100_000, 10_000_000)
    yield _work(
        "grow-lines",
        "64 MiB in lines of n bytes through `map_lines`",
        "lines",
        lengths,
        {"time": ("ms", CONSTANT)},
    )
    memory = (10, 100) if context.quick else (10, 100, 1000, 4000)
    yield _work("grow-host", "one `true` of a host with n MB", "host", memory, {"time": ("ms", CONSTANT)})


def _work(
    name: str, title: str, probe: str, sizes: Sequence[int], figures: dict[str, tuple[str, Limit]]
) -> Work:
    return Work(name, title, probe=lambda: _figures(probe, sizes, figures))


def _figures(probe: str, sizes: Sequence[int], wanted: dict[str, tuple[str, Limit]]) -> list[Figure]:
    found = [_measured(probe, size) for size in sizes]
    made = []
    for name, (unit, bar) in wanted.items():
        values = [each[name] for each in found]
        made += [
            Figure(f"{name}, n = {size:,}", value, unit) for size, value in zip(sizes, values, strict=True)
        ]
        growth = math.log(max(values[-1], 1e-9) / max(values[-2], 1e-9)) / math.log(sizes[-1] / sizes[-2])
        made.append(Figure(f"exponent of {name}", growth, "", bar))
    return made


def _measured(probe: str, size: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth", probe, str(size)],
        cwd=HERE.parent,
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _stages(stage: Callable[[], Pipeline], count: int) -> dict[str, float]:
    pipeline = reduce(or_, [stage() for _ in range(count)])
    return {"time": _best_time(lambda: expect(pipeline.output(input=b"a\n"), b"a\n"))}


def _best_time(call: Callable[[], object]) -> float:
    """Return the median of some calls in milliseconds, after one that warms up."""
    call()
    took: list[float] = []
    over = time.perf_counter() + 2
    while len(took) < 3 or (time.perf_counter() < over and len(took) < 200):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


def _pass(_ctx: object, stdin: Any, stdout: Any) -> None:
    for chunk in stdin.chunks():
        stdout.write(chunk)


def _runs(count: int) -> dict[str, float]:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cat = command("cat")
    cat.output(input=b"")
    with cat.start(stdin=PIPE, stdout=DEVNULL):
        pass
    resident, descriptors = status("self", "VmRSS"), _descriptors()
    began = time.perf_counter()
    runs = [cat.start(stdin=PIPE, stdout=DEVNULL) for _ in range(count)]
    took = time.perf_counter() - began
    figures = {
        "start": took / count * 1000,
        "RSS": (status("self", "VmRSS") - resident) / count / 1e3,
        "descriptors": (_descriptors() - descriptors) / count,
    }
    for run in runs:
        with run:
            pass
    return figures


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _lines(length: int) -> dict[str, float]:
    lines = max(1, LINES_BYTES // length)
    text = (b"x" * (length - 1) + b"\n") * max(1, MIB // length)
    blocks = max(1, lines * length // len(text))
    pipeline = source([text] * blocks) | map_lines(bytes.upper)
    return {"time": _best_time(lambda: pipeline.run(stdout=DEVNULL))}


def _host(megabytes: int) -> dict[str, float]:
    held = bytearray(megabytes * 1_000_000)
    held[::4096] = b"x" * len(range(0, len(held), 4096))
    return {"time": _best_time(lambda: command("true").run(stdout=DEVNULL))}


PROBES: dict[str, Callable[[int], dict[str, float]]] = {
    "commands": lambda count: _stages(lambda: command("cat"), count),
    "transforms": lambda count: _stages(lambda: transform(lambda chunks: chunks), count),
    "functions": lambda count: _stages(lambda: function(_pass), count),
    "runs": _runs,
    "lines": _lines,
    "host": _host,
}

if __name__ == "__main__":
    print(json.dumps(PROBES[sys.argv[1]](int(sys.argv[2]))))

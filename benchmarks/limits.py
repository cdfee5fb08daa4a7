"""Limits: how soon a greedy command is stopped, what watching costs, and a start with limits."""

from __future__ import annotations

import os
import statistics
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.measure import Figure, Limit, Work, WrongResult
from penstock import CAPTURE, Limits, MemoryLimitExceeded, command, memory_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.context import Context
    from penstock import Run

__all__ = ["works"]

MB = 1_000_000
WATCHED = 50
GREEDY = """
import os, time
taken = []
began = time.perf_counter()
while True:
    taken.append(b"x" * 1_000_000)
    os.write(1, b".")
    while time.perf_counter() - began < len(taken) / 1000:
        pass
"""
"""It allocates 1 GB/s, if the machine can, and reports each megabyte."""


def works(context: Context) -> Iterator[Work]:
    """A greedy command, fifty idle ones, and the start."""
    seconds = 2 if context.quick else 10
    yield Work(
        "memory-limit", "a command that takes 1 GB/s, stopped by its limit", probe=lambda: _greedy(context)
    )
    yield Work(
        "watched-idle", f"{WATCHED} idle commands watched for {seconds} s", probe=lambda: _idle(seconds)
    )
    yield Work("limited-start", "one `true` with limits that the kernel keeps", probe=lambda: _start(context))


def _greedy(context: Context) -> list[Figure]:
    """Return the memory that it held at the end, by its own report: its peak RSS would include ours."""
    figures = []
    for limit in (100 * MB, 500 * MB):
        stage = memory_limit(command(sys.executable, "-I", "-S", "-c", GREEDY), limit)
        held, rates = [], []
        for _ in range(3 if context.quick else 9):
            result = stage.run(check=False, stdout=CAPTURE)
            if not isinstance(result.stages[0].error, MemoryLimitExceeded):
                raise WrongResult(f"it ended by {result.stages[0].error!r}")
            held.append(len(result.stdout or b"") * MB / limit)
            rates.append(held[-1] * limit / 1e9 / result.elapsed)
        note = f"median {statistics.median(held):.2f}; {statistics.median(rates):.2f} GB/s from start to end"
        label = f"held at the most, of a limit of {limit // MB} MB"
        figures.append(Figure(label, max(held), "x", Limit(1.5), note=note))
    return figures


def _idle(seconds: int) -> list[Figure]:
    """Return the processor time of this process, with watched and with unwatched commands."""
    processes = sum(1 for name in os.listdir("/proc") if name.isdecimal()) + WATCHED  # noqa: PTH208 - as in procfs
    note = f"limit 1 GB, {processes} processes on the machine"
    plain = command("sleep", "1000")
    watched = memory_limit(plain, "1GB")
    return [
        Figure(
            "of a core, watched",
            _share([watched.start() for _ in range(WATCHED)], seconds),
            "%",
            Limit(1),
            note,
        ),
        Figure("of a core, not watched", _share([plain.start() for _ in range(WATCHED)], seconds), "%"),
    ]


def _share(runs: list[Run], seconds: int) -> float:
    """Return the percent of one core that this process uses while they run; end them."""
    try:
        time.sleep(0.5)  # the cost of a start is not measured here
        before, began = time.process_time(), time.perf_counter()
        time.sleep(seconds)
        return 100 * (time.process_time() - before) / (time.perf_counter() - began)
    finally:
        for run in runs:
            run.cancel()
        for run in runs:
            run.wait(check=False)


def _start(context: Context) -> list[Figure]:
    """Return the milliseconds of calls of `run()`, in turns."""
    variants: dict[str, Callable[[], object]] = {
        "without limits": command("true").run,
        "rlimits": command("true", limits=Limits(open_files=64, cgroup="never")).run,
        "memory, by a cgroup where one may be made": command("true", limits=Limits(memory="1GB")).run,
    }
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(10 if context.quick else 50):
        for name, run in variants.items():
            began = time.perf_counter()
            run()
            taken[name].append((time.perf_counter() - began) * 1000)
    return [Figure(name, statistics.median(values), "ms") for name, values in taken.items()]

"""Many runs ended at once, and one run that is ended beside many others. Only the ending is measured."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.measure import Bar, Figure, Limit, Work, expect
from penstock import PipelineTimeout, command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.context import Context
    from penstock import Event, Run

__all__ = ["works"]

MANY = 1000
BY_HAND = "killpg and wait by hand"
SLEEP = command("sleep", "1000")


def works(context: Context) -> Iterator[Work]:
    """A thousand runs cancelled, in threads' runs and in a loop; and a run that ends beside a thousand."""
    many = 100 if context.quick else MANY
    yield Work(
        "cancel-many",
        f"{many:,} runs of `sleep` cancelled and waited for",
        {"Penstock": partial(_cancel, many), BY_HAND: partial(_by_hand, many)},
        (Bar(BY_HAND, "time", 5),),
        per_round=many,
    )
    yield Work(
        "cancel-many-tasks",
        f"{many:,} tasks that await such a run cancelled and waited for",
        {"Penstock": partial(_cancel_tasks, many), BY_HAND: partial(_by_hand, many)},
        (Bar(BY_HAND, "time", 8),),
        per_round=many,
    )
    yield Work("cancel-growth", "five times as many runs cancelled", probe=lambda: _growth(many))
    yield Work("end-beside-many", f"one run ended beside {many:,} others", probe=lambda: _beside(many))


def _start(many: int) -> list[Run]:
    return [SLEEP.start() for _ in range(many)]


def _end(runs: list[Run]) -> float:
    began = time.perf_counter()
    for run in runs:
        run.cancel()
    results = [run.wait(check=False) for run in runs]
    taken = time.perf_counter() - began
    expect({result.returncodes for result in results}, {(-signal.SIGTERM,)})
    return taken


def _cancel(many: int) -> float:
    return _end(_start(many))


def _cancel_tasks(many: int) -> float:
    async def main() -> float:
        events: list[Event] = []
        tasks = [asyncio.ensure_future(SLEEP.arun(on_event=events.append)) for _ in range(many)]
        while len(events) < many:  # noqa: ASYNC110 - the events come from another thread
            await asyncio.sleep(0.05)
        began = time.perf_counter()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        taken = time.perf_counter() - began
        expect({type(result) for result in results}, {asyncio.CancelledError})
        return taken

    return asyncio.run(main())


def _by_hand(many: int) -> float:
    children = [subprocess.Popen(["sleep", "1000"], process_group=0) for _ in range(many)]
    began = time.perf_counter()
    for child in children:
        os.killpg(child.pid, signal.SIGTERM)
    for child in children:
        child.wait()
    return time.perf_counter() - began


def _growth(many: int) -> list[Figure]:
    """Return the time for five times as many, over the time for one."""
    once = statistics.median(_cancel(many) for _ in range(5))
    five = statistics.median(_cancel(5 * many) for _ in range(3))
    note = f"{once:.3f} s and {five:.3f} s"
    return [Figure(f"{5 * many:,} runs over {many:,}", five / once, "x", Limit(6), note)]


def _beside(many: int) -> list[Figure]:
    """Return the time of a run alone, beside the others, and the ratio, for two ways to end one."""
    ways: dict[str, Callable[[], float]] = {"a timeout": _time_out, "an iterator left early": _leave}
    alone = {name: statistics.median(way() for _ in range(21)) for name, way in ways.items()}
    others = _start(many)
    beside = {name: statistics.median(way() for _ in range(21)) for name, way in ways.items()}
    _end(others)
    return [
        Figure(
            f"{name}, over the same alone",
            beside[name] / alone[name],
            "x",
            Limit(1.5),
            f"{beside[name] * 1000:.2f} ms and {alone[name] * 1000:.2f} ms, without the deadline itself",
        )
        for name in ways
    ]


def _time_out() -> float:
    began = time.perf_counter()
    try:
        SLEEP.run(timeout=0.02)
    except PipelineTimeout:
        return time.perf_counter() - began - 0.02
    raise AssertionError("it did not time out")


def _leave() -> float:
    began = time.perf_counter()
    chunks = command("yes").iter_lines()
    next(chunks)
    chunks.close()
    return time.perf_counter() - began

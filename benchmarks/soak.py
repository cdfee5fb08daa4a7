"""A service under load: 20,000 short pipelines of all sorts, 5 % of them faulty, and nothing may grow.

Half of them are run by 50 threads, half by 200, each thread one after the other without a pause. Every run is
checked: the bytes of a good one, the error of a faulty one. The first 2,000 warm up (allocator, thread
stacks, caches), as many for each thread; the resources held then are compared with those held at the end.
Before that, 200 pipelines of commands wait for input at one time, and the threads are counted.

The load is the same each time but for the machine: the choice of pipelines comes from a seed, which is
printed. Exit status 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import json
import random
import signal
import statistics
import sys
import threading
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import penstock
from benchmarks.measure import WrongResult, expect
from benchmarks.peers import status
from penstock import (
    CAPTURE,
    DEVNULL,
    PIPE,
    ExitError,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    StartError,
    command,
    echo,
    function,
    is_signal,
    map_lines,
    source,
)
from penstock.system import procfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["main"]

RUNS, WARM_UP = 20_000, 2_000
FAULTS = 0.05
CROWDS = (50, 200)
GROWTH = 5e6
"""Bytes that RSS may grow by after the warm-up."""
SPREAD = 10
"""The largest ratio of p99 to p50."""
LOOK = 0.02
"""Seconds between two samples of the resources held."""


def _pass(_ctx: object, stdin: Any, stdout: Any) -> None:
    for chunk in stdin.chunks():
        stdout.write(chunk)


def _fail(_ctx: object, _stdin: Any, _stdout: Any) -> None:
    raise LookupError("on purpose")


TRUE = command("true")
CATS = echo("hello") | command("cat") | command("cat")
FUNCTIONS = source([b"a\nb\n"] * 20) | map_lines(bytes.upper) | function(_pass)
MIXED = echo("hello") | command("cat") | function(_pass) | command("tr", "a-z", "A-Z")
COUNTED = command("seq", "100")
ENDLESS = command("yes")
SLEEPER = command("cat") | function(_pass)


def _good() -> dict[str, tuple[int, Callable[[], None]]]:
    return {
        "one command": (40, lambda: expect(TRUE.run(stdout=DEVNULL).ok, wanted=True)),
        "three commands": (15, lambda: expect(CATS.output(), b"hello\n")),
        "Python only": (15, lambda: expect(FUNCTIONS.output(), b"A\nB\n" * 20)),
        "mixed": (15, lambda: expect(MIXED.output(), b"HELLO\n")),
        "lines of a command": (10, lambda: expect(len(list(COUNTED.iter_lines())), 100)),
        "started, then waited for": (5, _started),
    }


def _started() -> None:
    with CATS.start(stdout=CAPTURE) as run:
        pass
    expect(run.wait().stdout, b"hello\n")


def _faulty() -> dict[str, tuple[int, Callable[[], None]]]:
    return {
        "exit status": (3, lambda: _failing(CATS | command("false"), PipelineError, ExitError)),
        "exception": (3, lambda: _failing(CATS | function(_fail), PipelineError, LookupError)),
        "no such program": (2, lambda: _failing(CATS | command("/no/such"), StartError, OSError)),
        "killed": (2, _killed),
        "deadline": (
            2,
            lambda: _failing(command("sleep", "60"), PipelineTimeout, TimeoutError, timeout=0.05),
        ),
        "cancelled": (2, _cancelled),
        "left early": (2, lambda: expect(next(iter(ENDLESS.iter_lines())), b"y")),
    }


def _failing(
    pipeline: penstock.Pipeline, kind: type[BaseException], cause: type[BaseException], **options: Any
) -> None:
    result = pipeline.run(check=False, stdout=DEVNULL, **options)
    if not isinstance(result.error, kind) or not isinstance(result.error.cause, cause):
        raise WrongResult(f"{result.error!r} came, {kind.__name__} of {cause.__name__} was wanted")


def _killed() -> None:
    pipeline = command("sh", "-c", "kill -SEGV $$")
    error = pipeline.run(check=False, stdout=DEVNULL).error
    expect(error is not None and is_signal(signal.SIGSEGV)(error.cause), wanted=True)


def _cancelled() -> None:
    run = SLEEPER.start(stdin=PIPE, stdout=DEVNULL)
    run.cancel("on purpose")
    expect(type(run.wait(check=False).error), PipelineCancelled)
    if run.stdin is not None:
        run.stdin.close()


@dataclass
class Held:
    """The resources of the process at one moment."""

    threads: int = field(default_factory=lambda: int(status("self", "Threads")))
    descriptors: int = field(default_factory=lambda: sum(1 for _ in Path("/proc/self/fd").iterdir()))
    rss: float = field(default_factory=lambda: status("self", "VmRSS"))


def _children() -> int:
    own = int(Path("/proc/self").readlink().name)
    return sum(parent == own for parent in procfs.parents().values())


class Load:
    """Callers that run one pipeline after the other, and their findings."""

    def __init__(self, seed: int, most: int) -> None:
        """Run at most `most` pipelines in a call of `run`. All notes are allocated before the measurement, so
        that the load itself does not grow.
        """
        self._random = random.Random(seed)  # noqa: S311 - a choice of pipelines, to be made again
        self._good, self._faulty = _good(), _faulty()
        self._latencies = array("d", bytes(8 * most))
        self._done = most
        self.quantiles()
        self.kinds: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.peak = Held()

    def run(self, total: int, crowd: int) -> float:
        """Run `total` pipelines from `crowd` threads; return the seconds that they took."""
        plan = itertools.islice(self._plan(), total)
        lock = threading.Lock()
        self._done = 0

        def caller() -> None:
            while True:
                with lock:
                    name, call = next(plan, (None, None))
                if call is None or name is None:
                    return
                began = time.perf_counter()
                try:
                    call()
                except BaseException as error:  # noqa: BLE001 - reported at the end, whatever it is
                    self.wrong.append(f"{name}: {error!r}")
                took = time.perf_counter() - began
                with lock:
                    self._latencies[self._done] = took
                    self._done += 1

        threads = [threading.Thread(target=caller) for _ in range(crowd)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(LOOK)
                self._look()
        return time.perf_counter() - began

    def quantiles(self) -> tuple[float, float]:
        """Return the median of the pipelines' seconds in the last `run`, and the value that 1 % exceeded."""
        p50, *_, p99 = statistics.quantiles(self._latencies[: self._done], n=100)[49:]
        return p50, p99

    def _plan(self) -> Iterator[tuple[str, Callable[[], None]]]:
        while True:
            kinds = self._faulty if self._random.random() < FAULTS else self._good
            (name,) = self._random.choices(list(kinds), [weight for weight, _ in kinds.values()])
            self.kinds[name] += 1
            yield name, kinds[name][1]

    def _look(self) -> None:
        now = Held()
        self.peak = Held(
            max(self.peak.threads, now.threads),
            max(self.peak.descriptors, now.descriptors),
            max(self.peak.rss, now.rss),
        )


def _settled(before: Held) -> Held:
    """Return the resources held after idle workers have ended and garbage is collected."""
    deadline = time.monotonic() + 15
    while True:
        gc.collect()
        now = Held()
        if (now.threads <= before.threads and now.descriptors <= before.descriptors and not _children()) or (
            time.monotonic() > deadline
        ):
            return now
        threading.Event().wait(0.05)


def _trimmed() -> Held:
    """Return the memory held after the C library has returned its free memory, if it can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return Held()


def _threads_of_commands(count: int) -> int:
    """Return the number of additional threads while that many pipelines of commands run at one time."""
    pipeline = command("cat") | command("cat")
    before = Held().threads
    runs = [pipeline.start(stdin=PIPE, stdout=DEVNULL) for _ in range(count)]
    threads = Held().threads - before
    for run in runs:
        with run:
            pass
    return threads


class _Bars:
    """The bars, and whether they were met; each is printed as soon as it is known."""

    def __init__(self) -> None:
        self.missed = 0

    def add(self, text: str, *, met: bool) -> None:
        self.missed |= not met
        print(f"{'met   ' if met else 'MISSED'}  {text}", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Return 1 if a bar is missed or a run had a wrong outcome."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, metavar="N", help=f"pipelines in all ({RUNS})")
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="the seed of an earlier load")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures there, as JSON")
    options = parser.parse_args(argv)
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)

    bars = _Bars()
    extra = _threads_of_commands(200)
    start = Held()
    bars.add(f"200 pipelines of commands at one time: {extra} thread more (bar: 1)", met=extra <= 1)
    load = Load(seed, options.runs)
    warm_up = min(WARM_UP, options.runs // 2)
    for crowd in CROWDS:
        load.run(warm_up * crowd // sum(CROWDS), crowd)
    before = _settled(start)
    figures: dict[str, Any] = {"seed": seed, "runs": options.runs, "command threads": extra}
    for crowd in CROWDS:
        total = (options.runs - warm_up) // len(CROWDS)
        rate = total / load.run(total, crowd)
        p50, p99 = load.quantiles()
        figures[f"{crowd} threads"] = {"runs/s": rate, "p50": p50, "p99": p99}
        times = f"p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, ratio {p99 / p50:.1f} (bar: {SPREAD})"
        bars.add(f"{crowd} at once: {rate:.0f} runs/s, {times}", met=p99 <= SPREAD * p50)
    after = _settled(start)
    growth, children = after.rss - before.rss, _children()
    figures |= {"peak": vars(load.peak), "before": vars(before), "after": vars(after), "kinds": load.kinds}
    rss = f"RSS {before.rss / 1e6:.1f} MB after {warm_up}, {after.rss / 1e6:.1f} MB at the end"
    bars.add(f"{rss}: {growth / 1e6:+.1f} MB (bar: {GROWTH / 1e6:.0f})", met=growth <= GROWTH)
    free = after.rss - _trimmed().rss
    figures["free"] = free
    print(f"        of it {free / 1e6:.1f} MB are free, and go back once the C library is asked for them")
    held = f"descriptors {start.descriptors} before, {after.descriptors} after"
    bars.add(held, met=after.descriptors <= start.descriptors)
    bars.add(f"children after: {children}", met=not children)
    bars.add(f"runs that ended in another way than they should: {len(load.wrong)}", met=not load.wrong)
    peak = load.peak
    print(f"peak: {peak.threads} threads, {peak.descriptors} descriptors, {peak.rss / 1e6:.1f} MB")
    print(f"threads {start.threads} before, {after.threads} after; faults: {FAULTS:.0%}")
    for text in load.wrong[:10]:
        print(f"        {text}")
    if options.output is not None:
        options.output.write_text(json.dumps(figures, indent=1) + "\n")
    return bars.missed


if __name__ == "__main__":
    sys.exit(main())

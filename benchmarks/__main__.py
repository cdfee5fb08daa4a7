"""Measure every work, print the table, and write the figures as JSON to benchmarks/results/."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import (
    async_api,
    bulk,
    cold,
    cores,
    ending,
    everyday,
    graphs,
    growth,
    limits,
    lines,
    memory,
    short,
)
from benchmarks.context import Context
from benchmarks.measure import WrongResult, measure
from benchmarks.peers import NO_V2, RESULTS, GoPipe, build_go, library, status
from benchmarks.table import peaks, text_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measure import Work

__all__ = ["main"]

LEAST_ROUNDS = 7
MODULES = (
    short,
    cold,
    async_api,
    bulk,
    graphs,
    lines,
    everyday,
    memory,
    cores,
    limits,
    ending,
    growth,
)


def main(argv: list[str] | None = None) -> int:
    """Return 1 if a contender did not do its work, else 0; a missed bar only shows in the table."""
    options = _options(argv)
    notices = [NO_V2]
    unbuilt = build_go()
    if unbuilt:
        notices = [f"go-pipe is not compared: {unbuilt}"]
    notices += [
        f"{name} is not compared: it is not installed (pip install -e '.[bench]')"
        for name in ("plumbum", "sh", "shellous")
        if library(name) is None
    ]
    rounds = options.rounds or (3 if options.quick else 9)
    if options.quick or rounds < LEAST_ROUNDS:
        notices.append("a quick run: smaller works or fewer rounds than the bars ask for")
    failed = False
    with ExitStack() as exits:
        go = None if unbuilt else exits.enter_context(GoPipe())
        context = exits.enter_context(Context(go, quick=options.quick))
        results: dict[str, Any] = {
            "began": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            "machine": _machine(),
            "load_before": os.getloadavg(),
            "quick": options.quick,
            "rounds": rounds,
            "works": [],
        }
        for work in _chosen(context, options.only):
            print(f"{work.name} ...", end="", file=sys.stderr, flush=True)
            began = time.monotonic()
            try:
                results["works"].append(measure(work, rounds))
            except WrongResult as error:
                failed = True
                notices.append(f"{work.name} failed: {error}")
            print(f" {time.monotonic() - began:.1f} s", file=sys.stderr)
        results["load_after"] = os.getloadavg()
        results["peak_rss"] = {
            "benchmarks": status("self", "VmHWM"),
            "go-pipe": 0 if go is None else go.peak(),
        }
    results["notices"] = notices
    print(text_table(results))
    for notice in [*notices, peaks(results)]:
        print(f"note: {notice}")
    print(f"written: {_write(results, options.output)}")
    return int(failed)


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help="only this work; may be repeated")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds, of which the median counts (9)")
    parser.add_argument(
        "--quick", action="store_true", help="smaller works and 3 rounds: to see that it runs"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="the JSON file (results/DATE.json)")
    options = parser.parse_args(argv)
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds takes at least 1")
    return options


def _chosen(context: Context, only: list[str] | None) -> Iterator[Work]:
    known = []
    for module in MODULES:
        for work in module.works(context):
            known.append(work.name)
            if only is None or work.name in only:
                yield work
    unknown = sorted(set(only or ()) - set(known))
    if unknown:
        sys.exit(f"no such work: {', '.join(unknown)}; there are: {', '.join(known)}")


def _machine() -> dict[str, Any]:
    versions = {"penstock": metadata.version("penstock"), "python": platform.python_version()}
    for name, argv, place in (("bash", ["bash", "--version"], 3), ("go", ["go", "version"], 2)):
        if shutil.which(name) is not None:
            said = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.split()
            versions[name] = said[place].removeprefix("go") if len(said) > place else "unknown"
    for name in ("plumbum", "sh", "shellous"):
        if library(name) is not None:
            versions[name] = metadata.version(name)
    return {
        "build": f"{platform.python_version()} ({platform.python_compiler()})",
        "loop_ms": _loop_time() * 1000,
        "system": platform.system(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "versions": versions,
    }


def _loop_time() -> float:
    """Return the seconds that a million steps of plain Python take: builds differ in that by half."""
    took = []
    for _ in range(5):
        began = time.perf_counter()
        count = 0
        while count < 1_000_000:
            count += 1
        took.append(time.perf_counter() - began)
    return min(took)


def _write(results: dict[str, Any], output: Path | None) -> Path:
    if output is None:
        RESULTS.mkdir(exist_ok=True)
        output = RESULTS / time.strftime("%Y%m%d-%H%M%S.json")
    output.write_text(json.dumps(results, indent=1) + "\n")
    return output


if __name__ == "__main__":
    sys.exit(main())

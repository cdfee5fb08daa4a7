"""Put the figures of one run into a page: `python -m benchmarks.report RESULTS.json... docs/`.

Several files are the parts of one run, each made with `--only`, on a machine that is not quiet for long. If
some were measured with another build of Python, their ratios stand beside those of the first build.

Writes `performance.svg` into the folder, and the table into its `performance.md`, between the two marks; the
prose around them is not touched. If there is no page yet, it creates one with only the marks, the chart
and the table.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.chart import chart
from benchmarks.table import HEADINGS, Row, peaks, rows

__all__ = ["joined", "main", "page"]

BEGIN = "<!-- figures: written by `python -m benchmarks.report` -->"
END = "<!-- end of figures -->"
SKELETON = f"# Performance\n\n{BEGIN}\n{END}\n"


def main(argv: list[str] | None = None) -> int:
    """Write the page and the chart."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument(
        "results", type=Path, nargs="+", help="a JSON file of python -m benchmarks, or its parts"
    )
    parser.add_argument("folder", type=Path, help="where performance.md and performance.svg go")
    options = parser.parse_args(argv)
    builds: dict[str, list[dict[str, Any]]] = {}
    for path in options.results:
        part = json.loads(path.read_text())
        builds.setdefault(part["machine"]["build"], []).append(part)
    if len(builds) > 2:
        parser.error(f"two builds of Python can be compared, not {len(builds)}: {', '.join(builds)}")
    results, *beside = [joined(parts) for parts in builds.values()]
    target = options.folder / "performance.md"
    before = target.read_text() if target.exists() else SKELETON
    target.write_text(page(before, results, beside[0] if beside else None))
    (options.folder / "performance.svg").write_text(chart(results))
    print(f"written: {target} and performance.svg beside it")
    return 0


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Merge the parts of a run: their works in order, each notice once, and the peaks of all."""
    whole = dict(parts[0])
    whole["works"] = [work for part in parts for work in part["works"]]
    whole["notices"] = list(dict.fromkeys(notice for part in parts for notice in part["notices"]))
    whole["rounds"] = min(part["rounds"] for part in parts)
    whole["load_after"] = parts[-1]["load_after"]
    whole["peak_rss"] = {
        name: max(part["peak_rss"].get(name, 0) for part in parts) for name in parts[0]["peak_rss"]
    }
    return whole


def page(before: str, results: dict[str, Any], beside: dict[str, Any] | None = None) -> str:
    """Return the page with the figures between the marks replaced; raise ValueError without marks.

    `beside`: the results with another build of Python.
    """
    head, begin, rest = before.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page needs the two lines {BEGIN!r} and {END!r}")
    return f"{head}{BEGIN}\n\n{_figures(results, beside)}\n{END}{tail}"


def _figures(results: dict[str, Any], beside: dict[str, Any] | None) -> str:
    everything = rows(results)
    other = {} if beside is None else {(row.work, row.peer): row for row in rows(beside)}
    builds = None if beside is None else _versions(results, beside)
    barred = [row for row in everything if row.passed is not None]
    others = [row for row in everything if row.passed is None]
    met = sum(1 for row in barred if row.passed)
    notes = "".join(f"- {text}\n" for text in [*results["notices"], peaks(results)])
    return (
        "\n".join(
            (
                _setting(results),
                *(() if beside is None else ("", _setting(beside))),
                "",
                "![How far each figure is from its bar](performance.svg)",
                "",
                f"{met} of {len(barred)} bars are met. A ratio beside `<=` is of times, one beside `>=` of",
                "throughputs; each is the median over the rounds of the ratio within a round, with the least",
                "and the largest of them behind it.",
                "",
                _table(barred, other, builds),
                "",
                "Works without a bar:",
                "",
                _table(others, other, builds, with_notes=True),
                "",
                notes,
            )
        ).rstrip("\n")
        + "\n"
    )


def _setting(results: dict[str, Any]) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(machine["versions"].items()))
    before, after = results["load_before"][0], results["load_after"][0]
    return (
        f"One run of {results['began'][:10]}: {results['rounds']} rounds on {machine['cores']} cores,"
        f" {machine['system']} {machine['kernel'].split('-')[0]}; load average {before:.1f} before and"
        f" {after:.1f} after. {versions}. Python is the build {machine['build']}, which takes"
        f" {machine['loop_ms']:.0f} ms for a loop of a million additions."
    )


def _versions(results: dict[str, Any], beside: dict[str, Any]) -> tuple[str, str]:
    """Return how the two builds are called in the table's head."""
    builds = [each["machine"]["build"] for each in (results, beside)]
    versions = [build.split()[0] for build in builds]
    return (versions[0], versions[1]) if versions[0] != versions[1] else (builds[0], builds[1])


def _table(
    chosen: list[Row],
    other: dict[tuple[str, str], Row],
    builds: tuple[str, str] | None,
    *,
    with_notes: bool = False,
) -> str:
    """Return the rows as a table; each with the figure of the same row in `other`, if there is one."""
    headings = (*HEADINGS[:5], "note") if with_notes else HEADINGS
    if builds is not None:
        headings = (*headings[:4], f"ratio, Python {builds[0]}", *headings[5:], f"Python {builds[1]}")
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    last = ""
    for row in chosen:
        cells = [_escaped(cell) for cell in row.cells()]
        work, cells[0] = cells[0], "" if cells[0] == last else cells[0]
        last = work
        if with_notes:
            cells[5:] = [_escaped(row.note)]
        elif row.number is not None:
            cells[4] += f" ({row.note})"
        if builds is not None:
            same = other.get((row.work, row.peer))
            cells.append("" if same is None else same.ratio or same.ours)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())

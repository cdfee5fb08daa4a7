"""Put the figures of one run into a page: `python -m benchmarks.report RESULTS.json... docs/`.

Several files are the parts of one run, each made with `--only`, on a machine that is not quiet for long.
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
    results = joined([json.loads(path.read_text()) for path in options.results])
    target = options.folder / "performance.md"
    before = target.read_text() if target.exists() else SKELETON
    target.write_text(page(before, results))
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


def page(before: str, results: dict[str, Any]) -> str:
    """Return the page with the figures between the marks replaced; raise ValueError without marks."""
    head, begin, rest = before.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page needs the two lines {BEGIN!r} and {END!r}")
    return f"{head}{BEGIN}\n\n{_figures(results)}\n{END}{tail}"


def _figures(results: dict[str, Any]) -> str:
    everything = rows(results)
    barred = [row for row in everything if row.passed is not None]
    others = [row for row in everything if row.passed is None]
    met = sum(1 for row in barred if row.passed)
    notes = "".join(f"- {text}\n" for text in [*results["notices"], peaks(results)])
    return (
        "\n".join(
            (
                _setting(results),
                "",
                "![How far each figure is from its bar](performance.svg)",
                "",
                f"{met} of {len(barred)} bars are met. A ratio beside `<=` is of times, one beside `>=` of",
                "throughputs; each is the median over the rounds of the ratio within a round, with the least",
                "and the largest of them behind it.",
                "",
                _table(barred),
                "",
                "Works without a bar:",
                "",
                _table(others, with_notes=True),
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
        f" {after:.1f} after. {versions}."
    )


def _table(chosen: list[Row], *, with_notes: bool = False) -> str:
    headings = (*HEADINGS[:5], "note") if with_notes else HEADINGS
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
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())

"""The results as rows: one for each peer of each work, and one for each figure that stands for itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["HEADINGS", "Row", "peaks", "rows", "text_table"]

HEADINGS = ("work", "Penstock", "against", "peer", "ratio", "bar", "pass")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table, as text; `ratio` also as a number, and `lower` if less is better."""

    work: str
    ours: str
    peer: str
    theirs: str
    ratio: str
    bar: str
    passed: bool | None
    number: float | None = None
    lower: bool = True
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        """The line's seven cells."""
        passed = "" if self.passed is None else "yes" if self.passed else "no"
        return self.work, self.ours, self.peer, self.theirs, self.ratio, self.bar, passed


def rows(results: dict[str, Any]) -> list[Row]:
    """Return every line of the table; those of a work that have a bar come first."""
    made: list[Row] = []
    for work in results["works"]:
        mine = [_compared(work, row) for row in work.get("rows", ())]
        mine += [_figure(work, figure) for figure in work["figures"]]
        made += sorted(mine, key=lambda row: row.passed is None)
    return made


def text_table(results: dict[str, Any]) -> str:
    """Return the table for a terminal."""
    lines = [HEADINGS, *(row.cells() for row in rows(results))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def peaks(results: dict[str, Any]) -> str:
    """Return the peak memory of the measuring processes, as a sentence."""
    sizes = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in results["peak_rss"].items() if size)
    return f"peak RSS of the processes that measured: {sizes}"


def _compared(work: dict[str, Any], row: dict[str, Any]) -> Row:
    ours, theirs = (_amount(work["median"][name], work["volume"]) for name in ("Penstock", row["peer"]))
    low, high = row["spread"]
    return Row(
        work["title"],
        ours,
        row["peer"],
        theirs,
        f"{row['ratio']:.2f}",
        row["bar"] or "",
        row["pass"],
        row["ratio"],
        lower=row["kind"] == "time",
        note=f"{low:.2f} to {high:.2f}",
    )


def _figure(work: dict[str, Any], figure: dict[str, Any]) -> Row:
    value = f"{figure['value']:.4g} {figure['unit']}".rstrip()
    return Row(
        work["title"],
        value,
        figure["label"],
        "",
        "",
        figure["bar"] or "",
        figure["pass"],
        note=figure["note"],
    )


def _amount(seconds: float, volume: int | None) -> str:
    """Return milliseconds, or the rate if bytes are moved."""
    if volume is None:
        return f"{seconds * 1000:.3g} ms"
    rate = volume / seconds
    return f"{rate / 1e9:.2f} GB/s" if rate >= 1e9 else f"{rate / 1e6:.0f} MB/s"

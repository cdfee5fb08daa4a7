"""A plain text table, for `str(result)` and `str(plan)`."""

from __future__ import annotations

from penstock.core.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["table"]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    r"""Return columns two blanks apart, those numbered in `right` flush right.

    Lines have no blanks at their ends, and the last one has no LF.

    >>> print(table(["stage", "exit"], [["sort", "0"], ["uniq", "141"]], frozenset({1})))
    stage  exit
    sort      0
    uniq    141
    """
    grid = [list(header), *([printable(cell.replace("\n", " ")) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in grid) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in grid
    )

"""Tables of text or HTML, in which results and plans are shown."""

from __future__ import annotations

from penstock.core.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["html", "html_table", "table"]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    r"""Return columns two blanks apart, those numbered in `right` flush right.

    Lines have no blanks at their ends, and the last one has no LF.

    >>> print(table(["stage", "exit"], [["sort", "0"], ["uniq", "141"]], frozenset({1})))
    stage  exit
    sort      0
    uniq    141
    """
    grid = [list(header), *([printable(cell.replace("\n", " "), keep="") for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in grid) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in grid
    )


def html(text: str) -> str:
    """Return the text for use in HTML, with backslash escapes for what cannot be printed."""
    shown = printable(text, keep="").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return shown.replace('"', "&quot;")


def html_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()
) -> str:
    """Return the same table as a `<table>` element."""

    def line(tag: str, cells: Sequence[str]) -> str:
        styles = ["right" if column in right else "left" for column in range(len(cells))]
        made = (
            f'<{tag} style="text-align: {style}">{html(cell)}</{tag}>'
            for style, cell in zip(styles, cells, strict=True)
        )
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<table><thead>{line('th', header)}</thead><tbody>{body}</tbody></table>"

"""Pieces of a page: escaped texts, tables, and figures with their units. Pure functions."""

from __future__ import annotations

import unicodedata

from penstock.core.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["block", "cut", "length", "number", "scrolling", "seconds", "table", "text"]


def text(value: str) -> str:
    r"""Return a text of one line for HTML, also for an attribute in double quotes.

    Control characters become backslash escapes, and placeholders of secrets `***`.

    >>> text('<a href="b">\n')
    '&lt;a href=&quot;b&quot;&gt;\\n'
    """
    return _escaped(printable(value, keep=""))


def block(value: str) -> str:
    """Return a text of several lines for HTML: LF and tabs stay."""
    return _escaped(printable(value))


def _escaped(value: str) -> str:
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#39;")):
        value = value.replace(character, entity)
    return value


def length(value: str) -> int:
    """Return the width of a text in columns; characters of East Asia take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in value)


def cut(value: str, columns: int) -> str:
    """Return a printable text of at most so many columns, with an ellipsis if it was longer.

    >>> cut("gunzip", 6), cut("gunzip -c", 6)
    ('gunzip', 'gunzi…')
    """
    shown = printable(value, keep="")
    if length(shown) <= columns:
        return shown
    while length(shown) >= columns:
        shown = shown[: min(len(shown) - 1, columns)]
    return shown + "…"


def number(value: float) -> str:
    """Return a number for a coordinate, as short as it can be.

    >>> number(3.0), number(3.14159)
    ('3', '3.1')
    """
    return f"{value:.1f}".removesuffix(".0")


def seconds(value: float) -> str:
    """Return a time for people.

    >>> seconds(0.0031), seconds(0.51), seconds(12.34), seconds(125.0), seconds(7500.0)
    ('3.1 ms', '510 ms', '12.3 s', '2 min 5 s', '2 h 5 min')
    """
    if value < 0.9995:
        return f"{value * 1e3:.{1 if value < 0.00995 else 0}f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def table(
    caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str] = frozenset()
) -> str:
    """Return a table of plain texts. The first cell of a row is its heading.

    The columns that are named in `right` are flush right. A column without any text is left out.
    """
    columns = [column for column in range(len(header)) if not column or any(row[column] for row in rows)]

    def cell(tag: str, column: int, value: str) -> str:
        flush = ' class="n"' if header[column] in right else ""
        return f"<{tag}{flush}>{text(value)}</{tag.split(maxsplit=1)[0]}>"

    head = "".join(cell('th scope="col"', column, header[column]) for column in columns)
    lines = []
    for row in rows:
        cells = "".join(cell("td", column, row[column]) for column in columns[1:])
        lines.append(f'<tr><th scope="row">{text(row[0])}</th>{cells}</tr>')
    body = "\n".join(lines)
    made = f"<caption>{text(caption)}</caption><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    return scrolling(caption, f"<table>{made}</table>")


def scrolling(label: str, content: str, kind: str = "") -> str:
    """Return the content in a box that scrolls if it is too wide, by the keyboard too."""
    return f'<div class="scroll {kind}" role="region" aria-label="{text(label)}" tabindex="0">{content}</div>'

"""Read a page of HTML as a browser does: its elements in order, each with its attributes and its text."""

from __future__ import annotations

from html.parser import HTMLParser

__all__ = ["Element", "elements_of"]

VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})
SVG_ALONE = frozenset({"path", "rect"})


class Element:
    """One element; `text` is that of its descendants too."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.text = ""

    def __repr__(self) -> str:
        return f"<{self.tag} {self.attributes}>"


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Element] = []
        self.open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute of {tag} is there twice"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.found.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG_ALONE, f"{tag} cannot be closed so in HTML"
        self.found.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        element = self.open.pop()
        assert element.tag == tag, f"</{tag}> closes {element}"

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data


def elements_of(page: str) -> list[Element]:
    """Return the elements of a page; fail unless each is closed where it must be."""
    parser = _Parser()
    parser.feed(page)
    parser.close()
    assert not parser.open, f"not closed: {parser.open}"
    return parser.found

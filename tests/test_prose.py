"""The prose is plain: an actor and an active verb, `if` and `when` for conditions, the usual term.

Regular expressions find the worst patterns in the documents, in the docstrings and comments of the package
and the benchmarks, and in the names of tests.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]

PATTERNS = {
    "name the actor: no sentence begins with What, Who or That": re.compile(
        r"(?:^|[.!?]\s+)(?:What|Who|Whom|Whose|Whoever|Whatever|That)\s(?![^.!?]*\?)"
    ),
    "name the owner: no double genitive": re.compile(
        r"\bof (?:ours|theirs|yours|his|its own's)\b"
        r"|\bof (?:the|a|an) \w+'s(?=$|[.,;:)]|\s(?:that|which|and|or|in|is|are|was|may|has|where|when|if)\b)"
    ),
    "write `not a X`, `no longer` or `there is no X`": re.compile(
        r"(?<!\bthere )\b(?:is|are|was|were|be) none\b|\bno longer there is\b"
        r"|(?<!\bthere )(?<!\bThere )\b(?:is|are|was|were) no (?!(?:longer|more|less|such)\b|\w+er\b)"
    ),
    "write `because`": re.compile(
        r", for (?:it|he|she|they|that|this|nobody|nothing|a|an|the)\s(?:(?!that\b|which\b|who\b)\w+\s){0,2}"
        r"(?:may|might|would|can|could|is|are|was|has|have|had|does)\b"
    ),
    "write `if` or `when`": re.compile(
        r"\b[Ww]here (?:it|there|that|this|nothing|nobody|they|he|no|one|none|both|neither)\s"
        r"(?!stands?\b|stopped\b|lies?\b|begins?\b|ends?\b)"
    ),
    "write `ensures` or `handles`": re.compile(
        r"\b(?:see|sees|saw|seen) to (?:it|that|this|them)\b|\b(?:is|are|was|were) seen to(?=[,.;:)])"
    ),
    "write `reports`, `notifies` or `sent`": re.compile(
        r"\b(?:tell|tells|told|telling) of\b"
        r"|\bwhat (?:it|they|he|she) (?:is|are|was|were) (?:given|told|asked)\b"
    ),
}


class Finding(NamedTuple):
    """A pattern that was found: the line of the text that holds it, the rule, and the words around it."""

    line: int
    rule: str
    words: str


def findings(text: str, line: int = 1) -> list[Finding]:
    """Return what is wrong with one piece of prose, which begins at `line` of its file."""
    joined = re.sub(r"`+[^`]*`+", "`X`", re.sub(r"\s+", " ", text)).strip()
    return [
        Finding(line, rule, joined[max(found.start() - 20, 0) : found.end() + 40])
        for rule, pattern in PATTERNS.items()
        for found in pattern.finditer(joined)
    ]


def document_pieces(text: str) -> Iterator[tuple[int, str]]:
    """Give the paragraphs, list items, headings and table cells of a Markdown document, without its code."""
    text = re.sub(
        r"<!-- figures:.*?<!-- end of figures -->|^```.*?^```$", _blank, text, flags=re.DOTALL | re.MULTILINE
    )
    piece: list[str] = []
    start = 1
    for number, content in enumerate([*text.splitlines(), ""], 1):
        begins = re.match(r"\s*(?:[-*]|\d+\.|#+|\|)\s", content) is not None
        if piece and (begins or not content.strip()):
            yield start, " ".join(piece)
            piece = []
        if content.lstrip().startswith("|"):
            yield from ((number, cell.strip()) for cell in content.split("|"))
        elif content.strip() and not content.startswith("    "):
            start = start if piece else number
            piece.append(re.sub(r"^\s*(?:[-*]|\d+\.|#+)\s+|\*\*|\]\([^)]*\)|\[", "", content))


def source_pieces(text: str) -> Iterator[tuple[int, str]]:
    """Give the docstrings of a Python file, a paragraph each, and its comments; a doctest is no prose."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str() as docstring)):
                line = node.lineno
                for paragraph in docstring.split("\n\n"):
                    if not paragraph.lstrip().startswith(">>>"):
                        yield from ((line, item) for item in re.split(r"\n\s*- ", paragraph))
                    line += paragraph.count("\n") + 2
    comment: list[str] = []
    start = column = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        if comment and token.start != (start + len(comment), column):
            yield start, " ".join(comment)
            comment = []
        if not comment:
            start, column = token.start
        comment.append(re.sub(r"^#+:?\s*(?:(?:noqa|type|pragma):? ?[^-]*- )?", "", token.string))
    yield start, " ".join(comment)


def name_pieces(text: str) -> Iterator[tuple[int, str]]:
    """Give the names of the tests in a Python file, as sentences."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.lineno, node.name.removeprefix("test_").replace("_", " ").capitalize()


def _blank(found: re.Match[str]) -> str:
    return "\n" * found.group().count("\n")


@cache
def everything() -> dict[str, list[Finding]]:
    """Return the findings of each file that has prose, by its path in the repository."""
    readers = [
        (document_pieces, [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]),
        (source_pieces, [*ROOT.glob("src/penstock/**/*.py"), *ROOT.glob("benchmarks/*.py")]),
        (name_pieces, ROOT.glob("tests/**/test_*.py")),
    ]
    return {
        path.relative_to(ROOT).as_posix(): sorted(
            found for line, piece in read(path.read_text(encoding="utf-8")) for found in findings(piece, line)
        )
        for read, paths in readers
        for path in paths
    }


def test_the_prose_is_plain() -> None:
    """No file has a finding."""
    found = [
        f"{path}:{each.line}: {each.rule}: ...{each.words}..."
        for path, all_of_it in everything().items()
        for each in all_of_it
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    "wrong",
    [
        "What is passed in stays open.",
        "It ends. Whoever waits is woken.",
        "That is the rule.",
        "a method of the caller's",
        "a stream of ours",
        "a finalizer of the caller's may run",
        "The word is none.",
        "It is no failure.",
        "There are two, for it may come at any moment.",
        "It fails where there is no cgroup.",
        "A fallback where nothing else works.",
        "The caller sees to that.",
        "An event tells of it.",
        "It passes on what it is given.",
    ],
)
def test_each_pattern_is_found(wrong: str) -> None:
    """A sentence of each kind has exactly one finding, wherever the lines break."""
    assert len(findings(wrong)) == 1
    assert len(findings(wrong.replace(" ", "\n    "))) == 1


@pytest.mark.parametrize(
    "right",
    [
        "What does it cost?",
        "The reader of the caller's stdin ends.",
        "There is no cgroup, and it is no longer needed.",
        "Wait for a command that may fail, for the test.",
        "The folder where it lies.",
        "A loop in a thread, for a stage that is served by one.",
        "It was seen to be empty.",
        "`What it is` is code, and so is `where it is`.",
    ],
)
def test_plain_sentences_are_left_alone(right: str) -> None:
    """Questions, places, plain genitives and code have no finding."""
    assert findings(right) == []


def test_prose_is_found_wherever_it_stands() -> None:
    """In docstrings, comments, names of tests, list items and table cells; not in code blocks or doctests."""
    source = (
        '"""Fine.\n\nWhat is here.\n"""\n'
        "x = 1  # noqa: A001 - it is none\n"
        "# An event\n# tells of it.\n"
        'def test_where_it_is():\n    """Do.\n\n    >>> print("That is code")\n    That is code\n    """\n'
    )
    document = (
        "# That is it\n\n- One,\n  where it\n  goes.\n\n```\nThat is\n```\n\n| a | of ours |\n|---|---|\n"
    )

    def lines(pieces: Iterator[tuple[int, str]]) -> list[int]:
        return sorted(found.line for line, piece in pieces for found in findings(piece, line))

    assert lines(source_pieces(source)) == [3, 5, 6]
    assert lines(name_pieces(source)) == [8]
    assert lines(document_pieces(document)) == [1, 3, 11]

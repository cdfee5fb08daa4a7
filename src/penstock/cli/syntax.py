"""The parts of a pipeline's text, each with its place in it, and the mistake that has a place too.

Out of scope: how a text becomes such parts (`lexer`, `parser`), and what they mean (`resolver`).
"""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

__all__ = [
    "Assignment",
    "Line",
    "Operator",
    "PipelineSyntaxError",
    "Redirection",
    "StageText",
    "Substitution",
    "Word",
]


class PipelineSyntaxError(Exception):
    """A mistake in the line.

    It lies between the offsets `start` and `end`; `hint` says what to write instead. `status` is the exit
    status of the program: 2, but 1 for a file that cannot be opened, as in a shell.
    """

    def __init__(
        self, message: str, start: int, end: int | None = None, *, hint: str | None = None, status: int = 2
    ) -> None:
        super().__init__(message)
        self.message = message
        self.start = start
        self.end = start + 1 if end is None else end
        self.hint = hint
        self.status = status

    def show(self, text: str) -> str:
        """Return the message, the row of `text` that has the mistake, and carets under the place."""
        row_start = text.rfind("\n", 0, self.start) + 1
        row_end = text.find("\n", self.start)
        row = text[row_start : len(text) if row_end < 0 else row_end]
        start, end = self.start - row_start, self.end - row_start
        pad = "".join("\t" if char == "\t" else " " * _columns(char) for char in row[:start])
        carets = "^" * max(1, sum(map(_columns, row[start:end])))
        lines = [self.message, f"  {''.join(map(_visible, row)).rstrip()}", f"  {pad}{carets}"]
        if self.hint is not None:
            lines.append(f"  {self.hint}")
        return "\n".join(lines)


class Word(NamedTuple):
    """A word without its quotes, and its place in the line.

    Its first `bare` characters are the same in the line: without quotes, continued lines or substitutions.
    If there are substitutions in it, `parts` are these and the texts between them, and `text` has each
    substitution as it is written.
    """

    text: str
    start: int
    end: int
    bare: int
    parts: tuple[str | Substitution, ...] = ()


class Operator(NamedTuple):
    """An operator; `kind` is one of `|`, `<`, `>`, `>>`, `2>`, `2>>`, `2>&1`, and `)` in a substitution."""

    kind: str
    start: int
    end: int


class Substitution(NamedTuple):
    """`<(...)` or `>(...)`: `kind` is `<` or `>`."""

    kind: str
    line: Line
    start: int
    end: int


class Assignment(NamedTuple):
    """`NAME=value` before a command: a variable for this command alone."""

    name: str
    value: str
    word: Word


class Redirection(NamedTuple):
    """A redirection; `kind` is `<`, `>`, `>>`, `2>`, `2>>` or `2>&1`, `target` the file (None for `2>&1`)."""

    kind: str
    target: Word | None
    start: int
    end: int

    @property
    def substitution(self) -> Substitution | None:
        """The substitution, if that is the target."""
        parts = () if self.target is None else self.target.parts
        return parts[0] if len(parts) == 1 and isinstance(parts[0], Substitution) else None


class StageText(NamedTuple):
    """One stage as it is written, with at least one word."""

    words: tuple[Word, ...]
    assignments: tuple[Assignment, ...] = ()
    redirections: tuple[Redirection, ...] = ()

    def redirection(self, *kinds: str) -> Redirection | None:
        """Return the redirection of one of these kinds, or None; `parse` has refused a second one."""
        return next((found for found in self.redirections if found.kind in kinds), None)


class Line(NamedTuple):
    """A whole pipeline of at least one stage. Only the first may have `<`.

    Only the last may have `>` or `>>`, unless `2>&1` stands before that: the next stage reads stderr alone.
    For the pipeline of a substitution, `within` is `<` or `>`, and `text` is still the whole text. The reader
    of `<(...)` counts as a next stage, and the writer of `>(...)` as an earlier one.
    """

    text: str
    stages: tuple[StageText, ...]
    within: str = ""


def _columns(char: str) -> int:
    """Return the number of terminal columns that a character takes."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _visible(char: str) -> str:
    """Return the character, or `?` if it would control the terminal or cannot be printed."""
    return char if char == "\t" or char.isprintable() or unicodedata.combining(char) else "?"

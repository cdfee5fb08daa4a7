"""The parser of the pipeline language: one line of text in, stages with their words and redirections out.

A pure function: `lexer` cuts the line into tokens, and this module checks their order. Each part keeps its
place in the line, so that a mistake found later (such as a name that cannot be imported) can be shown there.

Out of scope: looking up names, opening files, and the meaning of a stage beyond its words.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from penstock.cli.lexer import Operator, PipelineSyntaxError, Scanner, Word

__all__ = ["Assignment", "Line", "PipelineSyntaxError", "Redirection", "StageText", "Word", "parse"]

_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


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
    """

    text: str
    stages: tuple[StageText, ...]


def parse(text: str) -> Line:
    """Parse a pipeline; raise `PipelineSyntaxError` for invalid syntax.

    >>> line = parse("FOO=1 grep 'a b' < in | sort>out")
    >>> [[word.text for word in stage.words] for stage in line.stages]
    [['grep', 'a b'], ['sort']]
    >>> line.stages[0].assignments[0].name, line.stages[1].redirections[0].kind
    ('FOO', '>')
    >>> try:
    ...     parse("cat a; ls")
    ... except PipelineSyntaxError as mistake:
    ...     print(mistake.show("cat a; ls"))
    ';' is not understood here
      cat a; ls
           ^
      run the commands one by one, or quote it to pass it on unchanged
    """
    scanner = Scanner(text)
    drafts = [_Draft(0)]
    while (token := scanner.token()) is not None:
        if isinstance(token, Word):
            drafts[-1].words.append(token)
        elif token.kind == "|":
            if drafts[-1].empty:
                raise PipelineSyntaxError("there is no command before this '|'", token.start)
            drafts.append(_Draft(token.start))
        else:
            drafts[-1].redirections.append(_redirection(token, scanner))
    if drafts[-1].empty:
        if len(drafts) == 1:
            raise PipelineSyntaxError("the pipeline is empty", len(text))
        raise PipelineSyntaxError("there is no command after this '|'", drafts[-1].start)
    for draft in drafts:
        draft.check(first=draft is drafts[0], last=draft is drafts[-1])
    return Line(text, tuple(draft.finish() for draft in drafts))


def _redirection(operator: Operator, scanner: Scanner) -> Redirection:
    if operator.kind == "2>&1":
        return Redirection(operator.kind, None, operator.start, operator.end)
    target = scanner.token()
    if not isinstance(target, Word):
        raise PipelineSyntaxError(
            f"there is no file name after {operator.kind!r}", operator.start, operator.end
        )
    if target.text == "":
        raise PipelineSyntaxError(f"the file name after {operator.kind!r} is empty", target.start, target.end)
    return Redirection(operator.kind, target, operator.start, operator.end)


class _Draft:
    """A stage while it is parsed; `start` is the place of the `|` before it."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.words: list[Word] = []
        self.redirections: list[Redirection] = []

    @property
    def empty(self) -> bool:
        return not self.words and not self.redirections

    def check(self, *, first: bool, last: bool) -> None:
        """Refuse to redirect a stream that is joined to a neighbour, or that is redirected already."""
        seen: dict[str, Redirection] = {}
        for found in self.redirections:
            if found.kind == "<" and not first:
                message = (
                    "only the first stage can read a file: this one reads what the stage before it writes"
                )
                raise PipelineSyntaxError(message, found.start, found.end)
            aside = any(earlier.kind == "2>&1" for earlier in seen.values())
            if found.kind in (">", ">>") and not (last or aside):
                message = "only the last stage can write to a file: the next stage reads what this one writes"
                hint = "put '| tee FILE' in between to do both"
                raise PipelineSyntaxError(message, found.start, found.end, hint=hint)
            stream = {"<": "standard input", ">": "standard output"}.get(found.kind[0], "standard error")
            if stream in seen:
                raise PipelineSyntaxError(f"{stream} is redirected twice", found.start, found.end)
            seen[stream] = found
        output, errors = seen.get("standard output"), seen.get("standard error")
        if last and output and errors and errors.target is None and errors.start < output.start:
            hint = "in a shell, this order would not send standard error to the file"
            raise PipelineSyntaxError(
                "write '2>&1' after '> FILE', not before it", errors.start, errors.end, hint=hint
            )

    def finish(self) -> StageText:
        assignments = []
        for word in self.words:
            match = _ASSIGNMENT.match(word.text)
            if match is None or match.end() > word.bare:  # a quoted name or = makes it an ordinary word
                break
            assignments.append(Assignment(match[0][:-1], word.text[match.end() :], word))
        words = self.words[len(assignments) :]
        if not words:
            spot = assignments[-1].word if assignments else self.redirections[0]
            hint = "put one after it, or use --env for the whole pipeline" if assignments else None
            raise PipelineSyntaxError("there is no command here", spot.start, spot.end, hint=hint)
        return StageText(tuple(words), tuple(assignments), tuple(self.redirections))

"""The parser of the pipeline language: one line of text in, stages with their words and redirections out.

A pure function: `lexer` cuts the line into tokens, and this module checks their order. Each part keeps its
place in the line, so that a mistake found later (such as a name that cannot be imported) can be shown there.

A substitution is a pipeline of its own, parsed when the scanner meets it.

Out of scope: looking up names, opening files, and the meaning of a stage beyond its words.
"""

from __future__ import annotations

import re
from typing import Final

from penstock.cli.lexer import Scanner
from penstock.cli.syntax import (
    Assignment,
    Line,
    Operator,
    PipelineSyntaxError,
    Redirection,
    StageText,
    Substitution,
    Word,
)

__all__ = ["parse"]

_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_PARENTHESIS: Final = re.compile(r"[ \t\r\n]*\(")


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
    return _read_line(Scanner(text, _read_line), None)


def _read_line(scanner: Scanner, opening: Operator | None) -> Line:
    """Take the tokens of a pipeline, up to the end; after the opening of a substitution, up to its `)`."""
    drafts = [_Draft(0)]
    while (token := scanner.token()) is not None:
        if isinstance(token, Word):
            drafts[-1].words.append(token)
        elif token.kind == ")":
            break
        elif token.kind == "|":
            if drafts[-1].empty:
                raise PipelineSyntaxError("there is no command before this '|'", token.start)
            drafts.append(_Draft(token.start))
        else:
            drafts[-1].redirections.append(_redirection(token, scanner))
    if opening is not None and token is None:
        raise PipelineSyntaxError(f"this {opening.kind!r} is never closed", opening.start, opening.end)
    if drafts[-1].empty:
        raise _nothing_there(scanner, opening, drafts)
    within = "" if opening is None else opening.kind[0]
    for draft in drafts:
        draft.check(first=draft is drafts[0], last=draft is drafts[-1], within=within)
    return Line(scanner.text, tuple(draft.finish() for draft in drafts), within)


def _nothing_there(scanner: Scanner, opening: Operator | None, drafts: list[_Draft]) -> PipelineSyntaxError:
    """Return the mistake for a last stage without any word."""
    if len(drafts) > 1:
        return PipelineSyntaxError("there is no command after this '|'", drafts[-1].start)
    if opening is None:
        return PipelineSyntaxError("the pipeline is empty", len(scanner.text))
    return PipelineSyntaxError(f"there is no command in '{opening.kind})'", opening.start, scanner.at)


def _redirection(operator: Operator, scanner: Scanner) -> Redirection:
    if operator.kind == "2>&1":
        return Redirection(operator.kind, None, operator.start, operator.end)
    parenthesis = _PARENTHESIS.match(scanner.text, operator.end)
    if parenthesis is not None:
        place = operator.start, parenthesis.end()
        hint = f"write '{operator.kind[-1]}(...)' for a substitution, without a blank"
        raise PipelineSyntaxError(
            f"{scanner.text[slice(*place)]!r} is not understood here", *place, hint=hint
        )
    target = scanner.token()
    if not isinstance(target, Word):
        raise PipelineSyntaxError(
            f"there is no file name after {operator.kind!r}", operator.start, operator.end
        )
    if target.text == "":
        raise PipelineSyntaxError(f"the file name after {operator.kind!r} is empty", target.start, target.end)
    found = Redirection(operator.kind, target, operator.start, operator.end)
    if target.parts:
        _check_substituted(found, target)
    return found


def _check_substituted(redirection: Redirection, target: Word) -> None:
    """Refuse a substitution as the target, unless it is alone and of the same direction."""
    substitution = redirection.substitution
    wanted = redirection.kind[-1]
    if substitution is None:
        message, hint = "a file name cannot contain a substitution", None
    elif substitution.kind != wanted:
        message = f"{redirection.kind!r} cannot be followed by '{substitution.kind}(...)'"
        hint = f"write '{redirection.kind} {wanted}(...)'"
    elif redirection.kind.startswith("2"):
        message = "standard error alone cannot go to '>(...)'"
        hint = "write '2>&1 > FILE | ...' to send it alone to the next stage"
    else:
        return
    raise PipelineSyntaxError(message, target.start, target.end, hint=hint)


class _Draft:
    """A stage while it is parsed; `start` is the place of the `|` before it."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.words: list[Word] = []
        self.redirections: list[Redirection] = []

    @property
    def empty(self) -> bool:
        return not self.words and not self.redirections

    def check(self, *, first: bool, last: bool, within: str) -> None:
        """Refuse to redirect a stream that is joined to a neighbour, or that is redirected already."""
        seen: dict[str, Redirection] = {}
        is_read = not last or within == "<"
        for found in self.redirections:
            if found.kind == "<" and not first:
                message = (
                    "only the first stage can read a file: this one reads what the stage before it writes"
                )
                raise PipelineSyntaxError(message, found.start, found.end)
            if found.kind == "<" and within == ">":
                message = "this stage cannot read a file: it reads what is written to '>(...)'"
                raise PipelineSyntaxError(message, found.start, found.end)
            aside = any(earlier.kind == "2>&1" for earlier in seen.values())
            if found.kind in (">", ">>") and is_read:
                self._check_output(found, last=last, aside=aside)
            stream = {"<": "standard input", ">": "standard output"}.get(found.kind[0], "standard error")
            if stream in seen:
                raise PipelineSyntaxError(f"{stream} is redirected twice", found.start, found.end)
            seen[stream] = found
        output, errors = seen.get("standard output"), seen.get("standard error")
        if not is_read and output and errors and errors.target is None and errors.start < output.start:
            hint = "in a shell, this order would not send standard error to the file"
            raise PipelineSyntaxError(
                "write '2>&1' after '> FILE', not before it", errors.start, errors.end, hint=hint
            )

    def _check_output(self, found: Redirection, *, last: bool, aside: bool) -> None:
        """Refuse to redirect an output that something reads; with `aside` that reads the stderr alone."""
        if not aside and last:
            message = "this stage cannot write to a file: what it writes is read from '<(...)'"
            hint = "put '| tee FILE' after it to do both"
            raise PipelineSyntaxError(message, found.start, found.end, hint=hint)
        if not aside:
            message = "only the last stage can write to a file: the next stage reads what this one writes"
            hint = "put '| tee FILE' in between to do both"
            raise PipelineSyntaxError(message, found.start, found.end, hint=hint)
        if (substitution := found.substitution) is not None:
            message = "only a file can take the output of a stage whose standard error alone goes on"
            raise PipelineSyntaxError(message, substitution.start, substitution.end)

    def finish(self) -> StageText:
        assignments = []
        for word in self.words:
            match = _ASSIGNMENT.match(word.text)
            if match is None or match.end() > word.bare:  # a quoted name or = makes it an ordinary word
                break
            _refuse_substitution(word, "a variable")
            assignments.append(Assignment(match[0][:-1], word.text[match.end() :], word))
        words = self.words[len(assignments) :]
        if not words:
            spot = assignments[-1].word if assignments else self.redirections[0]
            hint = "put one after it, or use --env for the whole pipeline" if assignments else None
            raise PipelineSyntaxError("there is no command here", spot.start, spot.end, hint=hint)
        _refuse_substitution(words[0], "the name of a program")
        return StageText(tuple(words), tuple(assignments), tuple(self.redirections))


def _refuse_substitution(word: Word, what: str) -> None:
    for part in word.parts:
        if isinstance(part, Substitution):
            message = f"{what} cannot contain '{part.kind}(...)'"
            hint = "only arguments and redirections can"
            raise PipelineSyntaxError(message, part.start, part.end, hint=hint)

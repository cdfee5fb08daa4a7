"""The lexer of the pipeline language: text in, words and operators with their places out.

Words, quotes and comments are those of bash (POSIX.1-2017, XCU 2.2, and `$'...'`). `shlex` cannot be used: it
reports neither the places nor which characters were quoted, and it keeps backslashes that a shell takes away.

Syntax that only a shell could carry out (`;`, `&&`, `$(...)` and the like) is refused, so that it never
reaches a program as if a shell had handled it. `$NAME`, `*`, `?` and `~` are ordinary characters.

A substitution, `<(...)` or `>(...)`, is a part of a word. The parser reads its content from the same scanner.

Out of scope: the order of words and operators (`parser`).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from penstock.cli.syntax import Operator, PipelineSyntaxError, Substitution, Word

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.cli.syntax import Line

__all__ = ["Scanner"]

_BLANKS: Final = " \t\r\n"
_ESCAPED_IN_DOUBLE_QUOTES: Final = '$`"\\'

_QUOTE_IT: Final = "quote it to pass it on unchanged"
_NO_SHELL: Final = f"no shell is started; {_QUOTE_IT}"
_AT_HAND: Final = "supported redirections: '< FILE', '> FILE', '>> FILE', '2> FILE', '2>> FILE' and '2>&1'"

# Operators of a shell that are refused, and what to write instead. The longest operator that matches is
# taken.
_REFUSED: Final = {
    ";": f"run the commands one by one, or {_QUOTE_IT}",
    ";;": _NO_SHELL,
    "&": f"penstock waits for its commands: put penstock itself into the background, or {_QUOTE_IT}",
    "&&": f"run the commands one by one, or {_QUOTE_IT}",
    "||": f"look at the exit status instead, or {_QUOTE_IT}",
    "|&": "write '2>&1 |' to send standard error along",
    "&>": "write '> FILE 2>&1' for both",
    "&>>": "write '>> FILE 2>&1' for both",
    ">&": _AT_HAND,
    "<&": _AT_HAND,
    ">|": "write '>': files are always overwritten",
    "<>": "write '<' to read or '>' to write",
    "<<": "here-documents are not supported: write '< FILE', or use penstock's own standard input",
    "<<<": "here-strings are not supported: begin with 'echo TEXT |'",
    "(": _NO_SHELL,
    ")": _NO_SHELL,
    "$(": _NO_SHELL,
    "`": _NO_SHELL,
}
_SUBSTITUTIONS: Final = ("<(", ">(")
_OPERATORS: Final = tuple(sorted({"|", "<", ">", ">>", *_SUBSTITUTIONS, *_REFUSED}, key=len, reverse=True))
_DEEPEST: Final = 20
"""Substitutions within each other."""

# (number before the operator, operator): the kind of the token.
_KINDS: Final = {
    ("", "|"): "|",
    ("", "<"): "<",
    ("0", "<"): "<",
    ("", ">"): ">",
    ("1", ">"): ">",
    ("", ">>"): ">>",
    ("1", ">>"): ">>",
    ("2", ">"): "2>",
    ("2", ">>"): "2>>",
    ("2", ">&"): "2>&1",
}
_ONTO_STDOUT: Final = re.compile(r"1(?![^\s|<>;&()])")  # the 1 of 2>&1, as a whole word


class Scanner:
    """Cut the text into words and operators, from left to right.

    `read_inner(scanner, operator)` is called behind the `<(` or `>(` of a substitution. It takes the tokens
    up to the `)`, which is one too there.

    >>> scanner = Scanner('''grep "a|b"|cat>out''', lambda scanner, operator: ...)
    >>> [scanner.token() for _ in range(3)]  # doctest: +NORMALIZE_WHITESPACE
    [Word(text='grep', start=0, end=4, bare=4, parts=()), Word(text='a|b', start=5, end=10, bare=0, parts=()),
     Operator(kind='|', start=10, end=11)]
    """

    def __init__(self, text: str, read_inner: Callable[[Scanner, Operator], Line]) -> None:
        self.text = text
        self.at = 0
        self._read_inner = read_inner
        self._depth = 0

    def token(self) -> Word | Operator | None:
        """Take and return the next word or operator, or None at the end. Raises `PipelineSyntaxError`."""
        text = self.text
        while self.at < len(text):
            if text[self.at] in _BLANKS:
                self.at += 1
            elif text.startswith("\\\n", self.at):
                self.at += 2
            elif text[self.at] == "#":  # a comment, up to the end of the line
                end = text.find("\n", self.at)
                self.at = len(text) if end < 0 else end
            else:
                break
        if self.at == len(text):
            return None
        operator = self._operator_here()
        if operator is None or operator in _SUBSTITUTIONS:
            return self._word()
        return self._operator("", self.at, operator)

    def _operator_here(self) -> str | None:
        return next((operator for operator in _OPERATORS if self.text.startswith(operator, self.at)), None)

    def _operator(self, number: str, start: int, operator: str) -> Operator:
        """Take the operator at the current place; `number` stands right before it, from `start` on."""
        end = self.at + len(operator)
        kind = ")" if operator == ")" and self._depth else _KINDS.get((number, operator))
        if kind == "2>&1":
            match = _ONTO_STDOUT.match(self.text, end)
            kind, end = (kind, match.end()) if match is not None else (None, end)
        if kind is None:
            hint = _AT_HAND if number else _REFUSED[operator]
            raise PipelineSyntaxError(
                f"{self.text[start:end]!r} is not understood here", start, end, hint=hint
            )
        self.at = end
        return Operator(kind, start, end)

    def _word(self) -> Word | Operator:
        """Take a word, or a redirection if the word is the number before one."""
        text, start = self.text, self.at
        pieces: list[str] = []
        parts: list[str | Substitution] = []
        done = 0  # pieces that are in `parts`
        bare, quoted, continued = 0, False, False
        while self.at < len(text) and (char := text[self.at]) not in _BLANKS:
            if text.startswith("\\\n", self.at):
                self.at += 2
                continued = True
            elif char in "\\'\"":
                pieces.append(self._escaped() if char == "\\" else self._quoted(char))
                quoted = True
            elif text.startswith("$'", self.at):
                pieces.append(self._ansi_c())
                quoted = True
            elif (operator := self._operator_here()) in _SUBSTITUTIONS:
                substitution = self._substitution(operator)
                parts += ["".join(pieces[done:]), substitution]
                pieces.append(text[substitution.start : substitution.end])
                done = len(pieces)
                quoted = True
            elif operator is not None:
                number = "".join(pieces)
                if char in "<>" and not quoted and re.fullmatch("[0-9]+", number):
                    return self._operator(number, start, operator)
                break
            else:
                pieces.append(char)
                bare += not (quoted or continued)
                self.at += 1
        if parts:
            parts.append("".join(pieces[done:]))
        return Word("".join(pieces), start, self.at, bare, tuple(part for part in parts if part != ""))

    def _substitution(self, operator: str) -> Substitution:
        """Take a substitution, which begins with this operator."""
        start = self.at
        opening = Operator(operator, start, start + len(operator))
        if self._depth == _DEEPEST:
            message = f"substitutions can be nested {_DEEPEST} deep at most"
            raise PipelineSyntaxError(message, opening.start, opening.end)
        self.at = opening.end
        self._depth += 1
        line = self._read_inner(self, opening)
        self._depth -= 1
        return Substitution(operator[0], line, start, self.at)

    def _escaped(self) -> str:
        if self.at + 1 == len(self.text):
            raise PipelineSyntaxError("nothing follows this backslash", self.at)
        self.at += 2
        return self.text[self.at - 1]

    def _quoted(self, quote: str) -> str:
        """Take a quoted part; in double quotes a backslash counts before a few characters only."""
        start = self.at
        pieces: list[str] = []
        self.at += 1
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            if char == quote:
                return "".join(pieces)
            if char == "\\" and quote == '"':
                after = self.text[self.at : self.at + 1]
                if after == "\n":  # the line goes on
                    self.at += 1
                    continue
                if after and after in _ESCAPED_IN_DOUBLE_QUOTES:
                    char = after
                    self.at += 1
            pieces.append(char)
        raise PipelineSyntaxError("this quote is never closed", start)

    def _ansi_c(self) -> str:
        """Take a part in `$'...'`."""
        start, self.at = self.at, self.at + 2
        match = _ANSI_C.match(self.text, self.at)
        if match is None:
            raise PipelineSyntaxError("this quote is never closed", start)
        self.at = match.end()
        # As bytes, because an escape may be one byte of a character.
        text = _ANSI_C_ESCAPE.sub(_unescaped, os.fsencode(match[1]))
        if b"\0" in text:
            raise PipelineSyntaxError("no argument can contain a NUL byte", start, self.at)
        return os.fsdecode(text)


_ANSI_C: Final = re.compile(r"((?:[^'\\]|\\.)*)'", re.DOTALL)
"""The content of `$'...'`, up to its end."""
_ANSI_C_ESCAPE: Final = re.compile(
    rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8})|c(.)|(.))", re.DOTALL
)
_ANSI_C_CHARACTERS: Final = {
    **dict(zip(b"abeEfnrtv", b"\a\b\x1b\x1b\f\n\r\t\v", strict=True)),
    **{char: char for char in b"\\'\"?"},
}


def _unescaped(match: re.Match[bytes]) -> bytes:
    octal, hexadecimal, short, long, control, other = match.groups()
    if octal is not None:
        return bytes([int(octal, 8) & 0xFF])
    if hexadecimal is not None:
        return bytes([int(hexadecimal, 16)])
    if short is not None or long is not None:
        try:
            return os.fsencode(chr(int(short or long, 16)))
        except (ValueError, OverflowError):  # there is no such character, or the locale cannot encode it
            return match[0]
    if control is not None:
        return bytes([ord(control) & 0x1F])
    found = _ANSI_C_CHARACTERS.get(ord(other))
    return match[0] if found is None else bytes([found])

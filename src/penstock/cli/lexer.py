"""The lexer of the pipeline language: text in, words and operators with their places out.

Words, quotes and comments are those of bash (POSIX.1-2017, XCU 2.2, and `$'...'`). `shlex` cannot be used: it
reports neither the places nor which characters were quoted, and it keeps backslashes that a shell takes away.

Syntax that only a shell could carry out (`;`, `&&`, `$(...)` and the like) is refused, so that it never
reaches a program as if a shell had handled it. `$NAME`, `*`, `?` and `~` are ordinary characters.

Out of scope: the order of words and operators (`parser`).
"""

from __future__ import annotations

import os
import re
import unicodedata
from typing import Final, NamedTuple

__all__ = ["Operator", "PipelineSyntaxError", "Scanner", "Word"]

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
    "<(": "process substitution is not supported",
    ">(": "process substitution is not supported",
    "(": _NO_SHELL,
    ")": _NO_SHELL,
    "$(": _NO_SHELL,
    "`": _NO_SHELL,
}
_OPERATORS: Final = tuple(sorted({"|", "<", ">", ">>", *_REFUSED}, key=len, reverse=True))

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

    Its first `bare` characters are the same in the line: without quotes or continued lines.
    """

    text: str
    start: int
    end: int
    bare: int


class Operator(NamedTuple):
    """An operator; `kind` is one of `|`, `<`, `>`, `>>`, `2>`, `2>>` and `2>&1`."""

    kind: str
    start: int
    end: int


class Scanner:
    """Cut the text into words and operators, from left to right.

    >>> scanner = Scanner('''grep "a|b"|cat>out''')
    >>> [scanner.token() for _ in range(3)]  # doctest: +NORMALIZE_WHITESPACE
    [Word(text='grep', start=0, end=4, bare=4), Word(text='a|b', start=5, end=10, bare=0),
     Operator(kind='|', start=10, end=11)]
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

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
        return self._word() if operator is None else self._operator("", self.at, operator)

    def _operator_here(self) -> str | None:
        return next((operator for operator in _OPERATORS if self.text.startswith(operator, self.at)), None)

    def _operator(self, number: str, start: int, operator: str) -> Operator:
        """Take the operator at the current place; `number` stands right before it, from `start` on."""
        end = self.at + len(operator)
        kind = _KINDS.get((number, operator))
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
            elif (operator := self._operator_here()) is not None:
                number = "".join(pieces)
                if char in "<>" and not quoted and re.fullmatch("[0-9]+", number):
                    return self._operator(number, start, operator)
                break
            else:
                pieces.append(char)
                bare += not (quoted or continued)
                self.at += 1
        return Word("".join(pieces), start, self.at, bare)

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


def _columns(char: str) -> int:
    """Return the number of terminal columns that a character takes."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _visible(char: str) -> str:
    """Return the character, or `?` if it would control the terminal or cannot be printed."""
    return char if char == "\t" or char.isprintable() or unicodedata.combining(char) else "?"

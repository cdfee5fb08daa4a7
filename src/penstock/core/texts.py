r"""Foreign text as part of a sentence: one line, without anything that moves the cursor.

The output of a program, or its name, may hold escape sequences, which would change the terminal that shows
our message, and line feeds, after which the rest would look like a message of our own.

Out of scope: what a text is for.
"""

from __future__ import annotations

from penstock.core.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["last_line", "shell_word"]

_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_^")
"""Characters that a shell takes as they are in any place of a word."""
_RESERVED: Final = " case coproc do done elif else esac fi for function if in select then time until while "
"""Words that begin something else than a command."""
_MAX_LINE: Final = 120
"""Characters of a program's last line that an error shows."""


def last_line(data: bytes) -> str:
    r"""Return the last line that is not blank, escaped and at most 120 characters long; "" if there is none.

    Bytes that are not UTF-8 are escaped too. "..." stands for the end of a longer line.

    >>> last_line(b"warning: x\r\nerror:\xff y\r\n\n")
    'error:\\xff y'
    """
    end = len(data)
    while end > 0:
        begin = data.rfind(b"\n", 0, end) + 1
        line = data[begin:end].strip()
        if line:
            # An escape is at least as long as what it stands for, and a character is at most four bytes.
            text = printable(line[: 4 * _MAX_LINE + 4].decode("utf-8", "backslashreplace"), keep="")
            return text if len(text) <= _MAX_LINE else f"{text[: _MAX_LINE - 3]}..."
        end = begin - 1
    return ""


def shell_word(text: str, *, program: bool = False) -> str:
    r"""Return the text as one word of a line for bash; `program` is whether it is the first one.

    Bytes that are not UTF-8, as surrogates, are escaped, and so is all that cannot be printed.

    >>> print(shell_word("plain"), shell_word("it's"), shell_word("a\tb\udcff"))
    plain 'it'\''s' $'a\tb\xff'
    """
    if program and ("=" in text or f" {text} " in _RESERVED):
        plain = False
    else:
        plain = bool(text) and _PLAIN.issuperset(text)
    if plain:
        return text
    if text.isprintable():
        quoted = text.replace("'", r"'\''")
        return f"'{quoted}'"
    return f"$'{''.join(map(_escaped_for_shell, text))}'"


def _escaped_for_shell(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    if char.isprintable():
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte, by the error handler "surrogateescape"
        return f"\\x{code - 0xDC00:02x}"
    if 0x80 <= code < 0x100:  # bash takes \x for a byte
        return f"\\u{code:04x}"
    return char.encode("unicode_escape").decode("ascii")

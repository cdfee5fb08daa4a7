r"""Foreign text as part of a sentence: one line, without anything that moves the cursor.

The output of a program, or its name, may hold escape sequences, which would change the terminal that shows
our message, and line feeds, after which the rest would look like a message of our own.

Out of scope: what a text is for.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["escaped", "last_line"]

_MAX_LINE: Final = 120
"""Characters of a program's last line that an error shows."""


def escaped(text: str) -> str:
    r"""Return the text with backslash escapes for all characters that cannot be printed.

    >>> print(escaped("caf\u00e9\x1b[31m\tred\n"))
    café\x1b[31m\tred\n
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


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
            text = escaped(line[: 4 * _MAX_LINE + 4].decode("utf-8", "backslashreplace"))
            return text if len(text) <= _MAX_LINE else f"{text[: _MAX_LINE - 3]}..."
        end = begin - 1
    return ""

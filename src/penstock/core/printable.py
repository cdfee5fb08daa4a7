r"""Text for a terminal: control characters and escape sequences are shown, not obeyed.

Names of stages and files, messages of exceptions and the end of a command's stderr come from anywhere. A
terminal obeys what is in them: it moves the cursor, sets its title, hides text. The placeholders of secrets
are shown as `***`.
"""

from __future__ import annotations

from penstock.core.placeholders import masked

__all__ = ["printable"]


def printable(text: str, *, keep: str = "\n\t") -> str:
    r"""Return the text with everything escaped that is not printable, but for the characters in `keep`.

    >>> printable("a\x1b[31mb\r\n")
    'a\\x1b[31mb\\r\n'
    """
    text = masked(text)
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() or char in keep else _escaped(char) for char in text])


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")

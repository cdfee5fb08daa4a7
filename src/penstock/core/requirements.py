"""The streams that a stage needs, as values."""

from __future__ import annotations

import enum

from penstock.core.public import exported, half_made_too

__all__ = ["Requirements", "Stream"]


@exported
class Stream(enum.Enum):
    """The kind of stream that a stage needs as its stdin or stdout."""

    ANY = "any"
    """A file descriptor or an in-memory stream; two Python neighbours exchange chunks in memory."""
    PREFER_FILE = "prefer-file"
    """A file descriptor, so the edge is an OS pipe."""
    FORBIDDEN = "forbidden"
    """No such stream: the stage must be first (stdin) or last (stdout), and its end not connected."""


@exported
class Requirements:
    """The streams that a stage needs, a `Stream` for each; both default to `Stream.ANY`.

    Raises TypeError for any other value. Two requirements with the same values are equal.

    >>> Requirements(stdin=Stream.FORBIDDEN) == Requirements(Stream.FORBIDDEN, Stream.ANY)
    True
    """

    __slots__ = ("stdin", "stdout")

    def __init__(self, stdin: Stream = Stream.ANY, stdout: Stream = Stream.ANY) -> None:
        for option, value in (("stdin", stdin), ("stdout", stdout)):
            if not isinstance(value, Stream):
                raise TypeError(f"{option} must be a Stream, not {value!r}")
        self.stdin = stdin
        self.stdout = stdout

    @half_made_too
    def __repr__(self) -> str:
        return f"Requirements(stdin={self.stdin}, stdout={self.stdout})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Requirements) and (self.stdin, self.stdout) == (other.stdin, other.stdout)

    def __hash__(self) -> int:
        return hash((self.stdin, self.stdout))

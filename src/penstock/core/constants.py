"""The special values of the stdin, stdout and stderr options, and `closing`."""

from __future__ import annotations

import enum

__all__ = ["CAPTURE", "DEVNULL", "INHERIT", "PIPE", "STDOUT", "Special", "closing"]


class Special(enum.IntEnum):
    """Where a stream comes from or goes to, when that is no object of the caller's.

    The first three have subprocess's own numbers, so that either library's names mean the same here.
    """

    PIPE = -1
    STDOUT = -2
    DEVNULL = -3
    CAPTURE = -4
    INHERIT = -5

    def __repr__(self) -> str:
        return self.name

    __str__ = __repr__


PIPE = Special.PIPE
STDOUT = Special.STDOUT
DEVNULL = Special.DEVNULL
CAPTURE = Special.CAPTURE
INHERIT = Special.INHERIT


class closing:  # noqa: N801 - reads as a verb where it is used, like contextlib's
    """Hand a file object, socket or descriptor over.

    It is closed when the run has ended, also where it failed.

    Without it, what the caller passes in stays the caller's and is never closed.
    """

    __slots__ = ("thing",)

    def __init__(self, thing: object) -> None:
        closes = any(callable(getattr(thing, method, None)) for method in ("close", "aclose"))
        if not isinstance(thing, int) and not closes:
            raise TypeError(f"closing() takes a descriptor or an object with close(), not {thing!r}")
        self.thing = thing

    def __repr__(self) -> str:
        return f"closing({self.thing!r})"

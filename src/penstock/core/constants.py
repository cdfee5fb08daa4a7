"""The special values of the stdin, stdout and stderr options, and `closing`."""

from __future__ import annotations

import enum

from penstock.core.public import exported

__all__ = ["CAPTURE", "DEVNULL", "INHERIT", "NEXT", "PIPE", "STDOUT", "TEE", "Special", "closing"]


@exported
class Special(enum.IntEnum):
    """A stream's source or destination other than an object that the caller passes in.

    The first three have the same numbers as in subprocess, so that its names mean the same here.
    """

    PIPE = -1
    STDOUT = -2
    DEVNULL = -3
    CAPTURE = -4
    INHERIT = -5
    TEE = -6
    NEXT = -7

    def __repr__(self) -> str:
        return self.name

    __str__ = __repr__


PIPE = Special.PIPE
STDOUT = Special.STDOUT
DEVNULL = Special.DEVNULL
CAPTURE = Special.CAPTURE
INHERIT = Special.INHERIT
TEE = Special.TEE
NEXT = Special.NEXT


@exported
class closing:  # noqa: N801 - reads as a verb in a call, like contextlib's
    """Hand a file object, socket or file descriptor over to the run, which closes it when it has ended.

    The run closes it whether it succeeds or fails. Penstock never closes objects that are passed in without
    `closing`. Takes an object with `close()` or `aclose()`, or an int; raises TypeError for anything else.

    >>> import io
    >>> from penstock import command
    >>> data = io.BytesIO(b"abc")
    >>> command("cat").output(stdin=closing(data)), data.closed
    (b'abc', True)
    """

    __slots__ = ("thing",)

    def __init__(self, thing: object) -> None:
        closes = any(callable(getattr(thing, method, None)) for method in ("close", "aclose"))
        if not isinstance(thing, int) and not closes:
            raise TypeError(f"closing() takes a descriptor or an object with close(), not {thing!r}")
        self.thing = thing

    def __repr__(self) -> str:
        return f"closing({self.thing!r})"

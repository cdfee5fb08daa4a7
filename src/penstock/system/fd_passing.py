"""A socket between two processes of ours, through which descriptors can be handed over (unix(7), SCM_RIGHTS).

The socket's number belongs to an `Fd`, so that a forked copy of the host closes it; the `socket` objects here
exist for the length of one call and never own it. Nothing here blocks. What may not live here: what the bytes
mean.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from typing import TYPE_CHECKING

from penstock.system.fds import Fd, duplicate, is_open, null
from penstock.system.fork_guard import fork_guard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_FDS = 8
"""Descriptors that one message may carry."""

_CLOEXEC: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # macOS has none; there the flag is set a moment later


def socket_pair() -> tuple[Fd, Fd]:
    """Return two ends of a stream, close-on-exec and above 2."""
    with fork_guard:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ends = Fd(left.detach()), Fd(right.detach())
    if min(end.fileno() for end in ends) > 2:
        return ends
    try:  # in a host that runs with 0, 1 or 2 closed
        return duplicate(ends[0].fileno()), duplicate(ends[1].fileno())
    finally:
        for end in ends:
            end.close()


@contextlib.contextmanager
def standard_outputs() -> Iterator[tuple[int, int]]:
    """The numbers of this process's stdout and stderr, /dev/null in the place of one that is closed."""
    nowhere = null(writable=True)
    try:
        numbers = [number if is_open(number) else nowhere.fileno() for number in (1, 2)]
        yield numbers[0], numbers[1]
    finally:
        nowhere.close()


def send_fds(number: int, data: memoryview, rights: Sequence[int] = ()) -> int:
    """Send the first part of `data`, with `rights`; how many bytes that was. BlockingIOError where none."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", rights))] if rights else []
    lent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=number)
    try:
        return lent.sendmsg([data], ancillary, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    finally:
        lent.detach()


def recv_fds(number: int, size: int) -> tuple[bytes, list[Fd]]:
    """Receive what is there, at most `size` bytes, and the descriptors that came with it.

    `b""` at the end of the stream; BlockingIOError where there is nothing yet. Fewer descriptors than were
    sent arrive where this process may have no more.
    """
    numbers = array.array("i")
    lent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=number)
    try:
        with fork_guard:  # a forked copy must know the descriptors that it would inherit
            data, ancillary, _, _ = lent.recvmsg(
                size, socket.CMSG_SPACE(MAX_FDS * numbers.itemsize), socket.MSG_DONTWAIT | _CLOEXEC
            )
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
            for each in numbers:
                os.set_inheritable(each, False)  # noqa: FBT003 - its only parameter
            return data, [Fd(each) for each in numbers]
    finally:
        lent.detach()

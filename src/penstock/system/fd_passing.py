"""Pass file descriptors through a socket between two of our processes (unix(7), SCM_RIGHTS).

An `Fd` owns the socket, so that a forked copy of the host closes it. The `socket` objects here exist for one
call and never own it. Nothing here blocks. Out of scope: the meaning of the bytes.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket

from penstock.system.fds import Fd, duplicate, is_open, null
from penstock.system.fork_guard import fork_guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_FDS = 8
"""Descriptors that one message may carry."""

_CLOEXEC: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # macOS has none; there the flag is set after the call


def socket_pair() -> tuple[Fd, Fd]:
    """Return the two ends of a stream socket, close-on-exec and above 2."""
    with fork_guard:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with left, right:
            end = duplicate(left.fileno())
            try:
                return end, duplicate(right.fileno())
            except BaseException:
                end.close()
                raise


@contextlib.contextmanager
def standard_outputs() -> Iterator[tuple[int, int]]:
    """Yield this process's stdout and stderr, with /dev/null in the place of a closed one."""
    nowhere = null(writable=True)
    try:
        outputs = [fd if is_open(fd) else nowhere.fileno() for fd in (1, 2)]
        yield outputs[0], outputs[1]
    finally:
        nowhere.close()


def send_fds(socket_fd: int, data: memoryview, fds: Sequence[int] = ()) -> int:
    """Send a first part of `data` with `fds`, and return its length. BlockingIOError if none can be sent."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    borrowed = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=socket_fd)
    try:
        return borrowed.sendmsg([data], ancillary, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    finally:
        borrowed.detach()


def recv_fds(socket_fd: int, size: int) -> tuple[bytes, list[Fd]]:
    """Receive at most `size` bytes, and the descriptors that came with them.

    `b""` means EOF. BlockingIOError if nothing has arrived. Fewer descriptors than were sent arrive if this
    process has reached its limit.
    """
    received = array.array("i")
    borrowed = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=socket_fd)
    try:
        with fork_guard:  # a forked copy must know the descriptors that it would inherit
            data, ancillary, _, _ = borrowed.recvmsg(
                size, socket.CMSG_SPACE(MAX_FDS * received.itemsize), socket.MSG_DONTWAIT | _CLOEXEC
            )
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    received.frombytes(content[: len(content) - len(content) % received.itemsize])
            for fd in received:
                os.set_inheritable(fd, False)  # noqa: FBT003 - its only parameter
            return data, [Fd(fd) for fd in received]
    finally:
        borrowed.detach()

"""The system calls that may fail while a run goes on, in one place that tests can replace.

The package calls them as `system_calls.read(...)`: the name is looked up in this module at each call, which
costs no more than `os.read` does. A test that injects faults replaces names here, and so reaches every call
of the package and none of anybody else.

Out of scope: starting a process (`spawn`), which has several mechanisms, and a waker's calls, which the
kernel does not refuse.
"""

from __future__ import annotations

import errno
import os
import select
from io import FileIO

from penstock.system.fork_guard import late_import
from penstock.system.sigpipe import without_sigpipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "FileIO",
    "copy_file_range",
    "epoll_register",
    "epoll_wait",
    "open_path",
    "pidfd_open",
    "pipe",
    "poll_wait",
    "read",
    "readv",
    "sendfile",
    "splice",
    "tee",
    "write",
    "writev",
]

open_path = os.open
pipe = os.pipe
read = os.read
readv = os.readv
write = without_sigpipe(os.write)
writev = without_sigpipe(os.writev)
sendfile = without_sigpipe(os.sendfile)
poll_wait = type(select.poll()).poll


def _missing(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def _tee(source: int, sink: int, length: int, flags: int) -> int:
    with late_import:
        from penstock.system import tee_ctypes  # noqa: PLC0415 - ctypes is slow to import

    return tee_ctypes.tee(source, sink, length, flags)


# Linux only; `features` tells which of them work.
tee: Callable[[int, int, int, int], int] = without_sigpipe(_tee)
pidfd_open: Callable[[int], int] = getattr(os, "pidfd_open", _missing)
splice: Callable[..., int] = without_sigpipe(getattr(os, "splice", _missing))
copy_file_range: Callable[[int, int, int], int] = getattr(os, "copy_file_range", _missing)
_epoll: Any = getattr(select, "epoll", None)
epoll_register: Callable[[Any, int, int], None] = getattr(_epoll, "register", _missing)
epoll_wait: Callable[[Any, float | None], list[tuple[int, int]]] = getattr(_epoll, "poll", _missing)

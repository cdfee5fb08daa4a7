"""Larger pipes, and the budget of pages that limits them.

The kernel counts the pages of all pipes of a user (pipe(7)). Past `pipe-user-pages-soft`, by default 16,384,
an unprivileged user's pipes can no longer grow, and each new pipe in any of that user's processes gets two
pages instead of sixteen. A service with hundreds of large pipes would slow down itself and its neighbours.

So this process spends only a part of that limit. Pipes that grow automatically get at most an eighth of it,
and together with those of `pipe_size=` at most a quarter. The rest is left to pipes of the default size. A
process that may exceed the limit (CAP_SYS_RESOURCE, CAP_SYS_ADMIN) keeps the first bound and not the second.
If a pipe is refused its size, it stays as it was.

A `PipeCapacityLease` stands for the pages that a pipe has grown by. Its holder releases it when the pipe is
gone. `_lock` guards the count. A forked copy starts at zero, because its copies of our pipes are closed.
"""

from __future__ import annotations

import fcntl
import os
import threading

from penstock.system.fork_guard import reset_in_child

__all__ = ["GROWN_SIZE", "PipeCapacityLease", "resize"]

GROWN_SIZE = 1 << 18
"""Bytes that a pipe grows to when it holds up a Python stage: 256 KiB.

Medians of 11 interleaved rounds, 512 MiB, GB/s, two cores, for pipes of 64, 128, 256 and 1024 KiB:
function → `cat` → function 1.12, 1.84, 2.08, 2.35; command → command 4.47, 4.25, 4.36, 4.48. So pipes between
commands are left alone, and the last step, for four times the pages, is not taken.
"""

_PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
_SOFT_LIMIT_FILE = "/proc/sys/fs/pipe-user-pages-soft"
_DEFAULT_SOFT_LIMIT = 16384
_DEFAULT_PIPE_SIZE = 1 << 16
_MAY_EXCEED = 1 << 21 | 1 << 24
"""CAP_SYS_ADMIN and CAP_SYS_RESOURCE, as bits of CapEff."""


class _PipePageBudget:
    """The pages that this process has spent, and their limit."""

    __slots__ = ("_lock", "_soft", "spent")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._soft: int | None = None
        self.spent = 0

    def take(self, count: int, *, asked_for: bool) -> bool:
        """Spend `count` pages; False if that exceeds the limit."""
        if self._soft is None:
            self._soft = _soft_limit()
        share = 4 if asked_for else 8
        with self._lock:
            if self._soft == 0 or self.spent + count <= self._soft // share:  # 0 means no limit
                self.spent += count
                return True
        if not (asked_for and _may_exceed()):
            return False
        with self._lock:
            self.spent += count
        return True

    def release(self, count: int) -> None:
        """Give back `count` pages."""
        with self._lock:
            self.spent -= count


_budget = _PipePageBudget()


class PipeCapacityLease:
    """The pages that a pipe has beyond its first size, until `release`."""

    __slots__ = ("_budget", "_count")

    def __init__(self, budget: _PipePageBudget, count: int) -> None:
        self._budget = budget
        self._count = count

    def release(self) -> None:
        """Give the pages back: the pipe is closed, or soon will be.

        Idempotent; no effect in a forked copy.
        """
        count, self._count = self._count, 0
        if count:
            self._budget.release(count)


def resize(fd: int, size: int, *, asked_for: bool = False) -> PipeCapacityLease | None:
    """Set the capacity of a pipe, by either end, to `size` bytes. Return the pages spent, or None.

    With `asked_for` the user has chosen the size, which may also be smaller. Otherwise only a pipe that still
    has its first size is changed. The pipe stays as it was if the budget or the kernel refuses (EPERM past
    `pipe-max-size` or the user's pages, EBUSY, EINVAL; fcntl(2)), if the platform has no pipe sizes, or if
    `fd` is not a pipe.
    """
    try:
        before = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
        # Python passes the low 32 bits of a number beyond a C int, and the kernel might grant that size.
        size = min(size, 2**31 - 1)
        if not asked_for and before != _DEFAULT_PIPE_SIZE:
            return None
        if size <= before:
            if size < before:
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)
            return None
        # The kernel rounds up to a power of two.
        count = (1 << ((size - 1) // _PAGE_SIZE).bit_length()) - before // _PAGE_SIZE
        budget = _budget
        if not budget.take(count, asked_for=asked_for):
            return None
        try:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)
        except BaseException:
            budget.release(count)
            raise
        return PipeCapacityLease(budget, count)
    except (AttributeError, OSError):
        return None


def _soft_limit() -> int:
    try:
        with open(_SOFT_LIMIT_FILE, "rb") as file:  # noqa: PTH123 - pathlib is slow to import
            return int(file.read())
    except (OSError, ValueError):
        return _DEFAULT_SOFT_LIMIT


def _may_exceed() -> bool:
    try:
        with open("/proc/self/status", "rb") as file:  # noqa: PTH123 - pathlib is slow to import
            found = next((line for line in file if line.startswith(b"CapEff:")), b"CapEff: 0")
    except OSError:
        return False
    return bool(int(found.split()[1], 16) & _MAY_EXCEED)


def _start_clean_after_fork() -> None:
    global _budget  # noqa: PLW0603 - a thread of the parent may hold its lock, and its pipes are closed here
    _budget = _PipePageBudget()


reset_in_child(_start_clean_after_fork, "state")

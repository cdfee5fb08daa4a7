"""How much anonymous memory process trees hold, at a cost that allows to ask often.

Anonymous memory is what a process holds resident and shares with no file: `rss - shared` of psutil, and of
/proc/PID/statm. What a fork shares with its parent until one of them writes is counted for both.

A `ProcessTreeMemory` knows which process belongs to which tree. It goes by each process's parent id, read
when the process is first seen, so that one whose parent dies later stays where it belongs; and by the process
group of a tree's root. One that had lost its parent and left the group before the first look at it is not
found: only a cgroup knows of those. To find new processes all of /proc is listed, but only where one was made
since the last time, which the last pid in /proc/loadavg tells for 6 microseconds; and only what is new is
read.

Why not psutil on Linux: for fifty watched processes among 140, one look at their memory takes it 0.6 ms and
one at who is whose child 1.9 ms, which is the whole of the time that may be spent. Here it is 0.3 ms and,
where no process was made, nothing. It serves where there is no procfs.

What may not live here: when to look, and what to do about what is seen. A census is used by one thread.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Protocol

from penstock.system import features, procfs
from penstock.system.fork_guard import late_import

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ProcessTreeMemory", "require", "source"]

_MAX_LIST_INTERVAL_S = 1.0
"""Seconds after which all processes are listed although none seems to be new."""
_MAX_LIST_CPU_SHARE = 0.003
"""The part of one processor's time that listing may take where processes are made all the time."""
_MAX_LIST_DELAY_S = 0.1
"""Seconds that a new process may stay unseen for that reason."""


class Source(Protocol):
    """Where a census gets its facts."""

    def newest(self) -> object:
        """Something that changes when a process is made; None where that cannot be told."""

    def pids(self) -> Iterable[int]:
        """All processes."""
        ...

    def origin(self, pid: int) -> tuple[int, int] | None:
        """The parent and the process group (0: unknown); None where the process has gone."""
        ...

    def anonymous(self, pid: int) -> int | None:
        """Bytes; None where the process has gone. OSError where they are kept from us."""
        ...


class _Entry:
    """A process as it was when first seen, and the root of the tree that it belongs to."""

    __slots__ = ("group", "parent", "root")

    def __init__(self, parent: int, group: int) -> None:
        self.parent = parent
        self.group = group
        self.root: int | None = None


class ProcessTreeMemory:
    """Which processes belong to which of the trees that are asked about."""

    def __init__(self, facts: Source | None = None) -> None:
        self._facts = source() if facts is None else facts
        self._entries: dict[int, _Entry] = {}
        self._trees: dict[int, set[int]] = {}
        self._newest: object = None
        self._last_list = float("-inf")
        self._list_pause = 0.0
        self.refresh()
        self._list_pause = 0.0  # the first listing reads all, the others only what is new

    def add(self, root: int) -> None:
        """Ask about the tree of this process from now on. It must not have been reaped yet."""
        self._trees[root] = {root}
        if root in self._entries:
            self._entries[root].root = root
        # It may have been seen before, and so may children of its.
        for pid, entry in self._entries.items():
            if pid != root and self._descends_from(entry, root):
                self._join(pid, entry, root)

    def remove(self, root: int) -> None:
        """Ask no more."""
        for pid in self._trees.pop(root, ()):
            self._entries.pop(pid, None)

    def refresh(self) -> None:
        """Look for processes that are new, or gone."""
        now = time.monotonic()
        if now - self._last_list < self._list_pause:
            return
        newest = self._facts.newest()
        if newest is not None and newest == self._newest and now - self._last_list < _MAX_LIST_INTERVAL_S:
            return
        began = time.thread_time()
        self._list()
        self._newest, self._last_list = newest, now
        self._list_pause = min((time.thread_time() - began) / _MAX_LIST_CPU_SHARE, _MAX_LIST_DELAY_S)

    def _list(self) -> None:
        pids = set(self._facts.pids())
        for pid in self._entries.keys() - pids:
            entry = self._entries.pop(pid)
            if entry.root is not None and entry.root != pid:
                self._trees[entry.root].discard(pid)
        new = {}
        for pid in pids - self._entries.keys():
            origin = self._facts.origin(pid)
            if origin is not None:
                new[pid] = self._entries[pid] = _Entry(*origin)
                if pid in self._trees:
                    new[pid].root = pid
        for pid, entry in new.items():
            if entry.root is None:
                self._join(pid, entry, self._root_of(entry))

    def used(self, root: int) -> int:
        """Bytes of anonymous memory of a tree, now. OSError where they are kept from us."""
        total = 0
        for pid in self._trees[root]:
            total += self._facts.anonymous(pid) or 0
        return total

    def members(self, root: int) -> frozenset[int]:
        """The processes of a tree that were seen, its root among them."""
        return frozenset(self._trees[root])

    def _join(self, pid: int, entry: _Entry, root: int | None) -> None:
        entry.root = root
        if root is not None:
            self._trees[root].add(pid)

    def _root_of(self, entry: _Entry) -> int | None:
        """By the nearest ancestor that belongs to a tree; a tree's root is its own."""
        seen: set[int] = set()
        step: _Entry | None = entry
        while step is not None and step.parent not in seen:
            if step.group in self._trees:
                return step.group
            if step.parent in self._trees:
                return step.parent
            seen.add(step.parent)
            step = self._entries.get(step.parent)
            if step is not None and step.root is not None:
                return step.root
        return None

    def _descends_from(self, entry: _Entry, root: int) -> bool:
        seen: set[int] = set()
        step: _Entry | None = entry
        while step is not None and step.parent not in seen:
            if root in (step.parent, step.group):
                return True
            seen.add(step.parent)
            step = self._entries.get(step.parent)
        return False


class _Procfs:
    """Linux."""

    _page = os.sysconf("SC_PAGESIZE")

    def newest(self) -> object:
        """The pid that was given away last; gVisor's loadavg always says 0."""
        try:
            return int(_read("/proc/loadavg").split()[4]) or None
        except (OSError, ValueError, IndexError):
            return None

    def pids(self) -> Iterable[int]:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - pathlib is dear to import

    def origin(self, pid: int) -> tuple[int, int] | None:
        entry = procfs.read_stat(pid)
        return None if entry is None else (entry.parent, entry.group)

    def anonymous(self, pid: int) -> int | None:
        try:
            fields = _read(f"/proc/{pid}/statm").split(None, 3)
        except (FileNotFoundError, ProcessLookupError):
            return None
        return (int(fields[1]) - int(fields[2])) * self._page


class _Psutil:
    """Where there is no procfs."""

    def __init__(self, psutil: Any) -> None:
        self._psutil = psutil

    def newest(self) -> object:
        return None

    def pids(self) -> Iterable[int]:
        found: list[int] = self._psutil.pids()
        return found

    def origin(self, pid: int) -> tuple[int, int] | None:
        try:
            return self._psutil.Process(pid).ppid(), os.getpgid(pid)
        except (self._psutil.Error, OSError):
            return None

    def anonymous(self, pid: int) -> int | None:
        try:
            info = self._psutil.Process(pid).memory_info()
        except self._psutil.AccessDenied as error:
            raise PermissionError(str(error)) from error
        except self._psutil.Error:
            return None
        rss: int = info.rss - getattr(info, "shared", 0)
        return rss


def source() -> Source:
    """The best there is. ImportError, which says what to install, where there is none."""
    return _Procfs() if features.PROCFS else _Psutil(_psutil())


def require() -> None:
    """Raise ImportError, which says what to install, where memory could not be looked at."""
    if not features.PROCFS:
        _psutil()


def _psutil() -> Any:
    with late_import:
        try:
            import psutil  # noqa: PLC0415 - needed without procfs only
        except ImportError as error:
            raise ImportError(
                "watching the memory of processes needs psutil on this system: pip install 'penstock[limits]'"
            ) from error
    return psutil


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)

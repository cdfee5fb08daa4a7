"""The anonymous memory of process trees, cheap enough to sample often.

Anonymous memory is resident and not backed by a file: `rss - shared`, from psutil or /proc/PID/statm. Pages
that a fork shares with its parent, until one of them writes, count for both.

A `ProcessTreeMemory` knows which process belongs to which tree. It uses the parent id of each process, read
when the process is first seen, so that an orphan stays in its tree, and the process group of the tree's root.
A process that lost its parent and left the group before it was first seen is not found. Only a cgroup knows
such a process. To find new processes, all of /proc is listed, but only if a process was made since the last
time: the last pid in /proc/loadavg tells that in 6 microseconds. Only new processes are read.

Why not psutil on Linux: for fifty watched processes among 140, it takes 0.6 ms to read their memory and 1.9
ms to read the tree, which is the whole budget. This module takes 0.3 ms, and nothing if no process was made.
psutil is used if there is no procfs.

Out of scope: when to sample, and how to react. Use each object from one thread only.
"""

from __future__ import annotations

import os
import time
from typing import Protocol

from penstock.system import features, procfs, system_calls
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["ProcessTreeMemory", "require", "source"]

_MAX_LIST_INTERVAL_S = 1.0
"""Seconds after which all processes are listed although none seems to be new."""
_MAX_LIST_CPU_SHARE = 0.003
"""The share of one processor that listing may take when processes are made all the time."""
_MAX_LIST_DELAY_S = 0.1
"""Seconds that a new process may stay unseen because of that share."""


class Source(Protocol):
    """Where the facts about processes come from."""

    def newest(self) -> object:
        """Return a value that changes when a process is made; None if the platform has none."""

    def pids(self) -> Iterable[int]:
        """Return all processes."""
        ...

    def origin(self, pid: int) -> tuple[int, int] | None:
        """Return the parent and the process group (0: unknown); None if the process is gone."""
        ...

    def anonymous(self, pid: int) -> int | None:
        """Return bytes; None if the process is gone. OSError if access is denied."""
        ...


class _Entry:
    """A process as it was when first seen, and the root of its tree."""

    __slots__ = ("group", "parent", "root")

    def __init__(self, parent: int, group: int) -> None:
        self.parent = parent
        self.group = group
        self.root: int | None = None


class ProcessTreeMemory:
    """The watched trees, and the processes that belong to each."""

    def __init__(self, facts: Source | None = None) -> None:
        self._facts = source() if facts is None else facts
        self._entries: dict[int, _Entry] = {}
        self._trees: dict[int, set[int]] = {}
        self._newest: object = None
        self._last_list = float("-inf")
        self._list_pause = 0.0
        self.refresh()
        self._list_pause = 0.0  # the first listing reads all processes, later ones only the new

    def add(self, root: int) -> None:
        """Watch the tree of this process, which must not have been reaped yet."""
        self._trees[root] = {root}
        if root in self._entries:
            self._entries[root].root = root
        # It may have been seen before, and so may its children.
        for pid, entry in self._entries.items():
            if pid != root and self._descends_from(entry, root):
                self._join(pid, entry, root)

    def remove(self, root: int) -> None:
        """Stop watching a tree."""
        for pid in self._trees.pop(root, ()):
            self._entries.pop(pid, None)

    def refresh(self) -> None:
        """Find new processes, and drop those that are gone."""
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
        """Return the anonymous memory of a tree in bytes. OSError if access is denied."""
        total = 0
        for pid in self._trees[root]:
            total += self._facts.anonymous(pid) or 0
        return total

    def members(self, root: int) -> frozenset[int]:
        """Return the known processes of a tree, with its root."""
        return frozenset(self._trees[root])

    def _join(self, pid: int, entry: _Entry, root: int | None) -> None:
        entry.root = root
        if root is not None:
            self._trees[root].add(pid)

    def _root_of(self, entry: _Entry) -> int | None:
        """Return the root of the nearest ancestor (or group) that belongs to a tree."""
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
        """The pid that was given last."""
        return procfs.last_pid()

    def pids(self) -> Iterable[int]:
        return procfs.pids()

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
    """Platforms without procfs."""

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
    """Return the best source. ImportError that names the package to install, if there is none."""
    return _Procfs() if features.PROCFS else _Psutil(_psutil())


def require() -> None:
    """Raise ImportError that names the package to install, if memory cannot be read."""
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
    fd = system_calls.open_path(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return system_calls.read(fd, 4096)
    finally:
        os.close(fd)

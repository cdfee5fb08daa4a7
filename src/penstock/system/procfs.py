# pathlib is slow to import.
# ruff: noqa: PTH208
"""Read /proc: parents, children and process groups.

The tree is walked by the parent id of each process. `/proc/PID/task/*/children` would be less to read, but it
exists only on kernels built with CONFIG_PROC_CHILDREN, and elsewhere looks like "no children". A process may
vanish between any two steps; it is then left out. Nothing here detects a reused pid: the caller must verify
an answer before acting on it (`process.ProcessHandle`). If /proc is missing or shows another pid namespace,
every answer is empty.
"""

from __future__ import annotations

import os
import time
from itertools import starmap

from penstock.system import features, system_calls
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


class Stat:
    """A line of /proc/PID/stat. `started`, in clock ticks after boot, distinguishes users of one pid."""

    __slots__ = ("group", "parent", "pid", "started", "state", "threads")

    def __init__(self, pid: int, state: str, parent: int, group: int, threads: int, started: int) -> None:  # noqa: PLR0913 - a record
        self.pid = pid
        self.state = state
        self.parent = parent
        self.group = group
        self.threads = threads
        self.started = started

    @property
    def alive(self) -> bool:
        """Whether any thread lives. If the main thread exits first, the process looks like a zombie."""
        return self.state not in "ZX" or self.threads > 1


def parse_stat(line: bytes) -> Stat:
    """Parse a line of /proc/PID/stat (proc(5)). The name may contain spaces and parentheses.

    >>> parse_stat(b"7 (a) (b c) S 1 6 " + b"0 " * 14 + b"3 0 99 0").group
    6
    """
    fields = line[line.rindex(b")") + 2 :].split()
    return Stat(
        pid=int(line[: line.index(b" ")]),
        state=fields[0].decode("ascii"),
        parent=int(fields[1]),
        group=int(fields[2]),
        threads=int(fields[17]),
        started=int(fields[19]),
    )


def read_stat(pid: int) -> Stat | None:
    """Return the facts about a process, also a zombie; None if there is none."""
    if not features.PROCFS:
        return None
    try:
        return parse_stat(_read(b"/proc/%d/stat" % pid))
    except (OSError, ValueError, IndexError):  # gone before the open, or after it (ESRCH or an empty read)
        return None


def _ctypes_reader() -> ModuleType | None:
    """Return the module that reads with the GIL held, if it is available."""
    if features.QUICK_READS:
        try:
            with late_import:
                from penstock.system import procfs_ctypes  # noqa: PLC0415 - ctypes is slow to import
        except ImportError:
            features.QUICK_READS = False
        else:
            return procfs_ctypes
    return None


def _read(path: bytes) -> bytes:
    procfs_ctypes = _ctypes_reader()
    if procfs_ctypes is not None:
        found: bytes = procfs_ctypes.read(path)
        return found
    opened: list[int] = []
    try:
        # In C, into a list, so that no interrupt can make the descriptor leak (see `fds`).
        opened.extend(starmap(system_calls.open_path, ((path, os.O_RDONLY | os.O_CLOEXEC),)))
        data = system_calls.read(opened[0], 4096)
    finally:
        for fd in opened:
            os.close(fd)
    return data


def table() -> dict[int, Stat]:
    """Return all visible processes by pid. Takes 10 to 20 microseconds for each."""
    if not features.PROCFS:
        return {}
    found = (read_stat(int(name)) for name in _names())
    return {entry.pid: entry for entry in found if entry is not None}


def recent() -> dict[int, Stat]:
    """Return the process table, up to `_MAX_AGE_S` seconds old, with new processes added.

    When hundreds of runs are cancelled at once, reading all processes for each run would take longer than the
    grace time. `ProcessHandle.open` rejects an entry that is out of date.
    """
    global _last  # noqa: PLW0603 - both halves are replaced at once
    now = time.monotonic()
    since, found = _last
    if now - since > _MAX_AGE_S:
        found = table()
        _last = now, found
        return dict(found)
    found = dict(found)
    extend(found)
    _last = since, found
    return dict(found)


_MAX_AGE_S = 0.02
"""Seconds."""
_last: tuple[float, dict[int, Stat]] = -_MAX_AGE_S, {}


def extend(processes: dict[int, Stat]) -> None:
    """Add the processes that are new since a table was read. Those that are gone stay in it."""
    if not features.PROCFS:
        return
    for name in _names():
        if int(name) not in processes:
            entry = read_stat(int(name))
            if entry is not None:
                processes[entry.pid] = entry


def parents() -> dict[int, int]:
    """Return the parent of each process, by pid."""
    return {entry.pid: entry.parent for entry in table().values()}


def descendants(pid: int) -> list[int]:
    """Return children, grandchildren and so on, nearest first, without orphans."""
    return [entry.pid for entry in descendants_in(table(), pid)]


def descendants_in(processes: dict[int, Stat], pid: int) -> list[Stat]:
    """Return the same from a table already read."""
    children: dict[int, list[Stat]] = {}
    for entry in processes.values():
        children.setdefault(entry.parent, []).append(entry)
    found: list[Stat] = []
    seen = {pid}  # entries are read at different moments, so a reused pid could make a cycle
    level = [pid]
    while level:
        entries = [child for parent in level for child in children.get(parent, ()) if child.pid not in seen]
        found += entries
        level = [entry.pid for entry in entries]
        seen.update(level)
    return found


def group_members(group: int) -> list[int]:
    """Return the living members of a process group, without zombies."""
    if not features.PROCFS:
        return []
    found = []
    for name in _names():
        try:
            # This takes a third of a microsecond, reading a process 15.
            if os.getpgid(int(name)) != group:
                continue
        except OSError:  # gone
            continue
        entry = read_stat(int(name))
        if entry is not None and entry.group == group and entry.alive:
            found.append(entry.pid)
    return found


def _names() -> list[bytes] | list[str]:
    """Return the visible pids, as text."""
    procfs_ctypes = _ctypes_reader()
    if procfs_ctypes is not None:
        return [name for name in procfs_ctypes.names(b"/proc") if name.isdigit()]
    try:
        return [name for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return []


def reset_peak() -> None:
    """Reset this process's peak memory to its current memory, if the kernel can do that."""
    if features.PROCFS:
        try:
            fd = system_calls.open_path("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:  # no CONFIG_PROC_PAGE_MONITOR
            return
        try:
            system_calls.write(fd, b"5")  # proc(5)
        except OSError:
            pass
        finally:
            os.close(fd)


def own_peak() -> int:
    """Return this process's peak resident memory since `reset_peak`, in bytes; 0 if unknown."""
    if not features.PROCFS:
        return 0
    try:
        fd = system_calls.open_path("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = system_calls.read(fd, 65536)
        finally:
            os.close(fd)
        return int(text.partition(b"VmHWM:")[2].split(None, 1)[0]) * 1024
    except (OSError, IndexError, ValueError):
        return 0

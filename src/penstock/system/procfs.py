# pathlib is slow to import.
# ruff: noqa: PTH208
"""Read /proc: the facts about a process, its children, and all pids.

A process may vanish between any two steps; it is then left out. Nothing here detects a reused pid: the caller
must verify an answer before acting on it (`process.ProcessHandle`). If /proc is missing or shows another pid
namespace, every answer is empty.
"""

from __future__ import annotations

import contextlib
import os
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
        except OSError:  # no descriptor is left to load it by: the slower way for now
            pass
        else:
            return procfs_ctypes
    return None


def load() -> None:
    """Load what reading takes. For the first start: later, there may be no descriptor to load a module by."""
    _ctypes_reader()


def _read(path: bytes, *, whole: bool = False) -> bytes:
    """Read at most 4 KiB, or the `whole` file."""
    procfs_ctypes = _ctypes_reader()
    if procfs_ctypes is not None:
        found: bytes = procfs_ctypes.read(path, whole=whole)
        return found
    return _read_slowly(path, whole=whole)


def _read_slowly(path: bytes, *, whole: bool = False) -> bytes:
    """Do as `_read` does, in the interpreter's own way."""
    opened: list[int] = []
    try:
        # In C, into a list, so that no interrupt can make the descriptor leak (see `fds`).
        opened.extend(starmap(system_calls.open_path, ((path, os.O_RDONLY | os.O_CLOEXEC),)))
        data = system_calls.read(opened[0], 4096)
        while whole and (more := system_calls.read(opened[0], 4096)):
            data += more
    finally:
        for fd in opened:
            os.close(fd)
    return data


def table() -> dict[int, Stat]:
    """Return all visible processes by pid. Takes 10 to 20 microseconds for each."""
    return {entry.pid: entry for entry in map(read_stat, pids()) if entry is not None}


def parents() -> dict[int, int]:
    """Return the parent of each process, by pid."""
    return {entry.pid: entry.parent for entry in table().values()}


def children(pid: int, threads: int = 0) -> list[int]:
    """Return the children of a process, zombies too. Only if `features.CHILD_LISTS`.

    `threads` is the number of its threads, if that is known. If a child is reaped while the kernel writes
    the list, another child may be missing from it (proc(5)).
    """
    found: list[int] = []
    for thread in (b"%d" % pid,) if threads == 1 else _names(b"/proc/%d/task" % pid):
        with contextlib.suppress(OSError):  # it is gone
            found += map(int, _read(b"/proc/%d/task/%s/children" % (pid, thread), whole=True).split())
    return found


def has_running_thread(pid: int) -> bool:
    """Whether any thread of a process is runnable."""
    for thread in _names(b"/proc/%d/task" % pid):
        try:
            if parse_stat(_read(b"/proc/%d/task/%s/stat" % (pid, thread))).state == "R":
                return True
        except (OSError, ValueError, IndexError):  # gone
            continue
    return False


def pids() -> list[int]:
    """Return all visible processes."""
    return list(map(int, _names(b"/proc"))) if features.PROCFS else []


def last_pid() -> int | None:
    """Return the pid that was given last; None if the kernel does not tell (gVisor always says 0)."""
    if not features.LAST_PID:
        return None
    try:
        return int(_read(b"/proc/loadavg").split()[4]) or None
    except (OSError, ValueError, IndexError):
        return None


def max_pid() -> int:
    """Return the number of pids after which the kernel begins again; 0 if it does not tell."""
    try:
        return int(_read(b"/proc/sys/kernel/pid_max"))
    except (OSError, ValueError):
        return 0


def is_process(pid: int) -> bool:
    """Whether a pid is that of a process, not of one of its other threads; False if it is gone."""
    try:
        return b"\nTgid:\t%d\n" % pid in _read(b"/proc/%d/status" % pid)
    except OSError:  # gone
        return False


def environ(pid: int) -> bytes:
    """Return the environment that a process got at its last exec; empty if it cannot be read."""
    try:
        return _read(b"/proc/%d/environ" % pid, whole=True)
    except OSError:  # gone, or another user's
        return b""


def system_call(pid: int) -> bytes:
    """Return the number and the arguments of the system call in which a process sleeps (its main thread).

    Empty if it is gone, or if this may not be seen; "running" if it does not sleep. During an exec of the
    process the kernel answers later, so the GIL is released meanwhile.
    """
    try:
        return _read_slowly(b"/proc/%d/syscall" % pid)
    except OSError:
        return b""


def is_in_exec(pid: int) -> bool:
    """Whether a process is in the middle of an exec: it lives, and has no arguments."""
    try:
        if _read(b"/proc/%d/cmdline" % pid):
            return False
    except OSError:
        return False
    entry = read_stat(pid)
    return entry is not None and entry.state not in ("Z", "X")


def read(path: bytes) -> bytes:
    """Return the first 4 KiB of a file in /proc; nothing if it cannot be read."""
    try:
        return _read(path)
    except OSError:
        return b""


def threads(pid: int) -> list[bytes]:
    """Return the threads of a process."""
    return _names(b"/proc/%d/task" % pid)


def status(path: bytes) -> tuple[int, int, int, int] | None:
    """Return mode, device, inode and size of the file behind a name in /proc; None if that is not known.

    Nothing is opened.
    """
    procfs_ctypes = _ctypes_reader()
    try:
        if procfs_ctypes is not None:
            found: tuple[int, int, int, int] | None = procfs_ctypes.status(path)
            return found
    except OSError:  # the C library cannot
        pass
    try:
        seen = os.stat(path)  # noqa: PTH116 - as above
    except OSError:
        return None
    return seen.st_mode, seen.st_dev, seen.st_ino, seen.st_size


def _names(folder: bytes) -> list[bytes]:
    """Return the names in a folder that are numbers."""
    procfs_ctypes = _ctypes_reader()
    if procfs_ctypes is not None:
        found: list[bytes] = procfs_ctypes.numbers(folder)
        return found
    try:
        return [name for name in os.listdir(folder) if name.isdigit()]
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

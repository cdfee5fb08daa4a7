"""Look at a process tree by /proc: its processor time, its memory, and the pipes that it waits for.

A pipe between two commands has no end in this process, and it must not get one: another reader or writer,
even for an instant, may hide an EPIPE or an EOF. So nothing here opens /proc/PID/fd/N. A process that sleeps
in a read of a pipe says that the pipe is empty, and one that sleeps in a write that it is full. The kernel
tells in which function a process sleeps (/proc/PID/wchan) and with which descriptor (/proc/PID/syscall);
fstat(2) by /proc/PID/fd/N tells which pipe that is, and opens nothing.

/proc/PID/syscall waits for an exec of the process that is under way, which may take its time on a network
file system. So it is read only if the process sleeps in a pipe, or if the kernel hides wchan.

A process that waits by poll(2) or epoll, or that belongs to another user, does not show what it waits for. A
process that lost its parent is not found any more. Without /proc, nothing is known.

Out of scope: what follows from that for a run (`engine.snapshots`). Use each object from one thread at a
time.
"""

from __future__ import annotations

import os
import stat
import time

from penstock.system import features, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, TypeAlias

    from penstock.system.process_look import ProcessLook

    PipeId: TypeAlias = tuple[int, int]
    _Wait: TypeAlias = tuple[str, PipeId | None]

__all__ = ["Activity", "FilePosition", "ProcessTreeActivity", "file_position", "pipe_of"]

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_MAX_THREADS: Final = 64
"""Threads of a process that are looked at."""
_LIST_INTERVAL_S = 0.25
"""Seconds after which the processes of a tree are listed anew, which costs as much as a look at each."""
_READ, _WRITE, _POLL, _RUNS, _OTHER = "read", "write", "poll", "runs", "other"
"""The kinds of waits of a thread; at `_RUNS` it has a processor, or waits for one."""

_X86 = {0: _READ, 19: _READ, 1: _WRITE, 20: _WRITE, 278: _WRITE}
_GENERIC = {63: _READ, 65: _READ, 64: _WRITE, 66: _WRITE, 75: _WRITE}
_CALLS: Final = {"x86_64": _X86, "aarch64": _GENERIC, "riscv64": _GENERIC, "loongarch64": _GENERIC}
"""The numbers of read, readv, write, writev and vmsplice, by machine."""
_SPLICE: Final = {"x86_64": 275, "aarch64": 76, "riscv64": 76, "loongarch64": 76}
"""The number of splice, whose third argument is the descriptor that it writes to."""


class Activity:
    """A process tree at one moment.

    `state` is the letter of proc(5) for the root. `cpu` is in seconds, those of ended children included, and
    `rss` in bytes. `reading` and `writing` are the pipes that a process waits to read from, or to write to;
    `waits_unknown` has "read" or "write" if one waits for a pipe, and the kernel does not tell for which.
    `running` says that one has a processor or waits for one, or for a disk; `polling` that one waits by
    poll(2) or its like.
    """

    __slots__ = ("cpu", "polling", "reading", "rss", "running", "state", "waits_unknown", "writing")

    def __init__(self) -> None:
        self.state = ""
        self.cpu = 0.0
        self.rss = 0
        self.running = False
        self.polling = False
        self.reading: set[PipeId] = set()
        self.writing: set[PipeId] = set()
        self.waits_unknown: set[str] = set()


class ProcessTreeActivity:
    """Looks at the tree of one child, again and again."""

    __slots__ = ("_listed", "_members", "_root", "_started", "_waits")

    def __init__(self, root: int) -> None:
        self._root = root
        self._started: bytes | None = None
        self._members: Sequence[int] = ()
        self._listed = float("-inf")
        self._waits: dict[bytes, tuple[bytes, _Wait]] = {}
        """The function that each thread slept in, and its wait, as seen since the last listing."""

    def look(self, processes: ProcessLook) -> Activity | None:
        """Return what the tree does now; None if its root is gone, or if nothing can be known.

        `processes` finds the children, and may be shared by all trees that are looked at together.
        """
        fields = _stat(self._root)
        if fields is None or self._started not in (None, fields[19]):
            return None
        self._started = fields[19]
        found = Activity()
        found.state = fields[0].decode("ascii")
        now = time.monotonic()
        if now - self._listed >= _LIST_INTERVAL_S:
            self._members = list(processes.descendants([self._root], {self._root: int(fields[17])}))
            self._listed = now
            self._waits.clear()
        self._add(found, self._root, fields)
        for pid in self._members:
            fields = _stat(pid)
            if fields is not None:
                self._add(found, pid, fields)
        return found

    def _add(self, found: Activity, pid: int, fields: Sequence[bytes]) -> None:
        """Add a process."""
        found.cpu += sum(map(int, fields[11:15])) / _TICKS
        found.rss += int(fields[21]) * _PAGE
        state, threads = fields[0], int(fields[17])
        if state in b"ZX":
            return
        if threads == 1 and state != b"S":
            found.running = found.running or state not in b"Tt"
            return
        for task in _tasks(pid) if threads > 1 else (b"/proc/%d" % pid,):
            kind, pipe = self._wait(pid, task)
            if pipe is not None:
                (found.reading if kind == _READ else found.writing).add(pipe)
            elif kind in (_READ, _WRITE):
                found.waits_unknown.add(kind)
            found.running = found.running or kind == _RUNS
            found.polling = found.polling or kind == _POLL

    def _wait(self, pid: int, task: bytes) -> _Wait:
        """Return what a thread waits for; with which pipe is looked up once for each listing."""
        channel = procfs.read(task + b"/wchan")
        if channel not in (b"", b"0"):
            if b"pipe" not in channel:
                return _POLL if b"poll" in channel or b"select" in channel else _OTHER, None
            known = self._waits.get(task)
            if known is not None and known[0] == channel:
                return known[1]
        kind, number = _call(task, channel)
        pipe = None if number is None else pipe_of(pid, number)
        if number is not None and pipe is None:
            kind = _OTHER  # a terminal, or a file
        self._waits[task] = channel, (kind, pipe)
        return kind, pipe


def _stat(pid: int) -> Sequence[bytes] | None:
    """Return the fields of /proc/PID/stat from the state on."""
    if not features.PROCFS:
        return None
    fields = procfs.read(b"/proc/%d/stat" % pid).rpartition(b")")[2].split(None, 22)
    return fields if len(fields) > 21 else None  # else it is gone


def _tasks(pid: int) -> list[bytes]:
    return [b"/proc/%d/task/%s" % (pid, name) for name in procfs.threads(pid)[:_MAX_THREADS]]


def _call(task: bytes, channel: bytes) -> tuple[str, int | None]:
    """Return what a thread that sleeps in the function `channel` waits for, and with which descriptor."""
    kind = _OTHER
    if channel.endswith((b"pipe_read", b"pipe_wait_readable")):
        kind = _READ
    elif channel.endswith((b"pipe_write", b"pipe_wait_writable")):
        kind = _WRITE
    call = procfs.read(task + b"/syscall").split()
    if call == [b"running"]:
        return _RUNS, None
    if len(call) < 4:  # it may not be looked at
        return kind, None
    machine, number = features.machine(), int(call[0])
    if number == _SPLICE.get(machine):
        place = 3 if kind == _WRITE else 1
    else:
        kind, place = _CALLS.get(machine, {}).get(number, kind), 1
    return kind, int(call[place], 16) if kind in (_READ, _WRITE) else None


def pipe_of(pid: int, number: int) -> PipeId | None:
    """Return which pipe a descriptor of a process is an end of; None if it is not one, or cannot be known."""
    found = procfs.status(b"/proc/%d/fd/%d" % (pid, number)) if features.PROCFS else None
    return found[1:3] if found is not None and stat.S_ISFIFO(found[0]) else None


class FilePosition:
    """Where a process is in a regular file. `file` tells files apart; `appends` says that it is O_APPEND."""

    __slots__ = ("appends", "file", "position", "size")

    def __init__(self, position: int, size: int, file: tuple[int, int], *, appends: bool) -> None:
        self.position = position
        self.size = size
        self.file = file
        self.appends = appends


def file_position(pid: int, number: int) -> FilePosition | None:
    """Return where a descriptor of a process is in its file; None if it is not a regular file, or unknown."""
    found = procfs.status(b"/proc/%d/fd/%d" % (pid, number)) if features.PROCFS else None
    if found is None or not stat.S_ISREG(found[0]):
        return None
    lines = procfs.read(b"/proc/%d/fdinfo/%d" % (pid, number)).splitlines()[:2]
    try:
        info = dict(line.split(b":\t", 1) for line in lines)
        position, flags = int(info[b"pos"]), int(info[b"flags"], 8)
    except (ValueError, KeyError):  # it is gone
        return None
    return FilePosition(position, found[3], found[1:3], appends=bool(flags & os.O_APPEND))

# `contextlib` would cost memory.
# ruff: noqa: SIM105
"""The program of the guardian: it ends the commands of a host that has died (`system.guardian` starts it).

A bare interpreter runs this module, without the package and without `os`: with little else it needs 9 MB, of
which 3 are its own. It forks once, so that it is not a child of the host, and makes a session of its own. It
keeps two descriptors, the socket to the host as 0 and a pidfd of the host, and sleeps until the host dies.

The host shares a table of words with it, which outlives the host. Each word says who is to be ended: the
processes with a mark in their environment, a process group, or one process. All that descends from these
belongs to them. As in `process_tree`, all are stopped first, until a look at the machine finds no new one, so
that none escapes by forking. Then all get SIGKILL.

A child that the host was starting when it died has its mark only after its exec. Until shortly before that it
holds a copy of the host's socket. So the guardian looks again until its own end of the socket reads EOF and
two further looks have found nothing, for `_LAST_LOOK_S` at most.

Out of scope: processes that we may not signal or whose environment we may not read.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # `signal` and its enums take ten milliseconds
import posix
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["GROUP", "MARK", "PROCESS", "main"]

MARK, GROUP, PROCESS = 1, 2, 3
"""The kinds of words in the table: two bits, below the serial number of a mark or a pid. 0 is a free word."""

_LAST_LOOK_S = 0.7
"""Seconds after the death of the host in which it looks for commands."""
_PAUSES_S = (0.03, 0.1)
"""Seconds before each of the last looks, which must find nothing."""
_MAX_ROUNDS = 100
"""Looks at most until all are stopped: a chain of forks may outrun several of them."""
_POLL_INTERVAL_S = 0.2
"""Seconds between two looks at the host if there are no pidfds."""


_use_pidfds = True


def main(host: int, token: str, variable: str, table_fd: int, *, use_pidfds: bool) -> NoReturn:
    """Guard the process `host`. `token` begins its marks, which stand in the environment as `variable`."""
    global _use_pidfds  # noqa: PLW0603 - set once
    _use_pidfds = use_pidfds
    if posix.fork():
        posix._exit(0)  # noqa: SLF001 - its public name
    posix.setsid()
    for signum in _signal.valid_signals():
        try:
            _signal.signal(signum, _signal.SIG_IGN)  # it ends with the host, not before
        except (OSError, ValueError):
            pass
    table = _map(table_fd)
    started = _started(host)
    pidfd = _keep_two(_pidfd_open(host))
    posix.write(0, b"ready %d\n" % posix.getpid())
    if posix.read(0, 1) == b"g":  # else the host has given up, or died
        at_eof = _wait_for_end(host, started, pidfd)
        _end_all(table, f"{variable}=", token, started, at_eof=at_eof)
    posix._exit(0)  # noqa: SLF001


def _map(table_fd: int) -> memoryview:
    import mmap  # noqa: PLC0415 - the host imports this module too, for the constants

    # It duplicates the descriptor, and never uses the copy: `_keep_two` closes it.
    return memoryview(mmap.mmap(table_fd, 0, prot=mmap.PROT_READ)).cast("Q")


def _keep_two(pidfd: int | None) -> int | None:
    """Close all descriptors but the socket and the pidfd, which gets the number 1."""
    if pidfd is not None:
        posix.dup2(pidfd, 1)
        pidfd = 1
    posix.closerange(1 if pidfd is None else 2, 256)
    return pidfd


def _pidfd_open(pid: int) -> int | None:
    try:
        return posix.pidfd_open(pid) if _use_pidfds else None
    except (AttributeError, OSError):
        return None


def _wait_for_end(host: int, started: int | None, pidfd: int | None) -> bool:
    """Return when the host has died, or sends that it needs no guardian. Return whether the socket has ended.

    A host that closes all its descriptors, or becomes another program, ends the socket and lives on.
    """
    poll = select.poll()
    poll.register(0, select.POLLIN)
    if pidfd is not None:
        poll.register(pidfd, select.POLLIN)
    at_eof = False
    while True:
        ready = dict(poll.poll(None if pidfd is not None else _POLL_INTERVAL_S * 1000))
        if 0 in ready:
            if _read() == b"q":
                posix._exit(0)  # noqa: SLF001
            poll.unregister(0)
            at_eof = True
        if (pidfd is not None and pidfd in ready) or (pidfd is None and not _lives(host, started)):
            return at_eof


def _read() -> bytes:
    try:
        return posix.read(0, 1)
    except OSError:  # reset: the host died with unread bytes
        return b""


def _lives(host: int, started: int | None) -> bool:
    entry = _stat(host)
    if entry is not None:
        return entry[4] == started and entry[1] not in b"ZX"
    try:
        posix.kill(host, 0)
    except OSError:
        return False
    return started is None  # without /proc nothing more is known


# The end of the host.


def _end_all(table: memoryview, prefix: str, token: str, host_started: int | None, *, at_eof: bool) -> None:
    words = {word for word in table.tolist() if word}
    if not words:
        return
    deadline = time.monotonic() + _LAST_LOOK_S
    search = _Search(words, prefix.encode(), token, host_started or 0)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    quiet = 0
    while True:
        if search.end_found():
            quiet = 0
        elif at_eof:
            quiet += 1
        if quiet > len(_PAUSES_S) or time.monotonic() >= deadline:
            return
        pause = _PAUSES_S[max(quiet - 1, 0)]
        if at_eof:
            time.sleep(pause)
        elif poll.poll(pause * 1000):
            at_eof = True


class _Search:
    """The processes of the host's commands, as far as they were found."""

    def __init__(self, words: set[int], prefix: bytes, token: str, since: int) -> None:
        self._groups = {word >> 2 for word in words if word & 3 == GROUP}
        self._processes = {word >> 2 for word in words if word & 3 == PROCESS}
        self._marks = {f"{token}.{word >> 2}".encode() for word in words if word & 3 == MARK}
        self._prefix = prefix
        self._since = since
        self._members: dict[int, int] = {}
        """The processes that were found, and when each started."""

    def end_found(self) -> bool:
        """Stop and kill those that are found now. Return whether there were any."""
        found: dict[int, int] = {}
        for _ in range(_MAX_ROUNDS):
            new = self._look()
            if not new:
                break
            found.update(new)
            self._members.update(new)
            for pid, started in new.items():
                _send(pid, started, _signal.SIGSTOP)
        for pid, started in found.items():
            _send(pid, started, _signal.SIGKILL)
        if not posix.access("/proc/self/stat", posix.R_OK):
            for group in self._groups:
                signal_group(group, _signal.SIGKILL)
        return bool(found)

    def _look(self) -> dict[int, int]:
        """Return the living processes that belong to the commands and were not found before."""
        new: dict[int, int] = {}
        children: dict[int, list[tuple[int, int]]] = {}
        for name in _names():
            entry = _stat(name)
            if entry is None:
                continue
            pid, state, parent, group, started = entry
            if state in b"ZX" or started < self._since or self._members.get(pid) == started:
                continue
            if group in self._groups or pid in self._processes or self._is_marked(pid):
                new[pid] = started
            else:
                children.setdefault(parent, []).append((pid, started))
        parents = [*self._members, *new]
        while parents:
            for child, started in children.pop(parents.pop(), ()):
                new[child] = started
                parents.append(child)
        new.pop(posix.getpid(), None)
        return new

    def _is_marked(self, pid: int) -> bool:
        environ = b"\0" + _contents(f"/proc/{pid}/environ")
        _, found, rest = environ.partition(b"\0" + self._prefix)
        return bool(found) and not self._marks.isdisjoint(rest.partition(b"\0")[0].split(b":"))


def signal_group(group: int, signum: int) -> None:
    """Send a signal to a process group, never to our own, as `process.signal_group` does."""
    try:
        if group > 1 and group != posix.getpgrp():
            posix.killpg(group, signum)
    except OSError:  # gone, or another user's
        pass


def _names() -> list[int]:
    try:
        return [int(name) for name in posix.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _stat(pid: int) -> tuple[int, bytes, int, int, int] | None:
    """Return pid, state, parent, process group and start time of a process; None if it is gone."""
    line = _contents(f"/proc/{pid}/stat")
    fields = line[line.rfind(b")") + 2 :].split()
    if len(fields) < 20:
        return None
    # A process whose main thread has ended looks like a zombie while it has others.
    state = b"R" if int(fields[17]) > 1 else fields[0]
    return pid, state, int(fields[1]), int(fields[2]), int(fields[19])


def _started(pid: int) -> int | None:
    entry = _stat(pid)
    return None if entry is None else entry[4]


def _contents(path: str) -> bytes:
    """Read a file of /proc; empty if that is not possible."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return b""
    data = b""
    try:
        while part := posix.read(fd, 65536):
            data += part
    except OSError:  # gone
        pass
    finally:
        posix.close(fd)
    return data


def _send(pid: int, started: int, signum: int) -> None:
    """Send a signal to the process that was seen, and to no other one that got its pid meanwhile."""
    pidfd = _pidfd_open(pid)
    try:
        if _started(pid) != started:  # asked after the pidfd was opened
            return
        if pidfd is None:
            posix.kill(pid, signum)
        else:
            _signal.pidfd_send_signal(pidfd, signum)
    except OSError:  # gone, or another user's
        pass
    finally:
        if pidfd is not None:
            posix.close(pidfd)

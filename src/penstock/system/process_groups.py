"""Which process is in which process group, kept up to date between two looks.

To list a thousand processes and ask for the group of each takes half a millisecond. So the answer is kept,
and the next one adds the processes that were made since. Their pids follow the pid that the kernel gave last,
which /proc/loadavg tells in 3 microseconds. All is listed again if many processes were made since, also in
small steps, or if the kernel may have gone round all its pids since the last look.

Threads have pids too; only their processes are members. A process shows a moment after it has got its pid, so
new pids without a process are asked for again. A kept process may have died or changed its group: the caller
asks again before it acts. A process that joins a group after it was first seen is not noticed. No shell does
that to another's group: a process is in the group of a command from its birth, or not at all.

The answer is never modified, so each thread may keep and replace it.
"""

from __future__ import annotations

import os
import time

from penstock.system import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

__all__ = ["groups"]

Groups: TypeAlias = "dict[int, list[int]]"

_MAX_NEW = 256
"""New pids that are asked for one by one."""
_MAX_FORK_S = 0.1
"""Seconds after which a process shows that had got its pid."""
_MAX_FORKS = 16
"""Processes that may be about to show at one moment."""
_MAX_PIDS_A_SECOND = 100_000
"""More than any machine was seen to give, so that the time for one round through all pids is known."""


class _Known:
    """The groups as they were seen at one moment."""

    __slots__ = ("groups", "last_pid", "max_pid", "missed", "room", "when")

    def __init__(self, groups: Groups, last_pid: int | None, max_pid: int, when: float, room: int) -> None:
        self.groups = groups
        self.last_pid = last_pid
        """The pid that the kernel had given last; None if it does not tell."""
        self.max_pid = max_pid
        self.when = when
        self.missed: dict[int, float] = {}
        """New pids that belonged to no process, and when: the kernel gives a pid before the process shows."""
        self.room = room
        """How many pids may be added before all is listed again, so that the dead do not pile up."""


_known = _Known({}, None, 0, 0.0, 0)


def groups() -> Groups:
    """Return the processes of each process group, zombies too. Do not modify it. Empty without procfs."""
    global _known  # noqa: PLW0603 - one for the process is the point
    now = time.monotonic()
    known = _known
    last_pid = procfs.last_pid()  # first: a process that is made during the listing is asked for next time
    new = _new_pids(known, last_pid, now)
    if new is None:
        pids = procfs.pids()
        known = _Known(_listed(pids), last_pid, procfs.max_pid(), now, len(pids) + _MAX_NEW)
        if last_pid is not None:
            latest = range(max(2, last_pid + 1 - _MAX_FORKS), last_pid + 1)
            known.missed = dict.fromkeys(set(latest).difference(pids), now)
    else:
        again = [pid for pid, when in known.missed.items() if now - when < _MAX_FORK_S]
        processes = [pid for pid in (*again, *new) if procfs.is_process(pid)]
        missed = {pid: known.missed.get(pid, now) for pid in (*again, *new) if pid not in processes}
        known = _Known(_with(known.groups, processes), last_pid, known.max_pid, now, known.room - len(new))
        known.missed = missed
    _known = known
    return known.groups


def _new_pids(known: _Known, last_pid: int | None, now: float) -> list[int] | None:
    """Return the pids given since; None if all must be listed."""
    before = known.last_pid
    if last_pid is None or before is None or now - known.when > known.max_pid / _MAX_PIDS_A_SECOND:
        return None
    count = last_pid - before
    return list(range(before + 1, last_pid + 1)) if 0 <= count <= min(_MAX_NEW, known.room) else None


def _listed(pids: list[int]) -> Groups:
    found: Groups = {}
    for pid in pids:
        try:
            found.setdefault(os.getpgid(pid), []).append(pid)
        except OSError:  # gone
            continue
    return found


def _with(groups: Groups, pids: list[int]) -> Groups:
    for group, members in _listed(pids).items():
        groups = {**groups, group: [*groups.get(group, ()), *members]}
    return groups

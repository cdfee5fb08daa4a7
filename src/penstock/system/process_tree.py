"""Stop a child's whole process tree, so that the terminating signal reaches every member.

A process that dies may have forked a moment before, which leaves an orphan that can no longer be traced to
us. So all are stopped first: SIGSTOP cannot be caught or ignored, and a stopped process does not fork. Then
the walk is repeated until it finds no new process and none still runs. (If the signal arrives in the middle
of a fork, the kernel completes the fork first.) A process that had lost its parent before and has left the
process group is not found. Only a cgroup knows such a process.

Out of scope: the killing, and cgroups.
"""

from __future__ import annotations

import os
import signal

from penstock.system import procfs
from penstock.system.process import ProcessHandle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from penstock.system.process import Process, ProcessTable

__all__ = ["open_handles", "stop_tree"]

_MAX_ROUNDS = 200
"""Walks at most: a chain of forks may outrun several of them."""


def stop_tree(
    process: Process, handles: Sequence[ProcessHandle], processes: ProcessTable | None = None
) -> list[ProcessHandle]:
    """Stop a child, its group, the processes of `handles`, and all their descendants.

    Returns `handles` and those that were found, apart from the child. The caller closes each. `processes` is
    a `procfs.table()` that the caller has just read.
    """
    table = procfs.table() if processes is None else dict(processes)
    found = {descendant.pid: descendant for descendant in handles}
    seen = {process.pid, *found}
    process.send_signal(signal.SIGSTOP)
    for descendant in handles:
        descendant.send_signal(signal.SIGSTOP)
    for _ in range(_MAX_ROUNDS):
        # Before the table is read, so that the table has the forks of every process that has stopped.
        still = not any(map(_is_running, seen))
        # Reads new processes only. One that is gone stays in the table, with its parent.
        procfs.extend(table)
        new = []
        for entry in _tree_entries(process, found, table):
            if entry.pid not in seen:
                seen.add(entry.pid)
                handle = ProcessHandle.open(entry) if entry.alive else None
                if handle is not None:
                    handle.send_signal(signal.SIGSTOP)
                    now = procfs.read_stat(entry.pid)  # a process can leave its group, but not while stopped
                    handle.in_group = now is not None and process.is_group_member(now)
                    new.append(handle)
        if not process.is_alive_or_zombie():  # the walk may have begun at another process with its number
            for handle in new:
                handle.send_signal(signal.SIGCONT)
                handle.close()
            break
        found.update((handle.pid, handle) for handle in new)
        if not new:
            if still:
                break
            os.sched_yield()
    return list(found.values())


def _is_running(pid: int) -> bool:
    """Whether a process is runnable, so that it has not acted on its signal yet."""
    entry = procfs.read_stat(pid)
    return entry is not None and entry.state == "R"


def _tree_entries(process: Process, found: Iterable[int], table: ProcessTable) -> Iterator[procfs.Stat]:
    """Yield the members of a child's group, and the descendants of these, the child and `found`."""
    members = [entry for entry in table.values() if process.is_group_member(entry)]
    yield from members
    for root in (process.pid, *(entry.pid for entry in members), *found):
        yield from procfs.descendants_in(table, root)


def open_handles(pids: Iterable[int]) -> list[ProcessHandle]:
    """Open the living ones among these processes, which were seen a moment ago."""
    entries = [entry for pid in pids if (entry := procfs.read_stat(pid)) is not None and entry.alive]
    return [found for entry in entries if (found := ProcessHandle.open(entry)) is not None]

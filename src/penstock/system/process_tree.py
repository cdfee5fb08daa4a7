"""Holding still all that comes from a child, so that the signal which ends it reaches every one of them.

A process that dies may have forked a moment before, and its child, whose parent is dead then, looks like
anybody's. So all are stopped first: SIGSTOP cannot be caught or ignored, and who is stopped does not fork.
Then one looks for more, until none is found and nobody runs who was in the middle of a fork when the signal
came: the kernel finishes that one first. What had lost its parent before, and has left the process
group, is not found so; only a cgroup knows of it.

What may not live here: the killing, and cgroups.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from penstock.system import procfs
from penstock.system.process import ProcessHandle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from penstock.system.process import Process, ProcessTable

__all__ = ["open_handles", "stop_tree"]

_MAX_ROUNDS = 200
"""Looks at the most: a chain of forks may be quicker than each of them for a while."""


def stop_tree(
    process: Process, handles: Sequence[ProcessHandle], processes: ProcessTable | None = None
) -> list[ProcessHandle]:
    """Stop a child, its group, and all that comes from them and from those that are `held` already.

    Returns all that are held then; close each. `processes` is a `procfs.table()` that the caller has just
    read.
    """
    table = procfs.table() if processes is None else dict(processes)
    found = {descendant.pid: descendant for descendant in handles}
    seen = {process.pid, *found}
    process.send_signal(signal.SIGSTOP)
    for descendant in handles:
        descendant.send_signal(signal.SIGSTOP)
    for _ in range(_MAX_ROUNDS):
        # Looked at before the table is: what a fork was made of by one who has stopped is in the table.
        still = not any(map(_is_running, seen))
        # Only what is new is read from here on; who has gone stays in the table, with its parent.
        procfs.extend(table)
        new = []
        for entry in _tree_entries(process, found, table):
            if entry.pid not in seen:
                seen.add(entry.pid)
                handle = ProcessHandle.open(entry) if entry.alive else None
                if handle is not None:
                    handle.send_signal(signal.SIGSTOP)
                    now = procfs.read_stat(entry.pid)  # a group can be left, but not by who is stopped
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
    """Whether a process has a processor, or waits for one: it has yet to come upon its signal."""
    entry = procfs.read_stat(pid)
    return entry is not None and entry.state == "R"


def _tree_entries(process: Process, found: Iterable[int], table: ProcessTable) -> Iterator[procfs.Stat]:
    """What comes from a child, from the members of its group, and from others that are held."""
    members = [entry for entry in table.values() if process.is_group_member(entry)]
    yield from members
    for root in (process.pid, *(entry.pid for entry in members), *found):
        yield from procfs.descendants_in(table, root)


def open_handles(pids: Iterable[int]) -> list[ProcessHandle]:
    """Take hold of the living ones among these processes, which were seen a moment ago."""
    entries = [entry for pid in pids if (entry := procfs.read_stat(pid)) is not None and entry.alive]
    return [found for entry in entries if (found := ProcessHandle.open(entry)) is not None]

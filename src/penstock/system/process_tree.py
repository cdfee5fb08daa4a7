"""A child's whole process tree: who belongs to it, and the signals to all of it.

A process that dies may have forked a moment before, which leaves an orphan that can no longer be traced to
us. So all are stopped first: SIGSTOP cannot be caught or ignored, and a stopped process does not fork. Then
the walk is repeated until it finds no new process and none still runs. (If the signal arrives in the middle
of a fork, the kernel completes the fork first.)

A process belongs to the tree by its parent; or, if that has died, by the process group that the child leads;
or, if the child shares our group, by the mark in its environment (`process_mark`). A process that had lost
its parent before, and has left the group or lost the mark, is not found. Only a cgroup knows such a process.

The trees of many runs are stopped together, because each look at the machine's processes serves all of them.

Out of scope: when to send which signal, and cgroups.
"""

from __future__ import annotations

import os
import signal

from penstock.system import procfs
from penstock.system.process import ProcessHandle
from penstock.system.process_look import ProcessLook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from penstock.system.process import Process

__all__ = ["ProcessTree", "kill_trees", "open_handles", "stop_trees"]

_MAX_ROUNDS = 200
"""Walks at most: a chain of forks may outrun several of them."""
_ROUNDS_TO_STOP = 5
"""Rounds in which the known processes may stop before the first walk. Then one walk is mostly enough."""


class ProcessTree:
    """A child, and its descendants as far as they were found. For one thread at a time.

    Until the child is reaped, no other process group can have its id, so that no signal hits a stranger.
    """

    __slots__ = ("_borrowed", "_seen", "_threads", "handles", "process")

    def __init__(self, process: Process, handles: Sequence[ProcessHandle] = ()) -> None:
        self.process = process
        self.handles = handles
        """The others that were found, nearest first. A new sequence each time. `close` closes them."""
        self._borrowed = len(handles)
        self._seen: set[int] = set()
        self._threads: dict[int, int] = {}

    def others(self, look: ProcessLook) -> list[int]:
        """Return the other living members of its group, or all with its mark. Empty once it is reaped."""
        process = self.process
        if process.mark is not None:
            found = [pid for pid in look.marked(process.mark) if pid != process.pid]
        else:
            group = process.group
            found = [] if group is None else [pid for pid in look.in_group(group) if pid != group]
        if not found or not process.is_alive_or_zombie():
            return []
        entries = [(pid, procfs.read_stat(pid)) for pid in found]
        living = [
            pid
            for pid, entry in entries
            if entry is not None and entry.alive and process.group in (None, entry.group)
        ]
        # If it was reaped meanwhile, this could be the group of another process with its pid.
        return living if living and process.is_alive_or_zombie() else []

    def has_others(self, look: ProcessLook) -> bool:
        """Whether any other process still runs, among those found, in its group or with its mark."""
        return any(handle.alive() for handle in self.handles) or bool(self.others(look))

    def resume(self) -> None:
        """Send SIGCONT to all, those furthest from the root first.

        In another order, a group could become orphaned while it is stopped, and the kernel would send it a
        SIGHUP (setpgid(2)).
        """
        for handle in reversed(self.handles):
            if not handle.in_group:
                handle.send_signal(signal.SIGCONT)
        self.process.send_signal(signal.SIGCONT)

    def terminate(self, signum: int = signal.SIGTERM) -> None:
        """Send a signal to all, which were stopped, and wake them in the order of `resume` to act on it."""
        for handle in self.handles:
            # One that was in the group gets it by that, unless it left in this very moment.
            if not handle.in_group:
                handle.send_signal(signum)
        for handle in reversed(self.handles):
            if not handle.in_group:
                handle.send_signal(signal.SIGCONT)
        self.process.send_signal(signum, signal.SIGCONT)

    def kill(self) -> None:
        """Send SIGKILL to all, to each one by itself."""
        self.process.send_signal(signal.SIGKILL)
        for handle in self.handles:
            handle.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Close the handles. Idempotent."""
        for handle in self.handles:
            handle.close()

    def close_new(self) -> None:
        """Close those handles that it was not made with."""
        for handle in self.handles[self._borrowed :]:
            handle.close()

    # The steps of `stop_trees`.

    def _begin(self) -> None:
        """Send SIGSTOP to the known ones."""
        self._seen = {self.process.pid, *(handle.pid for handle in self.handles)}
        self._threads = {}
        self.process.send_signal(signal.SIGSTOP)
        for handle in self.handles:
            handle.send_signal(signal.SIGSTOP)

    def _is_still(self) -> bool:
        """Whether none of the known is runnable, so that each has acted on its signal."""
        still = True
        for pid in self._seen:
            entry = procfs.read_stat(pid)
            if entry is not None:
                self._threads[pid] = entry.threads
                # The state is that of the main thread. Another one may still be in the middle of a fork.
                if entry.state == "R" or (entry.threads > 1 and procfs.has_running_thread(pid)):
                    still = False
        return still

    def _find(self, look: ProcessLook) -> bool:
        """Stop those that are new. Return whether there may be more."""
        process = self.process
        new: list[ProcessHandle] = []
        more = False
        others = self.others(look)
        try:
            for pid in (*others, *look.descendants((*self._seen, *others), self._threads)):
                if pid in self._seen:
                    continue
                self._seen.add(pid)
                more = True  # if it has gone, the list that it stood in may have missed another
                entry = procfs.read_stat(pid)
                handle = ProcessHandle.open(entry) if entry is not None and entry.alive else None
                if handle is not None:
                    new.append(handle)
                    handle.send_signal(signal.SIGSTOP)
                    now = procfs.read_stat(pid)  # a process can leave its group, but not while stopped
                    handle.in_group = now is not None and process.group == now.group
            if new and not process.is_alive_or_zombie():  # another one with its number may have been walked
                for handle in new:
                    handle.send_signal(signal.SIGCONT)
                    handle.close()
                return False
        except BaseException:
            self.handles = [*self.handles, *new]
            raise
        if new:
            self.handles = [*self.handles, *new]
        return more


def stop_trees(trees: Iterable[ProcessTree]) -> None:
    """Stop all processes of some trees, and add to `handles` those that were found."""
    pending = list(trees)
    for tree in pending:
        tree._begin()  # noqa: SLF001 - the steps are private to this module
    look: ProcessLook | None = None
    for number in range(_MAX_ROUNDS):
        # Before the look, so that this shows the forks of every process that has stopped.
        still = [tree._is_still() for tree in pending]  # noqa: SLF001
        look = ProcessLook(look)
        impatient = number >= _ROUNDS_TO_STOP
        pending = [
            tree
            for tree, is_still in zip(pending, still, strict=True)
            if not (is_still or impatient) or tree._find(look) or not is_still  # noqa: SLF001
        ]
        if not pending:
            return
        os.sched_yield()


def kill_trees(due: Iterable[tuple[ProcessTree, Callable[[], None]]]) -> None:
    """Stop all processes of some trees, and call what kills each tree."""
    pairs = list(due)
    stop_trees(tree for tree, _ in pairs)
    for _, kill in pairs:
        kill()


def open_handles(pids: Iterable[int]) -> list[ProcessHandle]:
    """Open the living ones among these processes, which were seen a moment ago."""
    entries = [entry for pid in pids if (entry := procfs.read_stat(pid)) is not None and entry.alive]
    return [found for entry in entries if (found := ProcessHandle.open(entry)) is not None]

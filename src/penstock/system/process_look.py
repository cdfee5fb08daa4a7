"""One look at the processes of this machine, read as far as somebody asks.

A look answers two questions: which processes are in a group, and which are the children of a process. Ending
a thousand runs needs the answers for a thousand trees, so all trees that are ended together share one look.

The groups (`process_groups`) say where to look; the caller asks again whether a process is in the group
before it acts. Children are read when they are asked for, if the kernel lists them (`features.CHILD_LISTS`):
then a walk costs as much as the tree has processes, however many others there are. Otherwise the parents of
all processes are read, once a look: ten milliseconds for a thousand processes.

A look is for one thread, and for one moment: whoever acts on "there are no others" takes a new one first.
"""

from __future__ import annotations

import os

from penstock.system import features, procfs
from penstock.system.process_groups import groups
from penstock.system.process_mark import marked_children, marks_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["ProcessLook"]


class ProcessLook:
    """The processes of the machine at one moment."""

    __slots__ = ("_children", "_groups", "_marks", "parents")

    def __init__(self, before: ProcessLook | None = None) -> None:
        """`before` is an earlier look of the same search.

        A process that has died since is still known as the parent of its children.
        """
        self._groups: dict[int, list[int]] | None = None
        self._marks: dict[str, list[int]] | None = None
        self._children: dict[int, list[int]] | None = None
        self.parents: dict[int, int] = {} if before is None else before.parents
        """The parents that were read, if the kernel does not list children."""

    def in_group(self, group: int) -> Sequence[int]:
        """Return the processes that were in a group, zombies too."""
        if self._groups is None:
            self._groups = groups()
        return self._groups.get(group, ())

    def children(self, pid: int, threads: int = 0) -> Sequence[int]:
        """Return the children of a process, zombies too. `threads` is the number of its threads, if known."""
        if features.CHILD_LISTS:
            return procfs.children(pid, threads)
        if self._children is None:
            self._read_parents()
            children: dict[int, list[int]] = {}
            self._children = children
            for child, parent in self.parents.items():
                children.setdefault(parent, []).append(child)
        return self._children.get(pid, ())

    def marked(self, mark: str) -> Sequence[int]:
        """Return the processes of our own group that have a mark, zombies too, but no leader of a tree."""
        if self._marks is None:
            marks: dict[str, list[int]] = {}
            self._marks = marks
            for pid in self.in_group(os.getpgrp()):
                if pid not in marked_children:
                    for found in marks_of(pid):
                        marks.setdefault(found, []).append(pid)
        return self._marks.get(mark, ())

    def descendants(self, roots: Iterable[int], threads: Mapping[int, int]) -> Iterator[int]:
        """Yield the descendants of processes, nearest first, without the roots and without orphans.

        `threads` has the number of threads of those that are known to have stopped.
        """
        level = list(dict.fromkeys(roots))
        seen = set(level)
        while level:
            found = [child for pid in level for child in self.children(pid, threads.get(pid, 0))]
            # Entries are read at different moments, so a reused pid could make a cycle.
            level = [pid for pid in dict.fromkeys(found) if pid not in seen]
            seen.update(level)
            yield from level

    def _read_parents(self) -> None:
        """Read the processes that are new since the look before."""
        parents = self.parents
        for pid in procfs.pids():
            if pid not in parents:
                entry = procfs.read_stat(pid)
                if entry is not None:
                    parents[pid] = entry.parent

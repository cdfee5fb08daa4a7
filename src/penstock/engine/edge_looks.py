# ruff: noqa: SLF001 - a look at a port is a part of it that few runs need
"""Look at an edge of a run without touching it: its bytes, its fill, and who waits.

Three sources, of which an edge has one or two:

* An end that Penstock itself uses: a stream of a Python stage, or a port that feeds or drains. It has counted
  its bytes, it knows whether it waits, and its pipe tells its fill.
* The process at an end that a command uses: it sleeps in a read or a write of this very pipe, or it does not
  (`system.process_activity`).
* A regular file that a command reads or writes itself: its position.

The pipe of an edge is known by device and inode: from our end if there is one, else from the standard streams
of the commands at both ends.

Out of scope: what the state of the edges means for a run (`core.bottleneck`), and files as progress.
"""

from __future__ import annotations

import os
import stat

from penstock.core.bottleneck import EMPTY, FULL
from penstock.engine.graph_parts import STDIN, STDOUT
from penstock.engine.ports import CapturePort, DrainedPort, StdinPort, StdoutPort
from penstock.engine.stage_looks import StageLook
from penstock.streams.stage_ends import Output
from penstock.system.process_activity import pipe_of
from penstock.system.unread import pipe_level, pipe_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from penstock.engine.graph_parts import PlanEdge
    from penstock.engine.tree import Counted
    from penstock.streams.probe import Probe
    from penstock.system.process_activity import PipeId
    from penstock.system.unread import Descriptor

__all__ = ["EdgeLook"]

_NOTHING: Probe = (None, None, None)


class EdgeLook:
    """Looks at one edge again and again. After `refresh` its attributes say what was seen.

    `written` and `read` are the bytes that went in, and that came out. `state` is that of
    `core.bottleneck`. None is what cannot be known.
    """

    def __init__(
        self,
        edge: PlanEdge,
        tail: StageLook | StdinPort | None,
        head: StageLook | StdoutPort | None,
    ) -> None:
        """`tail` and `head` are the stages, or the ports of the ends of the graph."""
        self.edge = edge
        self._tail = tail
        self._head = head
        self._pipe: PipeId | None = None
        self.written: int | None = None
        self.read: int | None = None
        self.count: int | None = None
        self.fill: int | None = None
        self.capacity: int | None = None
        self.spooled = 0
        self.writer_waits: bool | None = None
        self.reader_waits: bool | None = None

    @property
    def is_full(self) -> bool:
        """Whether a writer would have to wait, at once or soon."""
        return self.state == FULL

    @property
    def state(self) -> str | None:
        """FULL if its writer waits or would soon, EMPTY if its reader does, else None."""
        if self.writer_waits:
            return FULL
        if self.reader_waits or self.fill == 0:
            return EMPTY
        if self.fill is not None and self.capacity is not None and 2 * self.fill > self.capacity:
            return FULL
        return None

    def refresh(self) -> None:
        """Look at it now; the stages at both ends were looked at just before."""
        edge, tail, head = self.edge, self._tail, self._head
        written, writer_waits, entry = _probe_tail(edge, tail)
        read, reader_waits, way_out = _probe_head(edge, head)
        self.fill, self.capacity = self._level(entry, way_out) or (None, None)
        self.writer_waits = self._sleeps(tail, writing=True) if writer_waits is None else writer_waits
        self.reader_waits = self._sleeps(head, writing=False) if reader_waits is None else reader_waits
        if self.reader_waits and self.fill is None and head is not None:
            self.fill = 0  # it sleeps, so the pipe is empty
        self.count = read if written is None else written
        if self.fill is not None:
            if written is not None and read is not None:
                self.fill = max(0, written - read)  # a chunk that was delivered in part counts so far
            elif written is None and read is not None:
                written = read + self.fill
            elif read is None and written is not None:
                read = max(0, written - self.fill)
        self.written, self.read = written, read
        end = _end_of(edge, tail, writing=True)
        self.spooled = end.spooled_now if isinstance(end, Output) else 0

    def set_count(self, count: int) -> None:
        """Set the bytes that it has carried, which are known in another way."""
        self.count = self.written = self.read = count

    def _level(self, *holders: Descriptor | tuple[int, int] | None) -> tuple[int, int] | None:
        """Return fill and capacity by the end at hand, and learn which pipe it is."""
        for holder in holders:
            if isinstance(holder, tuple):
                return holder
            level = None if holder is None else pipe_level(holder)
            if level is not None and holder is not None:
                if self._pipe is None:
                    self._pipe = _id_of(holder)
                return level
        return None

    def _sleeps(self, stage: StageLook | StdinPort | StdoutPort | None, *, writing: bool) -> bool | None:
        """Whether the process of a stage sleeps in a write to the edge, or in a read; None if unknown."""
        activity = stage.activity if isinstance(stage, StageLook) else None
        if activity is None:
            return None
        if self._pipe is None:
            self._pipe = self._pipe_of_commands()
        if self._pipe in (activity.writing if writing else activity.reading):
            return True
        is_main = (self.edge.source_port == STDOUT) if writing else (self.edge.target_port == STDIN)
        if is_main and ("write" if writing else "read") in activity.waits_unknown:
            return True
        return False if self._pipe is not None else None

    def _pipe_of_commands(self) -> PipeId | None:
        """Return the pipe between two commands. If they do not agree, one has replaced its stream."""
        found = set()
        for stage, number, is_main in (
            (self._tail, 1, self.edge.source_port == STDOUT),
            (self._head, 0, self.edge.target_port == STDIN),
        ):
            if isinstance(stage, StageLook) and stage.pid is not None and is_main:
                found.add(pipe_of(stage.pid, number))
        found.discard(None)
        return found.pop() if len(found) == 1 else None


def _end_of(edge: PlanEdge, stage: object, *, writing: bool) -> Counted | None:
    """Return the end that a stage was given; None if it has none yet, and for a port."""
    if not isinstance(stage, StageLook):
        return None
    leaf = stage.leaf
    if writing:
        return leaf.stdout if edge.source_port == STDOUT else leaf.ends.get(edge.source_port)
    return leaf.stdin if edge.target_port == STDIN else leaf.ends.get(edge.target_port)


def _probe_tail(edge: PlanEdge, tail: StageLook | StdinPort | None) -> Probe:
    if isinstance(tail, StdinPort):
        return _probe_first(tail._feeder, tail.stream, tail.file) or (tail._size, None, None)
    return _probe_first(_end_of(edge, tail, writing=True)) or _NOTHING


def _probe_head(edge: PlanEdge, head: StageLook | StdoutPort | None) -> Probe:
    if not isinstance(head, StdoutPort):
        return _probe_first(_end_of(edge, head, writing=False)) or _NOTHING
    tap = head._tap if isinstance(head, CapturePort) else None
    copier = head._drainer if isinstance(head, DrainedPort) else None
    return _probe_first(tap, copier, head.reader, head.stream) or (None, None, head.file)


def _probe_first(*ends: Any) -> Probe | None:
    """Return what the first of these shows that is there."""
    for end in ends:
        if end is not None:
            found: Probe = end.probe()
            return found
    return None


def _id_of(end: Descriptor) -> PipeId | None:
    try:
        found = os.fstat(pipe_number(end))
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISFIFO(found.st_mode) and not end.closed else None

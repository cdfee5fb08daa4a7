"""How far a run is in a regular file that a stage reads as its stdin, or writes as its stdout, itself.

A command has the file as a descriptor, whose position the kernel tells. A program that maps its input, or
that reads it at other positions, does not move that. A Python stage uses a descriptor of this process.

The bytes of such an edge are known only if the file was opened for the run, at its beginning, and only while
the process lives. The part of the input that was read stays as it was last seen.
"""

from __future__ import annotations

import os
import stat

from penstock.streams.stage_ends import Input
from penstock.system.process_activity import file_position
from penstock.system.unread import pipe_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.engine.edge_looks import EdgeLook
    from penstock.engine.run_plan import RunPlan
    from penstock.engine.stage_looks import StageLook

__all__ = ["InputFile", "OutputFile"]

_FILES = frozenset({"path", "descriptor", "inherit"})
"""The kinds of stdin that may be a file which the first stage has itself."""


class InputFile:
    """The stdin of a run, if it is a regular file. `position` and `size` are None if it is not."""

    def __init__(self, plan: RunPlan, stages: Sequence[StageLook]) -> None:
        first = plan.graph.first
        self._stage = stages[first.index] if plan.source.kind in _FILES else None
        self._edge = first.inputs[0].index
        self._from_start = plan.source.kind == "path"
        self._file: tuple[int, int] | None = None
        self.position: int | None = None
        self.size: int | None = None

    @property
    def going(self) -> bool:
        """Whether the stage that reads it goes on."""
        return self._stage is not None and self._stage.going

    def refresh(self, edges: Sequence[EdgeLook]) -> None:
        """Look at it now, and set what its edge has carried."""
        stage = self._stage
        if stage is None or not stage.going:
            return
        if stage.pid is None:
            self._look_at_stream(stage.leaf.stdin)
            return
        found = file_position(stage.pid, 0)
        if found is None or self._file not in (None, found.file):  # the program has another stdin now
            return
        self._file, self.position, self.size = found.file, found.position, found.size
        if self._from_start:
            edges[self._edge].set_count(found.position)

    def _look_at_stream(self, end: object) -> None:
        holder = end.probe()[2] if isinstance(end, Input) else None
        if holder is None or isinstance(holder, tuple):
            return
        try:
            number = pipe_number(holder)
            status = os.fstat(number)
            if not stat.S_ISREG(status.st_mode):
                return
            position = os.lseek(number, 0, os.SEEK_CUR)
        except (OSError, ValueError):
            return
        if not holder.closed:  # else another thread has closed it, and the number may be another file's
            self.position, self.size = position, status.st_size


class OutputFile:
    """The stdout of a run, if it is a path that the last stage writes itself, from the beginning."""

    def __init__(self, plan: RunPlan, stages: Sequence[StageLook]) -> None:
        last = plan.graph.last
        # Two outputs that are one file share a position.
        is_own = plan.sink.kind == "path" and not plan.outputs
        self._stage = stages[last.index] if is_own else None
        self._edge = last.outputs[0].index

    def refresh(self, edges: Sequence[EdgeLook]) -> None:
        """Set what the edge to the file has carried."""
        stage = self._stage
        if stage is None or stage.pid is None or not stage.going:
            return
        found = file_position(stage.pid, 1)
        if found is not None and not found.appends:
            edges[self._edge].set_count(found.position)

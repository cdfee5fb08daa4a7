"""Look at a stage of a run: at its processes if it has any, else at its streams and its thread.

A part of a chain shares its thread with the others. Each part is a generator that asks the one before it, so
the first part that is on the stack of the thread is the one that works. Those after it wait for it, and those
before it wait until their last chunk is used up.

Out of scope: the edges (`engine.edge_looks`), and what all of it means (`engine.snapshots`).
"""

from __future__ import annotations

from penstock.stages.base import traits_of
from penstock.system.process_activity import ProcessTreeActivity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from penstock.engine.tree import StageRun
    from penstock.stages.running import Running
    from penstock.system.process_activity import Activity
    from penstock.system.process_look import ProcessLook

    class Edge(Protocol):
        """An edge of the stage, as it was seen; see `engine.edge_looks`."""

        writer_waits: bool | None
        reader_waits: bool | None
        fill: int | None

        @property
        def is_full(self) -> bool: ...


__all__ = ["StageLook", "judge_chain"]


_STATES = {"T": "stopped", "Z": "ended", "X": "ended"}
"""The states of a stage whose process is in one of these, by the letters of proc(5)."""


class StageLook:
    """Looks at one stage again and again.

    `activity` is that of its processes, None if it has none or they cannot be looked at. `state` is the one
    of `StageSnapshot`.
    """

    def __init__(self, leaf: StageRun) -> None:
        self.leaf = leaf
        self.kind = traits_of(leaf.stage).kind
        self.pid: int | None = None
        self.activity: Activity | None = None
        self.state = "starting"
        self._processes: ProcessTreeActivity | None = None

    @property
    def going(self) -> bool:
        """Whether it has begun and not ended."""
        return self.state not in ("starting", "ended")

    @property
    def is_on_stack(self) -> bool:
        """Whether it is a part of a chain that the thread of the chain is in."""
        running = self.leaf.running
        return running is not None and running.is_on_stack

    @property
    def cpu(self) -> float | None:
        """Seconds of processor time since its start; for a command also once it has ended."""
        if self.activity is not None:
            return self.activity.cpu
        running = self.leaf.running
        if self.kind != "command" or running is None or not running.done:
            return None
        usage = running.usage or running.status
        return None if usage is None else usage.user_time + usage.system_time

    def refresh(self, processes: ProcessLook) -> None:
        """Look at its processes."""
        running = self.leaf.running
        self.activity = None
        if running is None or running.pid is None:
            return
        if self._processes is None or self.pid != running.pid:
            self.pid = running.pid
            self._processes = ProcessTreeActivity(running.pid)
        if not running.done:
            running.ask_streams()
            activity = self._processes.look(processes)
            # After the look: its pid may have been given away before.
            self.activity = None if running.done else activity

    def judge(self, inputs: Sequence[Edge], outputs: Sequence[Edge], *, run_ended: bool) -> None:
        """Decide on its state, once all stages and edges have been looked at."""
        running = self.leaf.running
        if running is None:
            self.state = "ended" if run_ended or self.leaf.end is not None else "starting"
        elif running.done:
            self.state = "ended"
        elif running.hand_over is not None:
            self.state = "starting"
        elif self.pid is None:
            self.state = _state_of_thread(inputs, outputs)
        else:
            self.state = self._state_of_processes(running, inputs, outputs)

    def _state_of_processes(self, running: Running, inputs: Sequence[Edge], outputs: Sequence[Edge]) -> str:
        activity = self.activity
        if activity is None:
            return "stopped" if running.stop_signal() is not None else "running"
        if activity.running or activity.state in _STATES:
            return _STATES.get(activity.state, "running")
        if any(edge.writer_waits or (activity.polling and edge.is_full) for edge in outputs):
            return "writing"
        if any(edge.reader_waits or (activity.polling and edge.fill == 0) for edge in inputs):
            return "reading"
        return "running"


def _state_of_thread(inputs: Sequence[Edge], outputs: Sequence[Edge]) -> str:
    if any(edge.writer_waits for edge in outputs):
        return "writing"
    if any(edge.reader_waits or (edge.reader_waits is None and edge.fill == 0) for edge in inputs):
        return "reading"
    if any(edge.writer_waits is None and edge.is_full for edge in outputs):
        return "writing"
    return "running"


def judge_chain(parts: Sequence[StageLook], edges: Sequence[Edge]) -> None:
    """Decide on the states of the stages of a chain, and of the edges between them.

    `edges` are those around the parts: the input of the first one, and the output of each.
    """
    going = [part for part in parts if part.going]
    if not going:
        return
    last = len(parts)
    working = next((place for place, part in enumerate(parts) if part.is_on_stack), last)
    if edges[-1].writer_waits:
        working = last
    for place, part in enumerate(parts):
        if part.going:
            waits = place > working or bool(edges[0].reader_waits)
            part.state = "writing" if place < working else "reading" if waits else "running"
    if working == last and not edges[-1].writer_waits:
        going[-1].state = "running"  # its output is being written
    for place, edge in enumerate(edges[1:-1]):
        edge.writer_waits = working > place
        edge.reader_waits = not edge.writer_waits

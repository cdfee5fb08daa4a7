"""Take snapshots of a run. Imported when the first one is asked for; a run that is not asked pays nothing.

A look at a run reads the counters of its streams, the fill of its pipes, and a few small files of /proc for
each process. It touches no byte, opens no end of a pipe, and waits for no lock of a stage. It is taken by the
thread that asks. Rates and the bottleneck are about the last 3 seconds, but somebody may ask more rarely. So
while somebody does, a worker thread looks ten times a second in between. It stops 3 seconds after the last
question, and at the end of the run.

The timer that wakes the worker refers to nothing but a weak reference: the thread of the reactor must not be
the last to hold a run, because finalizers of the user's objects would run there.

Out of scope: what a look sees of a stage (`engine.stage_looks`) and of an edge (`engine.edge_looks`), and the
rules (`core.bottleneck`, `core.look_history`, `core.progress_estimate`).
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from functools import partial

from penstock.core.bottleneck import EdgeState, find_bottleneck
from penstock.core.look_history import LookHistory
from penstock.core.progress_estimate import estimate
from penstock.core.snapshot import EdgeSnapshot, Snapshot, StageSnapshot
from penstock.core.timing import timing
from penstock.engine.edge_looks import EdgeLook
from penstock.engine.file_looks import InputFile, OutputFile
from penstock.engine.graph_parts import STDIN, STDOUT
from penstock.engine.results import hidden_ends
from penstock.engine.stage_looks import StageLook, judge_chain
from penstock.runtime import thread_pool
from penstock.system.process_look import ProcessLook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeVar

    from penstock.core.bottleneck import Bottleneck
    from penstock.engine.execution import Execution
    from penstock.engine.ports import StdinPort, StdoutPort

    _Number = TypeVar("_Number", int, float)

__all__ = ["RunLooks"]

_INTERVAL_S = 0.25
"""Seconds between two looks while somebody asks."""
_LATE_S = 1.0
"""Seconds by which a look may come late on a busy machine."""


class RunLooks:
    """The looks at one run."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        graph = execution.plan.graph
        self._names = {end.id: end.name for end in (*graph.sources, *graph.sinks)}
        self._names |= {leaf.node.id: leaf.stage.name for leaf in execution.leaves}
        self._hidden = hidden_ends(execution.plan)
        self._stages = [StageLook(leaf) for leaf in execution.leaves]
        self._edges = self._make_edges()
        self._chains = self._find_chains()
        self._input = InputFile(execution.plan, self._stages)
        self._output = OutputFile(execution.plan, self._stages)
        # A kept worker process may have worked for another stage before.
        known = [0.0 if stage.kind == "command" else None for stage in self._stages]
        zeros = [*known, *([0] * (2 * len(self._edges) + 1))]
        self._history = LookHistory(len(self._edges), execution.began, zeros)
        # Reentrant, because a signal handler may ask in the middle of a look of its own thread.
        self._lock = threading.RLock()
        self._asked = self._looked = 0.0
        self._due = 0.0
        """When the next look in between is to be, by `time.monotonic()`; 0 if none is."""

    def take(self) -> Snapshot:
        """Look now, and return what is known. From any thread."""
        with self._lock:
            self._asked = time.monotonic()
            ended = self._look()
            snapshot = self._snapshot(ended)
        # If no thread was available for a look, or it has raised, this begins anew.
        if not ended and self._asked > self._due + _LATE_S:
            self._call_later(_INTERVAL_S)
        return snapshot

    # Looking in between.

    def _call_later(self, seconds: float) -> None:
        self._due = time.monotonic() + seconds
        self._execution.reactor.call_at(self._due, partial(_submit, weakref.ref(self)))

    def sample(self) -> None:
        """Look if nobody has for a while, and set the timer for the next time. In a worker."""
        now = time.monotonic()
        if now - self._asked > timing.look_span_s or self._execution.ended.is_set():
            self._due = 0.0
            return
        with self._lock:
            if now - self._looked >= _INTERVAL_S:
                self._look()
        self._call_later(max(_INTERVAL_S / 2, self._looked + _INTERVAL_S - time.monotonic()))

    # One look.

    def _look(self) -> bool:
        """Look at everything; return whether the run has ended."""
        execution = self._execution
        ended = execution.ended.is_set()
        processes = ProcessLook()
        for stage in self._stages:
            stage.refresh(processes)
        for edge in self._edges:
            edge.refresh()
        for stage in self._stages:
            stage.judge(run_ended=ended)
        for chain in self._chains:
            judge_chain(chain)
        self._input.refresh(self._edges)
        self._output.refresh(self._edges)
        if not ended:
            self._looked = now = time.monotonic()
            self._history.add(now, [edge.state for edge in self._edges], self._counters())
        return ended

    def _counters(self) -> list[float | None]:
        return [
            *(None if stage.activity is None else stage.activity.cpu for stage in self._stages),
            *(edge.written for edge in self._edges),
            *(edge.read for edge in self._edges),
            self._input.position,
        ]

    # The snapshot.

    def _snapshot(self, ended: bool) -> Snapshot:  # noqa: FBT001
        execution, history = self._execution, self._history
        elapsed = execution.elapsed if ended else time.monotonic() - execution.began
        slowest = None if ended else self._bottleneck()
        pace = None if ended else history.rate(len(self._stages) + 2 * len(self._edges))
        going = self._input.going and not ended
        fraction, eta = estimate(self._input.position, self._input.size, pace if going else None)
        end = None
        if slowest is not None and slowest.end is not None:
            edge = self._edges[slowest.end].edge
            end = self._names[edge.source if edge.tail is None else edge.target]
        return Snapshot(
            elapsed,
            tuple([self._stage(index, ended) for index in range(len(self._stages))]),
            tuple(
                [
                    self._edge(index, ended)
                    for index, each in enumerate(self._edges)
                    if each.edge.source not in self._hidden
                ]
            ),
            fraction,
            eta if going else None,
            None if slowest is None else self._stages[slowest.stage].leaf.stage.name,
            None if slowest is None else slowest.stage,
            ended,
            end,
        )

    def _bottleneck(self) -> Bottleneck | None:
        edges = [
            EdgeState(each.edge.tail, each.edge.head, self._history.judge(index))
            for index, each in enumerate(self._edges)
        ]
        return find_bottleneck([stage.going for stage in self._stages], edges)

    def _stage(self, index: int, ended: bool) -> StageSnapshot:  # noqa: FBT001
        stage, history = self._stages[index], self._history
        activity, leaf = stage.activity, stage.leaf
        inputs = [edge.index for edge in leaf.node.inputs]
        outputs = [edge.index for edge in leaf.node.outputs]
        first, live = len(self._stages), stage.going and not ended
        if not live:
            activity = None
        return StageSnapshot(
            leaf.stage.name,
            stage.state,
            None if activity is None else history.rate(index),
            None if activity is None else activity.rss,
            _total([self._edges[place].read for place in inputs]),
            _total([self._edges[place].written for place in outputs]),
            _total([history.rate(first + len(self._edges) + place) for place in inputs]) if live else None,
            _total([history.rate(first + place) for place in outputs]) if live else None,
            leaf.node.id,
            stage.kind,
            leaf.node.branch,
            stage.pid,
        )

    def _edge(self, index: int, ended: bool) -> EdgeSnapshot:  # noqa: FBT001
        each, history, first = self._edges[index], self._history, len(self._stages)
        edge = each.edge
        rate = None
        if not ended:
            counted_out = each.count is not None and each.count != each.written
            rate = history.rate(first + index + (len(self._edges) if counted_out else 0))
        full, empty = (0.0, 0.0) if ended else history.shares(index)
        return EdgeSnapshot(
            self._names[edge.source],
            self._names[edge.target],
            self._execution.plan.kinds[edge.index],
            each.count,
            rate,
            each.fill,
            each.capacity,
            each.spooled,
            edge.source,
            edge.target,
            full,
            empty,
        )

    # The parts of the run.

    def _make_edges(self) -> list[EdgeLook]:
        execution, stages = self._execution, self._stages
        sources: dict[str, StdinPort | None] = {STDIN: execution.source}
        sinks: dict[str, StdoutPort | None] = {STDOUT: execution.sink}
        if execution.branches is not None:
            sources |= {end.id: port for end, port in execution.branches.sources}
            sinks |= {end.id: port for end, port in execution.branches.sinks}
        found = []
        for edge in execution.plan.graph.edges:
            tail = sources.get(edge.source) if edge.tail is None else stages[edge.tail]
            head = sinks.get(edge.target) if edge.head is None else stages[edge.head]
            look = EdgeLook(edge, tail, head)
            found.append(look)
            if edge.tail is not None:
                stages[edge.tail].outputs.append(look)
            if edge.head is not None:
                stages[edge.head].inputs.append(look)
        return found

    def _find_chains(self) -> list[Sequence[StageLook]]:
        """Return the stages that share a thread, for each chain."""
        chains: list[list[StageLook]] = []
        fused = False
        for stage in self._stages:
            if fused:
                chains[-1].append(stage)
            else:
                chains.append([stage])
            fused = self._execution.plan.kinds[stage.leaf.node.outputs[0].index] == "fused"
        return [chain for chain in chains if len(chain) > 1]


def _submit(reference: weakref.ref[RunLooks]) -> None:
    """Have a worker look. In the reactor's thread, which must not hold the run."""
    with contextlib.suppress(RuntimeError):  # no thread is available: the next question begins anew
        thread_pool.submit(partial(_sample, reference))


def _sample(reference: weakref.ref[RunLooks]) -> None:
    looks = reference()
    if looks is not None:
        looks.sample()


def _total(values: Sequence[_Number | None]) -> _Number | None:
    """Return the sum; None if one of them is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None

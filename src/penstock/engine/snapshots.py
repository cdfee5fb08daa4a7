"""Take snapshots of a run. Imported when the first one is asked for; a run that is not asked pays nothing.

A look at a run reads the counters of its streams, the fill of its pipes, and a few small files of /proc for
each process. It touches no byte, opens no end of a pipe, and waits for no lock of a stage. It is taken by the
thread that asks. Rates and the bottleneck are about the last 3 seconds, but somebody may ask more rarely. So
while somebody does, a worker thread looks four times a second in between. It stops 3 seconds after the last
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
from penstock.core.profile import Sample
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
    from penstock.runtime.reactor import Reactor

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
        self._clock = _Clock()

    def take(self) -> Snapshot:
        """Look now, and return what is known. From any thread."""
        clock = self._clock
        with self._lock:
            clock.asked = time.monotonic()
            ended = self._look()
            snapshot = self._snapshot(ended=ended)
        # If no thread was available for a look, or it has raised, this begins anew.
        if not ended and clock.asked > clock.due + _LATE_S:
            self._call_later()
        return snapshot

    def take_sample(self) -> Sample | None:
        """Look now, and return what has been counted so far; None if the run has ended. From any thread."""
        with self._lock:
            if self._look():
                return None
            stages, edges = self._stages, self._edges
            inputs = [[edges[edge.index].read for edge in stage.leaf.node.inputs] for stage in stages]
            outputs = [[edges[edge.index].written for edge in stage.leaf.node.outputs] for stage in stages]
            return Sample(
                self._clock.looked - self._execution.began,
                tuple([stage.state for stage in stages]),
                tuple([stage.cpu for stage in stages]),
                tuple([None if stage.activity is None else stage.activity.rss for stage in stages]),
                tuple(map(_total, inputs)),
                tuple(map(_total, outputs)),
            )

    # Looking in between.

    def _call_later(self) -> None:
        _call_later(weakref.ref(self), self._clock, self._execution.reactor)

    def sample(self) -> None:
        """Look, and set the timer for the next time. In a worker."""
        if self._execution.ended.is_set():
            return
        with self._lock:
            self._look()
        self._call_later()

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
            node = stage.leaf.node
            inputs = [self._edges[edge.index] for edge in node.inputs]
            stage.judge(inputs, [self._edges[edge.index] for edge in node.outputs], run_ended=ended)
        for parts, edges in self._chains:
            judge_chain(parts, edges)
        self._input.refresh(self._edges)
        self._output.refresh(self._edges)
        if not ended:
            self._clock.looked = now = time.monotonic()
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

    def _snapshot(self, *, ended: bool) -> Snapshot:
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
            tuple([self._stage(index, ended=ended) for index in range(len(self._stages))]),
            tuple(
                [
                    self._edge(index, ended=ended)
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

    def _stage(self, index: int, *, ended: bool) -> StageSnapshot:
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

    def _edge(self, index: int, *, ended: bool) -> EdgeSnapshot:
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
            found.append(EdgeLook(edge, tail, head))
        return found

    def _find_chains(self) -> list[tuple[Sequence[StageLook], Sequence[EdgeLook]]]:
        """Return the stages that share a thread, and the edges around them, for each chain."""
        chains: list[list[StageLook]] = []
        fused = False
        for stage in self._stages:
            if fused:
                chains[-1].append(stage)
            else:
                chains.append([stage])
            fused = self._execution.plan.kinds[stage.leaf.node.outputs[0].index] == "fused"
        return [(chain, self._edges_around(chain)) for chain in chains if len(chain) > 1]

    def _edges_around(self, chain: Sequence[StageLook]) -> list[EdgeLook]:
        nodes = [part.leaf.node for part in chain]
        return [
            self._edges[edge.index] for edge in (nodes[0].inputs[0], *(node.outputs[0] for node in nodes))
        ]


class _Clock:
    """When somebody asked, when a look was taken, and when the next one is due, by `time.monotonic()`."""

    __slots__ = ("asked", "due", "looked")

    def __init__(self) -> None:
        self.asked = self.looked = self.due = 0.0


def _call_later(reference: weakref.ref[RunLooks], clock: _Clock, reactor: Reactor) -> None:
    clock.due = clock.looked + _INTERVAL_S
    reactor.call_at(clock.due, partial(_tick, reference, clock, reactor))


def _tick(reference: weakref.ref[RunLooks], clock: _Clock, reactor: Reactor) -> None:
    """Have a worker look if nobody has for a while. In the reactor's thread, which must not hold the run."""
    now = time.monotonic()
    if now - clock.asked > timing.look_span_s:
        clock.due = 0.0
    elif now - clock.looked < _INTERVAL_S:
        _call_later(reference, clock, reactor)
    else:
        with contextlib.suppress(RuntimeError):  # no thread is available: a later question begins anew
            thread_pool.submit(partial(_sample, reference))


def _sample(reference: weakref.ref[RunLooks]) -> None:
    looks = reference()
    if looks is not None:
        looks.sample()


def _total(values: Sequence[_Number | None]) -> _Number | None:
    """Return the sum; None if one of them is not known."""
    total: _Number | None = None
    for value in values:
        if value is None:
            return None
        total = value if total is None else total + value
    return total

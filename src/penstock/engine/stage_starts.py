"""Start the stages of a run, with the edges between them.

The stages are started in their order, each as soon as its ends exist. Workers begin only when every stage has
been started (`StartBarrier`), so that a command that cannot be started fails the run before any function has
done something.

A stage closes the ends that it was given, also if its start fails; an end that was opened and not yet given
to a stage is closed here. Before and after each start, the run checks whether it has been cancelled.
"""

from __future__ import annotations

from functools import cache, partial

from penstock.engine.start_failure import StartFailure
from penstock.stages.base import traits_of
from penstock.stages.running import CustomStageAdapter, Running
from penstock.streams.stage_ends import Input, Output
from penstock.system.fds import pipe
from penstock.system.fork_guard import late_import
from penstock.system.pipe_capacity import resize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.engine.branch_ports import BranchPorts
    from penstock.engine.graph_parts import PlanEdge
    from penstock.engine.graph_pipes import StagePorts
    from penstock.engine.ports import StdinPort, StdoutPort
    from penstock.engine.run_plan import RunPlan
    from penstock.engine.tree import StageRun
    from penstock.streams.memory_pipe import MemoryPipe
    from penstock.system.pipe_capacity import PipeCapacityLease

__all__ = ["start_stages"]


def _pipe_size(left: StageRun, right: StageRun) -> int | None:
    """Return the option of the innermost pipeline that both stages belong to."""
    group = left.group
    if right.group is not group:
        group = next(group for group in reversed(group.ancestors()) if right.within(group))
    size: int | None = group.option("pipe_size")
    return size


def make_edge(kind: str, pipe_size: int | None, pages: list[PipeCapacityLease]) -> tuple[Output, Input]:
    """Make the two ends of an edge; the share of the budget that a larger pipe takes goes to `pages`."""
    if kind == "memory":
        memory = _memory_pipe_class()()
        return Output(stream=memory.writer), Input(stream=memory.reader)
    read_end, write_end = pipe()
    try:
        if pipe_size is not None:
            grown = resize(write_end.fileno(), pipe_size, asked_for=True)
            if grown is not None:
                pages.append(grown)
        return Output(write_end), Input(read_end)
    except BaseException:
        read_end.close()
        write_end.close()
        raise


@cache
def _memory_pipe_class() -> type[MemoryPipe]:
    with late_import:  # loaded already, by `open_ports`
        from penstock.streams.memory_pipe import MemoryPipe  # noqa: PLC0415 - commands need none
    return MemoryPipe


class _EdgeEnds:
    """The ends of edges, by the indices of the edges: those of the ports, and those that are made here."""

    def __init__(
        self,
        plan: RunPlan,
        leaves: Sequence[StageRun],
        ports: tuple[StdinPort, StdoutPort, BranchPorts | None],
        pages: list[PipeCapacityLease],
    ) -> None:
        graph, others = plan.graph, ports[2]
        self._leaves = leaves
        self._kinds = plan.kinds
        self._pages = pages
        self.pipes = None if others is None else others.pipes
        self.inputs: dict[int, Input] = {graph.first.inputs[0].index: ports[0].input}
        self.outputs: dict[int, Output] = {graph.last.outputs[0].index: ports[1].output}
        if others is not None:
            self.inputs.update((end.edge.index, port.input) for end, port in others.sources)
            self.outputs.update((end.edge.index, port.output) for end, port in others.sinks)

    def make(self, edge: PlanEdge) -> None:
        """Make both ends of an edge between two stages."""
        assert edge.tail is not None
        assert edge.head is not None
        ends = None if self.pipes is None else self.pipes.open_named(edge)
        if ends is None:
            size = _pipe_size(self._leaves[edge.tail], self._leaves[edge.head])
            ends = make_edge(self._kinds[edge.index], size, self._pages)
        self.outputs[edge.index], self.inputs[edge.index] = ends
        if self.pipes is not None:
            self.pipes.watch(edge, ends[1])

    def close(self, unit: Sequence[StageRun]) -> None:
        """Close those of some stages. Idempotent."""
        for edge in unit[0].node.inputs:
            if edge.index in self.inputs:
                self.inputs[edge.index].close()
        for edge in unit[-1].node.outputs:
            if edge.index in self.outputs:
                self.outputs[edge.index].close()


def start_stages(
    plan: RunPlan,
    leaves: Sequence[StageRun],
    ports: tuple[StdinPort, StdoutPort, BranchPorts | None],
    started: Callable[[StageRun, Running], None],
    pages: list[PipeCapacityLease],
) -> None:
    """Start the stages in order, and call `started` for each.

    Raises StartFailure if one cannot be started; then no end is left open. A stage that was cancelled before
    its turn is skipped, and its ends are closed. The shares of the budget that larger pipes take go to
    `pages`.
    """
    kinds = plan.kinds
    ends = _EdgeEnds(plan, leaves, ports, pages)
    place = 0
    while place < len(leaves):
        first = place
        while place < len(leaves) - 1 and kinds[leaves[place].node.outputs[0].index] == "fused":
            place += 1
        unit = leaves[first : place + 1]
        try:
            _start_unit(unit, ends, started)
        except BaseException as error:
            ends.close(unit)  # a stage does so itself; one that forgets must not hang its neighbours
            for leaf in leaves[place + 1 :]:
                ends.close([leaf])
            if isinstance(error, Exception):
                raise StartFailure(error, leaf=unit[0]) from error
            raise
        place += 1


def _start_unit(
    unit: Sequence[StageRun], ends: _EdgeEnds, started: Callable[[StageRun, Running], None]
) -> None:
    """Start stages that run as one, between the ends of their edges; the edges that follow are made."""
    stdin = ends.inputs[unit[0].node.inputs[0].index]
    for edge in unit[-1].node.outputs:
        if edge.index not in ends.outputs:
            ends.make(edge)
    stdout = ends.outputs[unit[-1].node.outputs[0].index]
    if any(leaf.reason is not None for leaf in unit):  # all, since they are of one pipeline
        ends.close(unit)
        return
    pipes = ends.pipes
    others = None if pipes is None else pipes.ports_of(unit[-1], ends.inputs, ends.outputs)
    for leaf, running in zip(unit, _start(unit, stdin, stdout, others), strict=True):
        started(leaf, running)
        if pipes is not None:
            pipes.started(leaf, running)
            if running.hand_over is not None:  # a command that waits for a file
                running.hand_over = partial(started, leaf)


def _start(
    unit: Sequence[StageRun], stdin: Input, stdout: Output, others: StagePorts | None
) -> Sequence[Running]:
    """Start one stage, or several that are fused. The ends are theirs from here on.

    A custom stage is given a worker that waits for it.
    """
    unit[0].connect(stdin=stdin)
    unit[-1].connect(stdout=stdout)
    if len(unit) == 1:
        ctx, stage = unit[0].ctx, unit[0].stage
        assert ctx is not None
        if not traits_of(stage).opens_devnull_itself:
            stdin.open_devnull()
            stdout.open_devnull()
        if others is not None:
            unit[0].connect_others(others.ends)
            return [stage.start_in_graph(ctx, stdin, stdout, others)]  # type: ignore[attr-defined]
        started = stage.start(ctx, stdin, stdout)
        return [started if isinstance(started, Running) else CustomStageAdapter(ctx, started, stdin, stdout)]
    with late_import:  # loaded already, with the class of these stages
        from penstock.stages.chain import start_fused  # noqa: PLC0415 - commands need none

    parts = start_fused([(leaf.stage, leaf.ctx) for leaf in unit], stdin, stdout)  # type: ignore[misc]
    for leaf, part in zip(unit[:-1], parts, strict=False):
        leaf.connect(stdout=part)
    return parts

"""The pipes of a graph, as its stages see them: their other ends, and who waits for whom.

A stage with several inputs or outputs gets them as `StagePorts`. If it copies into elastic edges
(`elastic_edges`), it asks before it spools for one that is full: does a join wait? A join waits if its input
on the way from that edge is full, and another of its inputs is empty. So each pipe that leads into such a
join can be looked at, without being its reader or its writer (`system.pipe_peek`).

One `GraphPipes` serves a run. Its pipes are watched while the stages are started, and looked at by the
threads of stages; the end of the run closes the handles.
"""

from __future__ import annotations

import contextlib
import os

from penstock.engine.graph_parts import STDOUT
from penstock.stages.base import traits_of
from penstock.streams.spool import SpoolBudget
from penstock.streams.stage_ends import Input, Output
from penstock.system import features
from penstock.system.fds import open_path
from penstock.system.fork_guard import late_import
from penstock.system.pipe_peek import PipePeek

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from penstock.engine.graph_parts import PlanEdge
    from penstock.engine.run_plan import RunPlan
    from penstock.engine.tree import StageRun
    from penstock.stages.running import Running
    from penstock.system.fds import Fd

__all__ = ["GraphPipes", "StagePorts"]


class GraphPipes:
    """The pipes of one run that lead into joins, and the bytes that may be spooled for all of them."""

    def __init__(self, plan: RunPlan, leaves: Sequence[StageRun]) -> None:
        self._leaves = leaves
        self._edges = plan.graph.edges
        self._ends = {end.id: end.name for end in (*plan.graph.sources, *plan.graph.sinks)}
        self.fifos: dict[int, str] = {}
        """The paths of the edges that are FIFOs."""
        self.files: dict[int, str] = {}
        """The paths of the edges that are whole files."""
        self._folder: str | None = None
        self._on_started: dict[int, list[Callable[[Running], object]]] = {}
        self.budget = SpoolBudget(plan.option("spool"))
        self._peeks: dict[int, PipePeek] = {}
        self._watched = {
            each for edge in plan.graph.edges for one, others in edge.joins for each in (one, *others)
        }

    def watch(self, edge: PlanEdge, end: Input | Fd) -> None:
        """Be able to look at the pipe of an edge, if a join may wait for it.

        A FIFO is watched once both of its ends are open: until then a look would open it for the program.
        """
        number = end.fd if isinstance(end, Input) else end.fileno()
        if edge.index in self._watched and number is not None:
            peek = PipePeek.of(number)
            if peek is not None:
                self._peeks[edge.index] = peek

    def join_waits(self, edge: PlanEdge) -> bool:
        """Whether a join that an edge leads to has its input from there full, and another one empty."""
        return next(self._waiting(edge), None) is not None

    def who_waits(self, edge: PlanEdge) -> str:
        """Return a text that says which stage waits for which."""
        for full, empty in self._waiting(edge):
            wanted, unread = self._describe(empty), self._describe(full)
            return f"{self.reader(full)!r} waits for {wanted}, and does not read {unread}"
        return f"{self.reader(edge)!r} does not read"

    def _describe(self, edge: PlanEdge) -> str:
        source = self._ends[edge.source] if edge.tail is None else self._leaves[edge.tail].stage.name
        port = f"input {edge.target_port}" if edge.target_port.isdecimal() else edge.target_port
        return f"its {port} from {source!r}"

    def reader(self, edge: PlanEdge) -> str:
        """Return the name of what reads an edge."""
        return self._ends[edge.target] if edge.head is None else self._leaves[edge.head].stage.name

    def _waiting(self, edge: PlanEdge) -> Iterator[tuple[PlanEdge, PlanEdge]]:
        for one, others in edge.joins:
            if self._is_full(self._edges[one]):
                for other in others:
                    if self._is_empty(self._edges[other]):
                        yield self._edges[one], self._edges[other]

    def _is_full(self, edge: PlanEdge) -> bool:
        """Whether a writer of the edge would wait: for room, or until a program opens its FIFO."""
        peek = self._peeks.get(edge.index)
        if peek is None:
            return (edge.index in self.fifos or self._cannot_look(edge)) and not self._has_ended(edge)
        look = peek.look()
        return look is None or look.full

    def _is_empty(self, edge: PlanEdge) -> bool:
        """Whether a reader of the edge would wait: its pipe is empty, and more may come."""
        peek = self._peeks.get(edge.index)
        if peek is None:
            return (edge.index in self.files or self._cannot_look(edge)) and not self._has_ended(edge)
        look = peek.look()
        if look is not None and not look.empty:
            return False
        return not (self._has_ended(edge) if look is None or edge.index in self.fifos else peek.at_eof())

    @staticmethod
    def _cannot_look(edge: PlanEdge) -> bool:
        """Whether the pipe of an edge cannot be looked at on this platform.

        It may be full or empty then. So bytes are kept for readers that are only slow, but no graph hangs.
        """
        return not features.PROCFS and edge.tail is not None

    def _has_ended(self, edge: PlanEdge) -> bool:
        """Whether the stage that feeds a FIFO has ended: a look at a FIFO with a name cannot tell."""
        running = self.running(edge.tail)
        return running is not None and running.done

    def ports_of(
        self, leaf: StageRun, inputs: Mapping[int, Input], outputs: Mapping[int, Output]
    ) -> StagePorts | None:
        """Return the ends of a stage besides its stdin and stdout; None if it is not started with them."""
        return StagePorts(self, leaf, inputs, outputs) if traits_of(leaf.stage).starts_in_graph else None

    def running(self, index: int | None) -> Running | None:
        """Return the running stage of a node."""
        return None if index is None else self._leaves[index].running

    def on_started(self, index: int | None, call: Callable[[Running], object]) -> None:
        """Have `call(running)` made when a later stage has been started."""
        if index is not None:
            self._on_started.setdefault(index, []).append(call)

    def started(self, leaf: StageRun, running: Running) -> None:
        """Tell those who wait for the start of a stage."""
        for call in self._on_started.pop(leaf.index, ()):
            call(running)

    def outcome_of_source(self, feed: int) -> tuple[bool, BaseException | None]:
        """Return whether it is known how the stages ended that feed a node, and the error if one has failed.

        Those that copy to others as well are not waited for: the others may not have read everything.
        """
        seen, pending = {feed}, [feed]
        while pending:
            for edge in self._leaves[pending.pop()].node.inputs:
                if edge.tail is not None and edge.tail not in seen:
                    seen.add(edge.tail)
                    pending.append(edge.tail)
        for index in sorted(seen):
            leaf = self._leaves[index]
            if not traits_of(leaf.stage).is_relay:
                end = leaf.end_as_seen_from(self._leaves[feed])
                if end is None:
                    return False, None
                if end.failed or (end.error is not None and end.reason is not None):
                    return True, end.error
        return True, None

    def open_named(self, edge: PlanEdge) -> tuple[Output, Input] | None:
        """Make an edge that a program opens by name, if it asks for that; None if it does not.

        A FIFO that the program writes to is open before the program opens it, so that its reader sees no end
        too soon: its stage keeps the writing end until it has exited. A FIFO or a file that it reads is
        opened by nobody else yet (`stages.fifo_feed`, `stages.file_feed`).
        """
        kind, reads, suffix = self._name_of(edge)
        if kind is None:
            return None
        if self._folder is None:
            with late_import:
                from tempfile import gettempdir  # noqa: PLC0415 - few runs have a FIFO

            # Each name is noted before it exists: an interrupt may come between the two.
            self._folder = f"{gettempdir()}/penstock-{os.urandom(8).hex()}"
            os.mkdir(self._folder, 0o700)  # noqa: PTH102 - pathlib is slow to import
        path = f"{self._folder}/{edge.index}{suffix}"
        (self.files if kind == "file" else self.fifos)[edge.index] = path
        if kind == "fifo":
            os.mkfifo(path, 0o600)
        if reads:
            return Output(devnull=True), Input(devnull=True)
        reader = open_path(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            writer = open_path(path, os.O_WRONLY)
            os.set_blocking(reader.fileno(), True)
        except BaseException:
            reader.close()
            raise
        return Output(writer), Input(reader)

    def _name_of(self, edge: PlanEdge) -> tuple[str | None, bool, str]:
        """Return if an edge is a fifo or a file, whether a program reads it, and the end of its name."""
        for index, port, reads in ((edge.head, edge.target_port, True), (edge.tail, edge.source_port, False)):
            if index is not None:
                traits = traits_of(self._leaves[index].stage)
                for kind, suffixes in (("fifo", traits.fifos), ("file", traits.files)):
                    if port in suffixes:
                        return kind, reads, suffixes[port]
        return None, False, ""

    def close(self) -> None:
        """Close all handles, and remove the FIFOs and files."""
        if self._folder is not None:
            for path in (*self.fifos.values(), *self.files.values()):
                with contextlib.suppress(OSError):
                    os.unlink(path)  # noqa: PTH108 - pathlib is slow to import
            with contextlib.suppress(OSError):
                os.rmdir(self._folder)  # noqa: PTH106 - as above
        for peek in self._peeks.values():
            peek.close()
        self._peeks.clear()


class StagePorts:
    """The ends of one stage besides its stdin and stdout, by the names of their ports."""

    def __init__(
        self,
        pipes: GraphPipes,
        leaf: StageRun,
        inputs: Mapping[int, Input],
        outputs: Mapping[int, Output],
    ) -> None:
        node = leaf.node
        self.inputs: dict[str, Input] = {edge.target_port: inputs[edge.index] for edge in node.inputs[1:]}
        self.outputs: dict[str, Output] = {edge.source_port: outputs[edge.index] for edge in node.outputs[1:]}
        self.ends: dict[str, Input | Output] = {**self.inputs, **self.outputs}
        self.budget = pipes.budget
        self._pipes = pipes
        self._all = {edge.target_port: edge for edge in node.inputs}
        self._all |= {edge.source_port: edge for edge in node.outputs}
        self._writers = [running for edge in node.inputs if (running := pipes.running(edge.tail)) is not None]
        self._edges = {edge.source_port: edge for edge in node.outputs}
        files = traits_of(leaf.stage).files
        self._file_feeds = [
            edge.tail for edge in node.inputs if edge.target_port in files and edge.tail is not None
        ]

    def elastic(self, port: str) -> bool:
        """Whether more than its pipe holds may be kept for an output, stdout too."""
        return self._edges[port].elastic

    def reader(self, port: str) -> str:
        """Return the name of what reads an output."""
        return self._pipes.reader(self._edges[port])

    def join_waits(self, port: str) -> bool:
        """Whether a join on the way of an output waits for another input; see `GraphPipes`."""
        return self._pipes.join_waits(self._edges[port])

    def who_waits(self, port: str) -> str:
        """Return a text that says which stage waits for which."""
        return self._pipes.who_waits(self._edges[port])

    def writers(self) -> list[Running]:
        """Return the running stages that write into this one."""
        return self._writers

    def on_reader_done(self, callback: Callable[[], None]) -> None:
        """Have `callback()` called, in any thread, when the stage that reads this one's stdout has ended."""
        self._pipes.on_started(self._edges[STDOUT].head, lambda running: running.on_done(callback))

    def watch(self, port: str, fd: Fd) -> None:
        """Be able to look at a FIFO that this stage has opened."""
        self._pipes.watch(self._all[port], fd)

    def name_at(self, port: str) -> str:
        """Return the name by which a program opens the end at a port."""
        index = self._all[port].index
        path = self._pipes.fifos.get(index) or self._pipes.files.get(index)
        if path is not None:
            return path
        end = self.ends[port]
        return os.devnull if end.is_devnull else f"/dev/fd/{end.fd}"

    def file_feeds(self) -> list[Running]:
        """Return the running stages that write the files which this stage reads."""
        found = [self._pipes.running(feed) for feed in self._file_feeds]
        return [running for running in found if running is not None]

    def outcome_of_files(self) -> tuple[bool, BaseException | None]:
        """Return whether it is known how the sources of these files ended, and the error of one."""
        for feed in self._file_feeds:
            known, error = self._pipes.outcome_of_source(feed)
            if not known or error is not None:
                return known, error
        return True, None

    def close(self) -> None:
        """Close all ends."""
        for end in self.ends.values():
            end.close()

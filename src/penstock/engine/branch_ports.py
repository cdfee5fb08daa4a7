"""The ports of a graph's other ends: what feeds inlets, and what drains branches, while a run goes on.

They do for these ends what the run's own two ports do for its stdin and stdout, and are opened, begun, ended
and judged with them. Each end has an edge, by whose index the stage at it is given its stream.
"""

from __future__ import annotations

import os

from penstock.core.requirements import Stream
from penstock.engine.graph_plan import wanted_input, wanted_output
from penstock.engine.start_failure import StartFailure
from penstock.engine.unused_ports import release_sink, release_source
from penstock.system.fds import open_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from penstock.engine.graph_parts import PlanEnd
    from penstock.engine.graph_pipes import GraphPipes
    from penstock.engine.ports import StdinPort, StdoutPort
    from penstock.engine.run_plan import RunPlan
    from penstock.engine.tree import StageRun
    from penstock.runtime.reactor import Reactor
    from penstock.stages.run_services import RunResources

    _Port = TypeVar("_Port", StdinPort, StdoutPort)

__all__ = ["BranchPorts"]


class BranchPorts:
    """The ports of one run besides its stdin and stdout."""

    def __init__(self, pipes: GraphPipes) -> None:
        self.pipes = pipes
        self.sources: list[tuple[PlanEnd, StdinPort]] = []
        self.sinks: list[tuple[PlanEnd, StdoutPort]] = []

    @property
    def _ports(self) -> list[StdinPort | StdoutPort]:
        return [*(port for _, port in self.sources), *(port for _, port in self.sinks)]

    def open(
        self,
        plan: RunPlan,
        reactor: Reactor,
        pipe_size: int | None,
        on_end: Callable[[], None],
        resources: RunResources,
    ) -> None:
        """Open all of them, or none. Raises StartFailure."""
        name = ""
        try:
            for end in plan.graph.sinks[1:]:
                if end.is_kept:
                    name = "keep"
                    _make_private(end.name)
            for end, source in zip(plan.graph.sources[1:], plan.sources[1:], strict=True):
                name = "stdin"
                wants_file = wanted_input(plan, end.edge) is Stream.PREFER_FILE
                self.sources.append((end, source.open(reactor, pipe_size, wants_file=wants_file)))
            for end, sink in zip(plan.graph.sinks[1:], plan.sinks[1:], strict=True):
                name = end.name
                wants_file = wanted_output(plan, end.edge) is Stream.PREFER_FILE
                port = sink.open_for(resources, reactor, pipe_size, on_end, wants_file=wants_file)
                self.sinks.append((end, port))
        except OSError as error:
            self.abandon()
            raise StartFailure(error, stage=name) from error
        except BaseException:
            self.abandon()
            raise

    def limit(self, on_exceeded: Callable[[], object]) -> None:
        """Have `on_exceeded()` called when a branch captures more than it may."""
        for _, port in self.sinks:
            port.limit(on_exceeded)

    @property
    def uses_thread(self) -> bool:
        """Whether another thread feeds or drains one of them."""
        return any(port.uses_thread for port in self._ports)

    def start(self) -> None:
        """Begin to feed and to drain. RuntimeError if the system allows no further thread."""
        for port in self._ports:
            port.start()

    def release_unstarted(self, leaves: Sequence[StageRun]) -> None:
        """Close the ends that no stage was given, and drain the others. Idempotent."""
        for end, source in self.sources:
            release_source(source, leaves[end.node.index])
        for end, sink in self.sinks:
            release_sink(sink, leaves[end.node.index])

    def release(self, on_end: Callable[[], None]) -> None:
        """Stop feeding, because the stages have ended; see `StdinPort.release`."""
        for _, source in self.sources:
            source.release(on_end)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to wait for."""
        return all(port.finished for port in self._ports)

    def stop(self, reason: BaseException, deadline: float) -> None:
        """Take what is there and no more, because the stages have ended after a cancellation."""
        for _, sink in self.sinks:
            if not sink.finished:
                sink.stop(reason, deadline)

    def abandon(self) -> None:
        """Close everything, because nothing was started."""
        for port in self._ports:
            port.abandon()

    def errors(self) -> tuple[list[tuple[PlanEnd, BaseException]], list[tuple[PlanEnd, BaseException]]]:
        """Return the ends that have failed, sources and sinks, each with its error."""
        return _failed(self.sources), _failed(self.sinks)

    def captured(self) -> tuple[tuple[str, bytes], ...]:
        """Return what was captured, each with the name of its branch."""
        found = [(end.branch, port.captured) for end, port in self.sinks]
        return tuple([(branch, data) for branch, data in found if data is not None])


def _make_private(path: str) -> None:
    """Make an empty file that only its owner may read, and its folder if that is missing."""
    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120 - pathlib is slow to import
    fd = open_path(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.fchmod(fd.fileno(), 0o600)
    finally:
        fd.close()


def _failed(ports: Sequence[tuple[PlanEnd, _Port]]) -> list[tuple[PlanEnd, BaseException]]:
    return [(end, error) for end, port in ports if (error := port.error) is not None]

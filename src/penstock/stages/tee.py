"""Stages that copy their input into several outputs: `tee`, and the one behind a `shared` pipeline.

The copy is that of `streams.relay`, in a worker thread. It needs descriptors, so all its edges are pipes, files
or what the caller has given.

Ends. An output whose reader has gone is left out. If none is left, the stage fails with a closed pipe, which the
verdict forgives if a reader had enough. An output that cannot be written to, because a disk is full, is left out
too, and the stage fails with that error once the others have got everything.
"""

from __future__ import annotations

from functools import partial

from penstock.core.public import exported, half_made_too
from penstock.core.requirements import Requirements, Stream
from penstock.stages.base import BuiltinStage
from penstock.stages.running_function import RunningFunction
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from penstock.stages.branch import Branch, StagePorts
    from penstock.stages.context import StageContext
    from penstock.stages.running import ThreadedStage
    from penstock.streams.relay import Lane, Outlet, Relay
    from penstock.streams.stage_ends import Input, Output

__all__ = ["Shared", "Splitter", "Tee"]

_STDOUT = "stdout"


class Splitter(BuiltinStage):
    """Copies its input into all its outputs."""

    kind = "split"
    requirements = Requirements(Stream.PREFER_FILE, Stream.PREFER_FILE)
    has_no_user_objects = True
    ends_with_stdout = False
    """Whether it ends when the reader of its stdout has gone."""

    def __init__(self, name: str) -> None:
        self.name = name

    @half_made_too
    def __repr__(self) -> str:
        return f"{self.kind}({self.name!r})"

    def start(self, ctx: StageContext, stdin: Input, stdout: Output, /) -> ThreadedStage:
        """Raise: only a run knows its outputs."""
        stdin.close()
        stdout.close()
        raise TypeError(f"{self.name!r} has branches, so a custom stage must start the pipeline around it")

    def start_in_graph(
        self, ctx: StageContext, stdin: Input, stdout: Output, ports: StagePorts
    ) -> ThreadedStage:
        """Begin to copy."""
        try:
            ports.open_devnull()
            relay = _Copy(self, ctx, stdin, stdout, ports)
            return RunningFunction(ctx, relay.run, relay)
        except BaseException:
            stdin.close()
            stdout.close()
            ports.close()
            raise


@exported
class Tee(Splitter):
    """Passes its input on, and copies it into branches; see `penstock.tee`."""

    kind = "tee"

    def __init__(self, outlets: Mapping[str, Branch], name: str, *, ends_with_stdout: bool) -> None:
        super().__init__(name)
        self.outlets = outlets
        self.ends_with_stdout = ends_with_stdout

    @half_made_too
    def __repr__(self) -> str:
        parts = [repr(branch) for branch in self.outlets.values()]
        if self.ends_with_stdout:
            parts.append("until='main'")
        return f"tee({', '.join(parts)})"


@exported
class Shared(BuiltinStage):
    """A pipeline that is one node of a graph, however often it is used; see `penstock.shared`.

    A graph puts the stages of the pipeline in its place, and a `splitter` after them.
    """

    kind = "shared"

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline

    @half_made_too
    def __repr__(self) -> str:
        return f"shared({self.pipeline!r})"

    @property
    def name(self) -> str:
        """The name of the pipeline."""
        return str(self.pipeline.name)

    def splitter(self) -> Splitter:
        """Return the stage that copies the output for each user."""
        return Splitter(f"shared {self.name}")

    def start(self, ctx: StageContext, stdin: Input, stdout: Output, /) -> ThreadedStage:
        """Raise: only a run knows its users."""
        stdin.close()
        stdout.close()
        raise TypeError(f"{self!r} is a source of a graph, so a custom stage cannot start it")


class _Copy:
    """One copy under way, as a stream that the stage may be blocked in."""

    def __init__(
        self, stage: Splitter, ctx: StageContext, stdin: Input, stdout: Output, ports: StagePorts
    ) -> None:
        with late_import:  # loaded already, with the pipes of the graph
            from penstock.streams.relay import Lane, Relay  # noqa: PLC0415 - most runs are lines

        self._ctx = ctx
        self._ends = (stdin, stdout, *ports.outputs.values())
        main = _outlet(stdout, _STDOUT, ports)
        outlets = [main, *(_outlet(end, port, ports) for port, end in ports.outputs.items())]
        self._outlets = outlets
        self._lane: Lane = stdin.wrap(lambda fd: Lane(fd, outlets, shared=not stdin.exclusive))
        self._relay: Relay = Relay(
            [self._lane],
            ports.budget,
            until=main if stage.ends_with_stdout else None,
            on_spooling=self._tell,
            who_waits=lambda outlet: ports.who_waits(_port_of(outlet, outlets, ports)),
        )

    def run(self) -> None:
        """Copy until the end; raise what has failed."""
        self._relay.run()
        for outlet in self._outlets:
            if outlet.error is not None:
                raise type(outlet.error)(outlet.error.errno, f"{outlet.error.strerror} (to {outlet.name!r})")
        if self._lane.error is not None:
            raise self._lane.error

    def poison(self, reason: BaseException) -> None:
        """Do nothing: the stage reports the reason."""

    def interrupt(self, reason: BaseException) -> None:
        """Make `run` raise `reason`. From any thread."""
        self._relay.interrupt(reason)

    def close(self) -> None:
        """Close everything. Idempotent."""
        self._relay.close()
        for end in self._ends:
            end.close()

    def _tell(self, outlet: Outlet) -> None:
        self._ctx.emit_event("spooling", f"keeps what {outlet.name!r} does not read yet", None, {"to": outlet.name})


def _outlet(end: Output, port: str, ports: StagePorts) -> Outlet:
    from penstock.streams.relay import Outlet  # noqa: PLC0415 - as above

    outlet: Outlet = end.wrap(
        lambda fd: Outlet(
            fd,
            name=ports.reader(port),
            elastic=ports.elastic(port),
            join_waits=partial(ports.join_waits, port),
            shared=not end.exclusive,
        )
    )
    return outlet


def _port_of(outlet: Outlet, outlets: list[Outlet], ports: StagePorts) -> str:
    return (_STDOUT, *ports.outputs)[outlets.index(outlet)]

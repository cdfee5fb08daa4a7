"""One copy of a graph's stage under way: a `streams.relay` between the ends that the stage was given.

It is the stream that the stage may be blocked in. A failed write to one output is the error of the stage once
the others have got everything. A lane whose readers have all gone fails with a closed pipe.
"""

from __future__ import annotations

from functools import partial

from penstock.streams.relay import Lane, Outlet, Relay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.stages.branch import StagePorts
    from penstock.stages.context import StageContext
    from penstock.streams.stage_ends import Input, Output
    from penstock.system.fds import Fd

__all__ = ["RelayCopy"]


class RelayCopy:
    """Copies each input into its outputs, which are known by their ports."""

    def __init__(
        self,
        ctx: StageContext,
        lanes: Sequence[tuple[Input, Sequence[tuple[str, Output]]]],
        ports: StagePorts,
        *,
        until_first: bool = False,
    ) -> None:
        """`until_first`: it ends when the reader of the first output has gone."""
        self._ctx = ctx
        self._ports = ports
        self._ends: list[Input | Output] = []
        for source, sinks in lanes:
            self._ends += [source, *(sink for _, sink in sinks)]
        self._outlets: dict[Outlet, str] = {}
        self._lanes = [self._lane(source, sinks) for source, sinks in lanes]
        self._relay = Relay(
            self._lanes,
            ports.budget,
            until=next(iter(self._outlets)) if until_first else None,
            on_spooling=self._tell,
            who_waits=lambda outlet: ports.who_waits(self._outlets[outlet]),
        )

    def _lane(self, source: Input, sinks: Sequence[tuple[str, Output]]) -> Lane:
        outlets = [self._outlet(port, sink) for port, sink in sinks]
        lane: Lane = source.wrap(lambda fd: Lane(fd, outlets, shared=not source.exclusive))
        return lane

    def _outlet(self, port: str, sink: Output) -> Outlet:
        sink.open_devnull()
        ports = self._ports

        def make(fd: Fd) -> Outlet:
            waits = partial(ports.join_waits, port)
            shared = not sink.exclusive
            return Outlet(
                fd, name=ports.reader(port), elastic=ports.elastic(port), join_waits=waits, shared=shared
            )

        outlet: Outlet = sink.wrap(make)
        self._outlets[outlet] = port
        return outlet

    def run(self) -> None:
        """Copy until the end; raise what has failed."""
        self._relay.run()
        for outlet in self._outlets:
            error = outlet.error
            if error is not None:
                raise type(error)(error.errno, f"{error.strerror} (to {outlet.name!r})")
        for lane in self._lanes:
            if lane.error is not None:
                raise lane.error

    def finish(self) -> None:
        """Read no more than what is there, and end when everything is written. From any thread."""
        text = "another process still holds what the program wrote to"
        self._relay.finish(lambda: self._ctx.emit_event("leftover", text))

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
        name = outlet.name
        self._ctx.emit_event("spooling", f"keeps what {name!r} does not read yet", None, {"to": name})

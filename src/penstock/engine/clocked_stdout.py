"""A stdout whose bytes Penstock sees pass, in a run with `idle_timeout`.

Most kinds need nothing: a tap, a copy or an iterator notes since when it has waited for bytes. The kinds that
a stage writes to by itself are put into a `ClockedStdout`. Then a stage of this process writes through a
clock. A stage that wants a descriptor gets a pipe, and a worker relays the bytes: the kernel moves them, if
it can, but the stage sees a pipe in the place of a file or a terminal.

PIPE is relayed for every stage, since the caller may wait for its end by other means than a read. The relay
copies: a splice would keep each small piece in a buffer of its own, and the caller's pipe has few of them.
So an output that fits into the pipe still needs no reader.

Out of scope: the time (`idle_watch`).
"""

from __future__ import annotations

import time
from functools import partial

from penstock.core.matchers import is_pipe_error
from penstock.core.timing import timing
from penstock.engine.ports import DrainedPort, close_on_error, open_pipe
from penstock.engine.stdout_endpoints import StdoutEndpoint
from penstock.stages.base import traits_of
from penstock.streams.copy_methods import FILE, kind_of
from penstock.streams.stage_ends import Output
from penstock.system.fork_guard import late_import
from penstock.system.unread import unread_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    from collections.abc import Mapping
    from typing import Any, Final

    from penstock.engine.graph import PlanNode
    from penstock.engine.ports import StdoutPort
    from penstock.engine.stdout_endpoints import OnEnd
    from penstock.runtime.copy_tasks import Drainer
    from penstock.runtime.reactor import Reactor
    from penstock.stages.run_services import RunResources

__all__ = ["ClockedStdout", "check_file_size", "clocked"]

_WRITTEN_BY_THE_STAGE: Final = frozenset({"null", "inherit", "path", "descriptor", "pipe", "capture"})


def clocked(sink: StdoutEndpoint, *, shared: bool) -> StdoutEndpoint:
    """Return the endpoint in a form that says since when it has waited for bytes.

    `shared` says that another output of the run may be the same file.
    """
    return ClockedStdout(sink, shared=shared) if sink.kind in _WRITTEN_BY_THE_STAGE else sink


def check_file_size(sink: StdoutEndpoint, last: PlanNode, options: Mapping[str, Any]) -> None:
    """Raise ValueError if a limit of the last command is for a file that the relay would write instead."""
    if sink.kind not in ("inherit", "path", "descriptor") or traits_of(last.stage).kind != "command":
        return
    if sink.kind == "inherit" and kind_of(1) != FILE:  # a terminal or a pipe has no size
        return
    bounds = [options.get("limits"), getattr(last.stage, "limits", None)]
    group = last.group
    while group.parent is not None:
        bounds.append(group.options.get("limits"))
        group = group.parent.group
    if any(getattr(bound, "file_size", None) is not None for bound in bounds):
        raise ValueError(
            f"idle_timeout relays the output of stage {last.stage.name!r}, so its limit file_size would not "
            "hold for the file: leave one of them out"
        )


class ClockedStdout(StdoutEndpoint):
    """One kind of stdout, with a clock or a relay in front of it."""

    __slots__ = ("carrier", "inner", "kind")

    def __init__(self, inner: StdoutEndpoint, *, shared: bool) -> None:
        super().__init__(inner.closing)
        self.inner = inner
        self.kind = inner.kind
        self.carrier = "pooled" if inner.kind == "pipe" else inner.relay_method(shared=shared)

    def planned_kind(self, *, wants_file: bool) -> str:
        """Return `relayed` if the bytes go through a relay, else the kind of the stdout itself."""
        return "relayed" if self._needs_relay(wants_file=wants_file) else self.kind

    def _needs_relay(self, *, wants_file: bool) -> bool:
        return self.kind == "pipe" or (wants_file and self.kind != "capture")

    def open_for(
        self,
        resources: RunResources,
        reactor: Reactor,
        pipe_size: int | None,
        on_end: OnEnd,
        *,
        wants_file: bool,
    ) -> StdoutPort:
        """Open it, with what is needed in front of it."""
        with late_import:
            from penstock.engine import port_streams as streams  # noqa: PLC0415 - see `stdout_endpoints`

        port = self.inner.open_for(resources, reactor, pipe_size, on_end, wants_file=wants_file)
        try:
            if self._needs_relay(wants_file=wants_file):
                return self._relay(port, streams, reactor, on_end, None if self.kind == "pipe" else pipe_size)
            if not wants_file:
                port.clock = streams.ClockedWriter(port.output.writer)
                port.output = Output(stream=port.clock)
        except BaseException:  # nobody else knows of the port yet
            port.abandon()
            raise
        return port

    def _relay(
        self, port: StdoutPort, streams: Any, reactor: Reactor, on_end: OnEnd, pipe_size: int | None
    ) -> RelayedPort:
        """Have a worker copy from a new pipe to what the port gives to a stage."""
        target = port.output
        target.open_devnull()
        read_end, write_end = open_pipe(pipe_size, kept=0, grow=True)
        with close_on_error(read_end, write_end):
            if port.file is not None:
                reader = streams.FdReader(read_end, owned_description=True)
                drainer = streams.Drainer(reactor, reader, target.writer, on_end, sink_owned=True)
            else:
                owned = target.owned_description
                move = partial(streams.Transfer, read_end, source_owned=True, sink_owned=owned)
                drainer = streams.Drainer(reactor, target.wrap(move), None, on_end)
        return RelayedPort(Output(write_end), drainer, reactor, port.file, target)


class RelayedPort(DrainedPort):
    """Relays what a stage writes."""

    __slots__ = ("_stopping", "_target")

    def __init__(
        self,
        output: Output,
        drainer: Drainer,
        reactor: Reactor,
        file: io.BufferedReader | None,
        target: Output,
    ) -> None:
        """`target` is the end that the relay writes to; `file` is the caller's end of a PIPE."""
        super().__init__(output, drainer, reactor)
        self.file = file
        self._target = target
        self._stopping = False

    @property
    def error(self) -> BaseException | None:
        """The error of the copy; a caller who has closed the pipe is not one."""
        found = super().error
        return None if found is not None and self.file is not None and is_pipe_error(found) else found

    @property
    def is_relay(self) -> bool:
        """It is one."""
        return True

    @property
    def has_unread(self) -> bool:
        """Whether bytes wait in the caller's pipe."""
        number = None if self.file is None else self._target_number()
        return number is not None and unread_bytes(number) > 0

    def _target_number(self) -> int | None:
        try:
            return self._target.fd
        except ValueError:  # the worker has just closed it
            return None

    def stop(self, reason: BaseException, deadline: float) -> None:
        """Take what is there, which a worker does in a moment unless another process writes on."""
        if not self._stopping:
            self._stopping = True
            when = min(deadline, time.monotonic() + timing.close_grace_s)
            stop = super().stop
            self._reactor.call_at(when, lambda: stop(reason, deadline))

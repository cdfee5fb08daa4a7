"""The kinds of stdin that a worker copies to the first stage.

`stdin_endpoints` loads this module, with the streams and copies, when a plan has such a stdin.
"""

from __future__ import annotations

from penstock.engine import port_streams as streams
from penstock.engine.ports import StdinPort, close_on_error, open_pipe
from penstock.engine.stdin_endpoints import StdinEndpoint
from penstock.streams.stage_ends import Input
from penstock.system.fds import duplicate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from penstock.engine.port_streams import Feeder
    from penstock.runtime.reactor import Reactor
    from penstock.streams.writer import Writer
    from penstock.system.fds import Path

__all__ = ["FifoStdin", "NonblockingStdin", "object_stdin"]


class CopiedStdin(StdinEndpoint):
    """Anything that a worker copies."""

    __slots__ = ()
    kind = "object"

    def open(self, reactor: Reactor, pipe_size: int | None, *, wants_file: bool) -> StdinPort:
        """Have a worker copy it into memory or into a pipe."""
        if not wants_file:
            memory = streams.MemoryPipe()
            return StdinPort(Input(stream=memory.reader), self._feeder(reactor, memory.writer))
        read_end, write_end = open_pipe(pipe_size, kept=1)
        with close_on_error(read_end, write_end):
            feeder = self._feeder(reactor, streams.FdWriter(write_end, owned_description=True))
        return StdinPort(Input(read_end), feeder)

    def _feeder(self, reactor: Reactor, writer: Writer) -> Feeder:
        raise NotImplementedError


class ObjectStdin(CopiedStdin):
    """An object that is read by its own methods, or an iterable of bytes."""

    __slots__ = ("_value",)

    def __init__(self, value: Any, closing: Any) -> None:
        super().__init__(closing)
        self._value = value

    def _feeder(self, reactor: Reactor, writer: Writer) -> Feeder:
        return streams.Feeder(self._value, writer, reactor=reactor)


class CopierStdin(ObjectStdin):
    """An object that copies by itself: it has `write_to`."""

    __slots__ = ()
    kind = "copier"


class FifoStdin(CopiedStdin):
    """The path of a FIFO. Opening it waits for a writer, so the worker opens it (`streams.fifo_streams`)."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def _feeder(self, reactor: Reactor, writer: Writer) -> Feeder:
        return streams.Feeder(None, writer, streams.FifoReader(self._path))


class NonblockingStdin(StdinEndpoint):
    """A non-blocking descriptor, which no command may have as it is."""

    __slots__ = ("_number", "carrier")
    kind = "relayed"

    def __init__(self, number: int, closing: Any = None) -> None:
        super().__init__(closing)
        self._number = number
        self.carrier = streams.best_method(number, to_pipe=True)

    def open(self, reactor: Reactor, pipe_size: int | None, *, wants_file: bool) -> StdinPort:
        """Have a worker copy it from descriptor to descriptor, or a Python stage wait for it."""
        if not wants_file:
            return StdinPort(Input(duplicate(self._number), owned_description=False))
        read_end, write_end = open_pipe(pipe_size, kept=1, grow=True)
        with close_on_error(read_end, write_end):
            source = duplicate(self._number)
            transfer = streams.Transfer(source, write_end, source_owned=False, sink_owned=True)
        return StdinPort(Input(read_end), streams.Feeder(None, transfer))


def object_stdin(value: Any, closing: Any) -> StdinEndpoint:
    """Return the endpoint for an object that is read by its own methods."""
    return (CopierStdin if callable(getattr(value, "write_to", None)) else ObjectStdin)(value, closing)

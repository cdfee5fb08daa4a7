"""The kinds of stdout that a worker copies to from the last stage.

`stdout_endpoints` loads this module, with the streams and copies, when a plan has such a stdout.
"""

from __future__ import annotations

from penstock.engine import port_streams as streams
from penstock.engine.ports import DrainedPort, StdoutPort, close_on_error, open_pipe
from penstock.engine.stdout_endpoints import StdoutEndpoint
from penstock.streams.stage_ends import Output
from penstock.system.fds import duplicate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar

    from penstock.engine.port_streams import Drainer, FdWriter, FifoWriter
    from penstock.runtime.reactor import Reactor
    from penstock.streams.reader import Reader
    from penstock.system.fds import Path

    OnEnd = Callable[[], None]

__all__ = ["FifoStdout", "NonblockingStdout", "object_stdout"]


class CopiedStdout(StdoutEndpoint):
    """Anything that a worker copies to."""

    __slots__ = ()
    kind = "object"
    _target_owned: ClassVar[bool] = True
    """Whether the target was made for the copy."""

    def open(self, reactor: Reactor, pipe_size: int | None, on_end: OnEnd, *, wants_file: bool) -> StdoutPort:
        """Have a worker copy to it from memory or from a pipe."""
        if not wants_file:
            memory = streams.MemoryPipe()
            drainer = self._drainer(reactor, memory.reader, on_end)
            return DrainedPort(Output(stream=memory.writer), drainer, reactor)
        read_end, write_end = open_pipe(pipe_size, kept=0)
        with close_on_error(read_end, write_end):
            reader = streams.FdReader(read_end, owned_description=True)
            drainer = self._drainer(reactor, reader, on_end)
        return DrainedPort(Output(write_end), drainer, reactor)

    def _drainer(self, reactor: Reactor, reader: Reader, on_end: OnEnd) -> Drainer:
        return streams.Drainer(reactor, reader, self._target(), on_end, sink_owned=self._target_owned)

    def _target(self) -> Any:
        """Return the object that the worker writes to."""
        raise NotImplementedError


class ObjectStdout(CopiedStdout):
    """An object that is written to by its own methods."""

    __slots__ = ("_value",)
    _target_owned = False

    def __init__(self, value: Any, closing: Any) -> None:
        super().__init__(closing)
        self._value = value

    def _target(self) -> Any:
        return self._value


class CopierStdout(ObjectStdout):
    """An object that copies by itself: it has `read_from`."""

    __slots__ = ()
    kind = "copier"


class FifoStdout(CopiedStdout):
    """The path of a FIFO. Opening it waits for a reader, so the worker opens it (`streams.fifo_streams`)."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def _target(self) -> FifoWriter:
        return streams.FifoWriter(self._path)


class NonblockingStdout(CopiedStdout):
    """A non-blocking descriptor, which no child may have as it is."""

    __slots__ = ("_number", "carrier")

    def __init__(self, number: int, closing: Any = None) -> None:
        super().__init__(closing)
        self._number = number
        self.carrier = streams.best_method(number, to_pipe=False)

    def open(self, reactor: Reactor, pipe_size: int | None, on_end: OnEnd, *, wants_file: bool) -> StdoutPort:
        """Have a worker copy to it: from memory, or from descriptor to descriptor."""
        if not wants_file:
            return super().open(reactor, pipe_size, on_end, wants_file=wants_file)
        read_end, write_end = open_pipe(pipe_size, kept=0, grow=True)
        with close_on_error(read_end, write_end):
            sink = duplicate(self._number)
            transfer = streams.Transfer(read_end, sink, source_owned=True, sink_owned=False)
        return DrainedPort(Output(write_end), streams.Drainer(reactor, transfer, None, on_end), reactor)

    def _target(self) -> FdWriter:
        return streams.FdWriter(duplicate(self._number), owned_description=False)


def object_stdout(value: Any, closing: Any) -> StdoutEndpoint:
    """Return the endpoint for an object that is written to by its own methods."""
    return (CopierStdout if callable(getattr(value, "read_from", None)) else ObjectStdout)(value, closing)

"""stdin that is one of io's readers over a pipe, a terminal, a socket or a device; or a stage's own stdin.

If it has read nothing ahead, the stage gets its descriptor. If it has, those bytes come first: a Python stage
reads them and then the descriptor, and a command gets a pipe, into which a worker moves both. Nothing calls
the reader's own `read()`, which may block with the reader's lock. After the run the reader gives the bytes
that no stage has taken, as far as that can be known: bytes that a stage has read and not used are gone.

A function may give its stdin to a run of its own. Such a stream lends its bytes for the time of that run.

Out of scope: the layers of the reader (`streams.read_ahead`).
"""

from __future__ import annotations

import errno

from penstock.engine import port_streams as streams
from penstock.engine.ports import StdinPort, close_on_error, open_pipe
from penstock.engine.stdin_endpoints import StdinEndpoint
from penstock.runtime.pipe_rest import PipeRest
from penstock.runtime.timed_call import call_in_time
from penstock.streams.endpoints import read_ahead
from penstock.streams.lent_readers import lend, passable_number
from penstock.streams.stage_ends import Input
from penstock.system.fds import duplicate, is_nonblocking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from penstock.runtime.reactor import Reactor
    from penstock.streams.read_ahead import ReadAhead
    from penstock.streams.reader import Reader
    from penstock.system.fds import Fd

    _Answer = TypeVar("_Answer")

__all__ = ["reader_stdin", "stream_stdin"]


def reader_stdin(value: Any, to_close: Any) -> StdinEndpoint:
    """Return the endpoint for such a reader. Raises ValueError if another thread reads from it."""
    source = read_ahead(value)
    assert source is not None
    try:
        held = call_in_time(source.holds_bytes)
    except TimeoutError:
        raise ValueError(_in_use(value)) from None
    if held and source.recodes:
        return _RecodedStdin(value, to_close)
    if held or is_nonblocking(source.fileno()):
        return _RelayedStdin(value, to_close)
    return _ReaderStdin(value, to_close)


def _in_use(value: Any) -> str:
    return f"stdin is being read by another thread, so it cannot be given to a run: {value!r}"


class _ReaderStdin(StdinEndpoint):
    """A reader that has read nothing ahead."""

    __slots__ = ("_value", "carrier")
    kind = "descriptor"

    def __init__(self, value: Any, closing: Any) -> None:
        super().__init__(closing)
        self._value = value
        self.carrier = streams.best_method(value.fileno(), to_pipe=True)

    def open(self, reactor: Reactor, pipe_size: int | None, *, wants_file: bool) -> StdinPort:
        """Hand it over, or what it has read ahead and then the rest: it may have been read meanwhile."""
        source = read_ahead(self._value)
        if source is None:
            raise ValueError(f"stdin was changed before the run: {self._value!r}")
        if source.recodes:
            return _open_recoded(
                source, self._timed(source.take_text, None), pipe_size, wants_file=wants_file
            )
        data = self._timed(source.take, source.give_back)
        try:
            return _open(source, data, pipe_size, wants_file=wants_file)
        except BaseException:
            source.give_back(data)
            raise

    def _timed(self, take: Callable[[], _Answer], undo: Callable[[_Answer], object] | None) -> _Answer:
        try:
            return call_in_time(take, undo)
        except TimeoutError:
            raise BlockingIOError(errno.EAGAIN, _in_use(self._value)) from None


class _RelayedStdin(_ReaderStdin):
    """A reader that has read ahead, or whose descriptor is non-blocking."""

    __slots__ = ()
    kind = "relayed"


class _RecodedStdin(_ReaderStdin):
    """A text that can only be read through its decoder."""

    __slots__ = ()
    kind = "object"

    def __init__(self, value: Any, closing: Any) -> None:
        super().__init__(value, closing)
        self.carrier = "pooled"


class _ReaderInput(Input):
    """The descriptor of a reader. If a stage reads it by `reader`, the caller's reader gets the rest back."""

    __slots__ = ("_source",)

    def __init__(self, fd: Fd, source: ReadAhead) -> None:
        super().__init__(fd, owned_description=False)
        self._source = source

    @property
    def reader(self) -> Reader:
        """The file-like object."""
        if self._stream is None:
            self._stream = streams.FdReader(
                self._open_fd(), owned_description=False, give_back=self._source.give_back
            )
        return super().reader


def _open(source: ReadAhead, data: bytes, pipe_size: int | None, *, wants_file: bool) -> StdinPort:
    number = source.fileno()
    if not wants_file and data:
        reader = streams.FdReader(
            duplicate(number), owned_description=False, first=data, give_back=source.give_back
        )
        return StdinPort(Input(stream=reader))
    if not wants_file or not (data or is_nonblocking(number)):
        return StdinPort(_ReaderInput(duplicate(number), source))
    read_end, write_end = open_pipe(pipe_size, kept=1)
    with close_on_error(read_end, write_end):
        transfer = streams.Transfer(duplicate(number), write_end, source_owned=False, sink_owned=True)
        transfer.unsent = data
        relay = streams.Relay(transfer, None, PipeRest(read_end, source.give_back))
    return StdinPort(Input(read_end), relay)


def _open_recoded(
    source: ReadAhead, held: tuple[str, bytes], pipe_size: int | None, *, wants_file: bool
) -> StdinPort:
    descriptor = streams.FdReader(duplicate(source.fileno()), owned_description=False)
    reader = source.recoded(held, descriptor)
    if not wants_file:
        memory = streams.MemoryPipe()
        return StdinPort(Input(stream=memory.reader), streams.Feeder(None, memory.writer, reader))
    read_end, write_end = open_pipe(pipe_size, kept=1)
    with close_on_error(read_end, write_end):
        writer = streams.FdWriter(write_end, owned_description=True)
        feeder = streams.Feeder(None, writer, reader)
    return StdinPort(Input(read_end), feeder)


def stream_stdin(value: Reader, to_close: Any) -> StdinEndpoint:
    """Return the endpoint for a stream of Penstock: the stdin of a stage, within which the run is."""
    passable = passable_number(value) is not None
    return (_HandedStreamStdin if passable else _StreamStdin)(value, to_close)


class _StreamStdin(StdinEndpoint):
    """A stream that lends its bytes."""

    __slots__ = ("_value",)
    kind = "object"

    def __init__(self, value: Reader, closing: Any) -> None:
        super().__init__(closing)
        self._value = value

    def open(self, reactor: Reactor, pipe_size: int | None, *, wants_file: bool) -> StdinPort:
        """Have a worker copy it into a pipe, or a Python stage read it."""
        if not wants_file:
            return StdinPort(Input(stream=lend(self._value)))
        read_end, write_end = open_pipe(pipe_size, kept=1)
        with close_on_error(read_end, write_end):
            rest = PipeRest(read_end, self._value.take_back)
            writer = streams.FdWriter(write_end, owned_description=True)
            relay = streams.Relay(writer, lend(self._value), rest)
        return StdinPort(Input(read_end), relay)


class _HandedStreamStdin(_StreamStdin):
    """A stream over a descriptor that a command may have."""

    __slots__ = ()
    kind = "descriptor"

    def open(self, reactor: Reactor, pipe_size: int | None, *, wants_file: bool) -> StdinPort:
        """Hand it over."""
        number = passable_number(self._value)
        if not wants_file or number is None:
            return super().open(reactor, pipe_size, wants_file=wants_file)
        return StdinPort(Input(duplicate(number), owned_description=False))

"""The two outer edges of a run: what feeds the first stage, and what drains the last.

A port is opened before anything is spawned, so that a path that cannot be opened fails the run with nothing
started. It owns whatever it needs besides the end that the stage gets: a feeder or drainer in a worker, a tap
in the reactor, a file object for the caller.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from penstock.core.stage import Stream
from penstock.runtime.copy_tasks import Drainer, Feeder
from penstock.runtime.taps import InputWriter, ListTap
from penstock.streams.endpoints import Endpoint, open_sink, open_source
from penstock.streams.fd_streams import FdReader, FdWriter
from penstock.streams.fifo_streams import Fifo, FifoReader, FifoWriter
from penstock.streams.file_objects import PipeReader, PipeWriter
from penstock.streams.memory_pipe import MemoryPipe
from penstock.streams.reader import BytesReader
from penstock.streams.stage_ends import Input, Output
from penstock.streams.transfer import Transfer
from penstock.streams.writer import CaptureWriter, NullWriter
from penstock.system.fds import pipe
from penstock.system.pipe_capacity import GROWN_SIZE, resize

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator

    from penstock.aio.copy_tasks import AsyncDrainer, AsyncFeeder
    from penstock.core.stage import Requirements
    from penstock.runtime.reactor import Reactor
    from penstock.streams.reader import Reader
    from penstock.streams.writer import Writer
    from penstock.system.fds import Fd

__all__ = ["StdinPort", "StdoutPort"]


class StdinPort:
    """What feeds the first stage; `input` is the end that the stage gets."""

    def __init__(
        self, endpoint: Endpoint, requirements: Requirements, reactor: Reactor, pipe_size: int | None
    ) -> None:
        self.file: io.BufferedWriter | None = None
        self.stream: Any = None
        """What a run of an event loop has in the place of a file."""
        self.feeder: Feeder | AsyncFeeder | None = None
        self._input_writer: InputWriter | None = None
        self._reactor = reactor
        self.finished = False
        """Whether it was released, and holds nothing any more."""
        self._whole = 0
        wants_file = requirements.stdin is Stream.PREFER_FILE
        kind = endpoint.kind
        if kind == "given":
            self.input = endpoint.value
        elif kind == "null":
            self.input = Input(nothing=True) if wants_file else Input(stream=BytesReader())
        elif kind == "inherit":
            self.input = Input(borrowed=0, owned_description=False)
        elif kind in ("descriptor", "path"):
            self.input = Input(open_source(endpoint), owned_description=kind == "path")
        elif kind == "input" and not wants_file:
            self._whole = len(endpoint.value)
            self.input = Input(stream=BytesReader(endpoint.value))
        elif kind in ("object", "copier") and not wants_file:
            memory = MemoryPipe()
            self.input = Input(stream=memory.reader)
            self.feeder = _feeder(endpoint, memory.writer)
        else:
            self._open_pipe(endpoint, reactor, pipe_size)

    def _open_pipe(self, endpoint: Endpoint, reactor: Reactor, pipe_size: int | None) -> None:
        kind = endpoint.kind
        read_end, write_end = _pipe(endpoint, pipe_size, ours=1)
        self.input = Input(read_end)
        if kind == "pipe" and _served_by_loop(endpoint):
            self.stream = endpoint.value(write_end, reactor)
        elif kind == "async":
            self.feeder = endpoint.value(write_end, reactor)
        elif kind == "pipe":
            self.file = PipeWriter(write_end)
        elif kind == "input":
            self._input_writer = InputWriter(reactor, write_end, endpoint.value)
        elif isinstance(endpoint.value, int):
            with _closed_on_error(read_end, write_end):
                source = open_source(endpoint)
                transfer = Transfer(source, write_end, source_owned=False, sink_owned=True)
            self.feeder = Feeder(None, transfer)
        else:
            with _closed_on_error(read_end, write_end):
                self.feeder = _feeder(endpoint, FdWriter(write_end, owned_description=True))

    @property
    def uses_thread(self) -> bool:
        """Whether another thread feeds it."""
        return self.feeder is not None

    @property
    def count(self) -> int | None:
        """Bytes that Penstock itself put in; None where it did not."""
        if self.feeder is not None:
            return self.feeder.count
        return self._whole or None if self._input_writer is None else self._input_writer.count

    @property
    def error(self) -> BaseException | None:
        """What the caller's object raised, or why what it gave could not be passed on."""
        fed = self._input_writer if self.feeder is None else self.feeder
        return None if fed is None else fed.error

    def start(self) -> None:
        """Begin to feed."""
        if self.feeder is not None:
            self.feeder.start()
        elif self._input_writer is not None:
            self._input_writer.start()

    def release(self, on_end: Callable[[], None]) -> None:
        """Stop feeding: the stages have ended, or were never started.

        `on_end()` follows once this is `finished`. Until then it may be done again, and is: an interrupt may
        have come in the middle of it.
        """
        if self.finished:
            return

        def end() -> None:
            if self._input_writer is not None:
                self._input_writer.close()
            self.finished = True
            on_end()

        if self._input_writer is not None:
            self._reactor.post(end)
        elif self.feeder is not None:
            self.feeder.release(end)
        else:
            self.finished = True

    def abandon(self) -> None:
        """Close everything: nothing was started."""
        self.input.close()
        if self._input_writer is not None:
            self._input_writer.close()
        if self.feeder is not None:
            self.feeder.abandon()
        for thing in (self.file, self.stream):
            if thing is not None:
                thing.close()


class StdoutPort:
    """What drains the last stage; `output` is the end that the stage gets."""

    def __init__(
        self,
        endpoint: Endpoint,
        requirements: Requirements,
        reactor: Reactor,
        pipe_size: int | None,
        on_end: Callable[[], None],
    ) -> None:
        self.file: io.BufferedReader | None = None
        self.stream: Any = None
        """What a run of an event loop has in the place of a file."""
        self.reader: Reader | None = None
        self.chunks: list[bytes] | None = None
        self._reactor = reactor
        self._tap: ListTap | None = None
        self._drainer: Drainer | AsyncDrainer | None = None
        self._reason: BaseException | None = None
        self._started = False
        wants_file = requirements.stdout is Stream.PREFER_FILE
        kind = endpoint.kind
        if kind == "given":
            self.output = endpoint.value
        elif kind == "null":
            self.output = Output(nothing=True) if wants_file else Output(stream=NullWriter())
        elif kind == "inherit":
            self.output = Output(borrowed=1, owned_description=False)
        elif kind in ("descriptor", "path"):
            self.output = Output(open_sink(endpoint), owned_description=kind == "path")
        elif kind == "capture" and not wants_file:
            self.chunks = []
            self.output = Output(stream=CaptureWriter(self.chunks))
        elif kind in ("object", "copier", "iterate") and not (wants_file or _served_by_loop(endpoint)):
            memory = MemoryPipe()
            self.output = Output(stream=memory.writer)
            self._drain(endpoint, memory.reader, reactor, on_end)
        else:
            self._open_pipe(endpoint, reactor, pipe_size, on_end)

    def _open_pipe(
        self,
        endpoint: Endpoint,
        reactor: Reactor,
        pipe_size: int | None,
        on_end: Callable[[], None],
    ) -> None:
        kind = endpoint.kind
        read_end, write_end = _pipe(endpoint, pipe_size, ours=0)
        self.output = Output(write_end)
        if kind == "pipe" and _served_by_loop(endpoint):
            self.stream = endpoint.value(read_end, reactor, on_end)
        elif kind == "iterate" and _served_by_loop(endpoint):
            self.reader = endpoint.value(read_end, reactor, on_end)
        elif kind == "async":
            self._drainer = endpoint.value(read_end, reactor, on_end)
        elif kind == "pipe":
            self.file = PipeReader(read_end)
        elif kind == "capture":
            self.chunks = []
            self._tap = ListTap(reactor, read_end, self.chunks, on_end)
        elif isinstance(endpoint.value, int):
            with _closed_on_error(read_end, write_end):
                sink = open_sink(endpoint)
                transfer = Transfer(read_end, sink, source_owned=True, sink_owned=False)
            self._drainer = Drainer(reactor, transfer, None, on_end)
        else:
            with _closed_on_error(read_end, write_end):
                self._drain(endpoint, FdReader(read_end, owned_description=True), reactor, on_end)

    def _drain(
        self, endpoint: Endpoint, reader: Reader, reactor: Reactor, on_end: Callable[[], None]
    ) -> None:
        if endpoint.kind == "iterate":
            self.reader = reader
            return
        target = endpoint.value
        if isinstance(target, int):  # a non-blocking descriptor, which no child may have as it is
            target = FdWriter(open_sink(endpoint), owned_description=False)
        elif isinstance(target, Fifo):
            target = FifoWriter(target.path)
        self._drainer = Drainer(reactor, reader, target, on_end)

    @property
    def uses_thread(self) -> bool:
        """Whether another thread drains it."""
        return self._drainer is not None

    @property
    def finished(self) -> bool:
        """Whether nothing is to be waited for here any more."""
        if self._drainer is not None:
            return self._drainer.ended
        return self._tap is None or self._tap.closed

    @property
    def count(self) -> int | None:
        """Bytes that Penstock itself took out; None where it did not."""
        for port in (self._tap, self._drainer, self.reader):
            if port is not None:
                return port.count
        return None

    @property
    def captured(self) -> bytes | None:
        """What was captured, once the run has ended; None where it was not to be."""
        return None if self.chunks is None else b"".join(self.chunks)

    @property
    def error(self) -> BaseException | None:
        """What the caller's object raised, or why the stream was not read to its end."""
        if self._drainer is not None and self._drainer.error is not None:
            return self._drainer.error
        if self._tap is not None and not self._tap.ended:
            return self._tap.error or self._reason
        return None

    def start(self) -> None:
        """Begin to drain. Idempotent."""
        if self._started:
            return
        self._started = True
        if self._drainer is not None:
            self._drainer.start()
        elif self._tap is not None:
            self._tap.start()

    def stop(self, reason: BaseException, late: float) -> None:
        """The stages have ended after a cancellation: take what is there, and no more.

        The caller's object is given until `late`, by `time.monotonic()`.
        """
        self._reason = reason
        if self._drainer is not None:
            drainer = self._drainer
            self._reactor.post(lambda: drainer.stop(reason, late))
        elif self._tap is not None:
            tap = self._tap
            self._reactor.post(tap.finish)
        elif self.reader is not None:
            self.reader.interrupt(reason)

    def abandon(self) -> None:
        """Close everything: nothing was started."""
        self.output.close()
        if self._drainer is not None:
            self._drainer.abandon()
        if self._tap is not None:
            self._tap.forget()
        for thing in (self.reader, self.file, self.stream):
            if thing is not None:
                thing.close()


@contextlib.contextmanager
def _closed_on_error(*ends: Fd) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for end in ends:
            end.close()
        raise


def _served_by_loop(endpoint: Endpoint) -> bool:
    """Whether an event loop serves our end of the pipe: then the value makes its stream of a descriptor."""
    return endpoint.kind in ("pipe", "iterate", "async") and endpoint.value is not None


def _pipe(endpoint: Endpoint, wanted: int | None, *, ours: int) -> tuple[Fd, Fd]:
    """A pipe at an end of the pipeline: larger than usual where one side is copied to or from a descriptor,
    or served by an event loop. What that takes of the budget is given back with the end that stays here.
    """
    ends = pipe()
    if wanted is not None:
        ends[ours].pages = resize(ends[ours].fileno(), wanted, asked_for=True)
    elif isinstance(endpoint.value, int) or _served_by_loop(endpoint):
        ends[ours].pages = resize(ends[ours].fileno(), GROWN_SIZE)
    return ends


def _feeder(endpoint: Endpoint, writer: Writer) -> Feeder:
    if isinstance(endpoint.value, int):  # a non-blocking descriptor: read here, with wake-up
        return Feeder(None, writer, FdReader(open_source(endpoint), owned_description=False))
    if isinstance(endpoint.value, Fifo):
        return Feeder(None, writer, FifoReader(endpoint.value.path))
    return Feeder(endpoint.value, writer)

"""The two outer edges of a run while it goes on: a port feeds the first stage, and a port drains the last.

The endpoints of the plan open ports (`stdin_endpoints`, `stdout_endpoints`, `loop_binding`), before anything
is spawned, so that a path that cannot be opened fails the run with nothing started. A port owns what it needs
besides the end that the stage gets: a copy in a worker or a task, a tap in the reactor, a file object for the
user.
"""

from __future__ import annotations

import contextlib

from penstock.system.fds import pipe
from penstock.system.pipe_capacity import GROWN_SIZE, resize

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator
    from typing import Any

    from penstock.aio.copy_tasks import AsyncDrainer, AsyncFeeder
    from penstock.core.captured import Captured
    from penstock.runtime.copy_tasks import Drainer, Feeder
    from penstock.runtime.reactor import Reactor
    from penstock.runtime.taps import CaptureTap, InputWriter
    from penstock.streams.clocked_writer import ClockedWriter
    from penstock.streams.pipe_writer import PipeWriter
    from penstock.streams.reader import Reader
    from penstock.streams.stage_ends import Input, Output
    from penstock.system.fds import Fd

__all__ = [
    "CapturePort",
    "DrainedPort",
    "StdinPort",
    "StdoutPort",
    "close_on_error",
    "open_pipe",
]


class StdinPort:
    """Feeds the first stage; `input` is the end that the stage gets.

    Without a feeder the stage reads its input directly, or the user writes into the pipe.
    """

    __slots__ = (
        "_error",
        "_feeder",
        "_given_up",
        "_in_reactor",
        "_size",
        "file",
        "finished",
        "input",
        "stream",
    )

    def __init__(  # noqa: PLR0913 - one for each kind of feeding
        self,
        end: Input,
        feeder: Feeder | AsyncFeeder | InputWriter | None = None,
        *,
        in_reactor: bool = False,
        size: int | None = None,
        file: PipeWriter | None = None,
        stream: Any = None,
    ) -> None:
        """`in_reactor`: the reactor feeds, not another thread. `size`: bytes that `end` holds already."""
        self.input = end
        self.file = file
        self.stream = stream
        """In a run of an event loop this takes the place of the file."""
        self._feeder = feeder
        self._in_reactor = in_reactor
        self._size = size
        self._error: BaseException | None = None
        self._given_up = False
        self.finished = False
        """Whether it was released, and holds nothing any more."""

    @property
    def uses_thread(self) -> bool:
        """Whether another thread feeds it."""
        return self._feeder is not None and not self._in_reactor

    @property
    def count(self) -> int | None:
        """Bytes that Penstock itself put in; None if it put in none."""
        return self._size if self._feeder is None else self._feeder.count

    @property
    def error(self) -> BaseException | None:
        """The exception that the user's object raised, or the reason why its bytes could not be passed on."""
        return self._error if self._given_up or self._feeder is None else self._feeder.error

    def give_up(self, *, given_up: bool = True) -> None:
        """Let only earlier errors count, because the first stage is being stopped; or take that back."""
        if given_up != self._given_up:
            self._error = self.error if given_up else None
            self._given_up = given_up

    def limit(self, on_exceeded: Callable[[], object]) -> None:
        """Do nothing, as for all that only the output needs."""

    def stop(self, reason: BaseException, deadline: float) -> None:
        """Do nothing: `release` stops the feeding."""

    def start(self) -> None:
        """Begin to feed."""
        if self._feeder is not None:
            self._feeder.start()

    def release(self, on_end: Callable[[], None]) -> None:
        """Stop feeding, because the stages have ended or were never started.

        `on_end()` follows once this is `finished`. Until then it may be called again, and is: an interrupt
        may have come in the middle of it.
        """
        if self.finished:
            return
        if self._feeder is None:
            self.finished = True
            return

        def end() -> None:
            self.finished = True
            on_end()

        self._feeder.release(end)

    def abandon(self) -> None:
        """Close everything, because nothing was started."""
        self.input.close()
        if self._feeder is not None:
            self._feeder.abandon()
        for thing in (self.file, self.stream):
            if thing is not None:
                thing.close()


class StdoutPort:
    """Takes what the last stage writes; `output` is the end that the stage gets.

    This class drains nothing: the stage writes to its output directly, or the user reads from the pipe.
    """

    __slots__ = ("clock", "file", "output", "reader", "stream")

    def __init__(
        self,
        output: Output,
        *,
        file: io.BufferedReader | None = None,
        stream: Any = None,
        reader: Reader | None = None,
    ) -> None:
        self.output = output
        self.file = file
        self.stream = stream
        """In a run of an event loop this takes the place of the file."""
        self.reader = reader
        """The user's iterator reads from this."""
        self.clock: ClockedWriter | None = None
        """Notes when the stage has written, in a run with `idle_timeout`."""

    @property
    def waiting_since(self) -> float | None:
        """The `time.monotonic()` since which bytes are waited for; None while whoever takes them is slow."""
        for each in (self.clock, self.reader, self.stream):
            if each is not None:
                since: float | None = each.waiting_since
                return since
        return None

    @property
    def is_relay(self) -> bool:
        """Whether it passes on what the stage could have written to its target itself."""
        return False

    @property
    def has_unread(self) -> bool:
        """Whether bytes wait for the caller, who may take them at any time without Penstock noticing it."""
        return any(each is not None and each.has_unread for each in (self.reader, self.stream))

    @property
    def uses_thread(self) -> bool:
        """Whether another thread drains it."""
        return False

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to wait for."""
        return True

    @property
    def count(self) -> int | None:
        """Bytes that Penstock itself took out; None if the kernel or the user took them."""
        return None if self.reader is None else self.reader.count

    @property
    def captured(self) -> bytes | None:
        """The captured bytes, once the run has ended; None if nothing is captured."""
        return None

    @property
    def error(self) -> BaseException | None:
        """The exception that the user's object raised, or the reason why the stream was not read to EOF."""
        return None

    def limit(self, on_exceeded: Callable[[], object]) -> None:
        """Have `on_exceeded()` called when there is more output than may be kept."""

    def start(self) -> None:
        """Begin to drain. Idempotent."""

    def release(self, on_end: Callable[[], None]) -> None:
        """Do nothing: it drains until EOF."""

    def stop(self, reason: BaseException, deadline: float) -> None:
        """Take what is there and no more, because the stages have ended after a cancellation.

        The user's object has until `deadline`, by `time.monotonic()`, to return.
        """

    def abandon(self) -> None:
        """Close everything, because nothing was started."""
        self.output.close()
        for thing in (self.reader, self.file, self.stream):
            if thing is not None:
                thing.close()


class CapturePort(StdoutPort):
    """Keeps everything: the stage appends to `captured` itself, or a tap reads its pipe."""

    __slots__ = ("_captured", "_reactor", "_reason", "_started", "_tap")

    def __init__(
        self, output: Output, captured: Captured, reactor: Reactor, tap: CaptureTap | None = None
    ) -> None:
        super().__init__(output)
        self._captured = captured
        self._reactor = reactor
        self._tap = tap
        self._reason: BaseException | None = None
        self._started = False

    @property
    def waiting_since(self) -> float | None:
        """When the last bytes came, by `time.monotonic()`."""
        return super().waiting_since if self._tap is None else self._tap.waiting_since

    @property
    def finished(self) -> bool:
        """Whether the pipe was read to its end, or is not read any more."""
        return self._tap is None or self._tap.closed

    @property
    def count(self) -> int | None:
        """Bytes that the tap read; None if the stage appends its chunks itself."""
        return None if self._tap is None else self._tap.count

    @property
    def captured(self) -> bytes | None:
        """The captured bytes, once the run has ended."""
        return self._captured.value()

    @property
    def error(self) -> BaseException | None:
        """The reason why the stream was not read to EOF, or not all of it was kept."""
        if self._captured.exceeded is not None:
            return self._captured.exceeded
        if self._tap is not None and not self._tap.ended:
            return self._tap.error or self._reason
        return None

    def limit(self, on_exceeded: Callable[[], object]) -> None:
        """Have `on_exceeded()` called, in whatever thread, when more than the limit was written."""
        self._captured.on_exceeded = on_exceeded

    def start(self) -> None:
        """Begin to drain. Idempotent."""
        if not self._started:
            self._started = True
            if self._tap is not None:
                self._tap.start()

    def stop(self, reason: BaseException, deadline: float) -> None:
        """Take what is there and no more."""
        self._reason = reason
        if self._tap is not None:
            self._reactor.post(self._tap.finish)

    def abandon(self) -> None:
        """Close everything, because nothing was started."""
        super().abandon()
        if self._tap is not None:
            self._tap.forget()


class DrainedPort(StdoutPort):
    """Has a worker, or a task of an event loop, copy into the user's object."""

    __slots__ = ("_drainer", "_reactor", "_started")

    def __init__(self, output: Output, drainer: Drainer | AsyncDrainer, reactor: Reactor) -> None:
        super().__init__(output)
        self._drainer = drainer
        self._reactor = reactor
        self._started = False

    @property
    def waiting_since(self) -> float | None:
        """Since when the copy has waited for the stage, by `time.monotonic()`; None if it does not."""
        return self._drainer.waiting_since

    @property
    def has_unread(self) -> bool:
        """Whether bytes wait for the copy."""
        return self._drainer.has_unread

    @property
    def uses_thread(self) -> bool:
        """Whether another thread drains it."""
        return True

    @property
    def finished(self) -> bool:
        """Whether the copy has ended."""
        return self._drainer.done

    @property
    def count(self) -> int | None:
        """Bytes copied."""
        return self._drainer.count

    @property
    def error(self) -> BaseException | None:
        """The exception that the user's object raised, or the reason of a cancellation."""
        return self._drainer.error

    def start(self) -> None:
        """Begin to drain. Idempotent."""
        if not self._started:
            self._started = True
            self._drainer.start()

    def stop(self, reason: BaseException, deadline: float) -> None:
        """Take no more; the user's object has until `deadline`, by `time.monotonic()`."""
        drainer = self._drainer
        self._reactor.post(lambda: drainer.stop(reason, deadline))

    def abandon(self) -> None:
        """Close everything, because nothing was started."""
        super().abandon()
        self._drainer.abandon()


def open_pipe(pipe_size: int | None, *, kept: int, grow: bool = False) -> tuple[Fd, Fd]:
    """Open the pipe between a stage and its port; `kept` says which end the port keeps: 0 reads, 1 writes.

    It holds `pipe_size` bytes if the user gave a size. If not, `grow` makes it larger than usual, for a copy
    to or from a descriptor and for an event loop. When the end that is kept is closed,
    it gives its share of the budget back.
    """
    ends = pipe()
    if pipe_size is not None:
        ends[kept].pages = resize(ends[kept].fileno(), pipe_size, asked_for=True)
    elif grow:
        ends[kept].pages = resize(ends[kept].fileno(), GROWN_SIZE)
    return ends


@contextlib.contextmanager
def close_on_error(*ends: Fd) -> Iterator[None]:
    """Close both ends of a pipe if the block raises."""
    try:
        yield
    except BaseException:
        for end in ends:
            end.close()
        raise

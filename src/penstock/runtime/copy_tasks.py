"""Copy between a pipeline and a user object, whose methods may block for as long as they like.

Each copy runs in a worker. A `Feeder` copies from the object into the first stage. Once the stages have ended
nobody needs it, so it is released. If it is in user code at that moment, the worker is left there, holds
nothing of the run, and ends when the user code returns. A `Drainer` copies from the last stage into the
object. The run waits for it, but after a cancellation only until a deadline, as for a function.

If the object is a descriptor that no child may have, and there is a pipe on the other side, one `Transfer`
holds both and moves the bytes. It then takes the place of a feeder's writer, or of a drainer's reader.
"""

from __future__ import annotations

from penstock.core.errors import Cancelled
from penstock.core.matchers import is_pipe_error
from penstock.runtime.guarded_call import GuardedCall
from penstock.runtime.late_calls import ReactorCalls
from penstock.streams.base import Stream, before_sleep
from penstock.streams.copy import copy_stream
from penstock.streams.fifo_streams import FifoWriter
from penstock.streams.transfer import Transfer
from penstock.streams.user_objects import drain, feed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from penstock.runtime.pipe_rest import PipeRest
    from penstock.runtime.reactor import Reactor
    from penstock.streams.probe import Probe
    from penstock.streams.reader import Reader
    from penstock.streams.writer import Writer

__all__ = ["Drainer", "Feeder", "Relay"]


class Feeder(GuardedCall):
    """Copies a user object, or one of our readers, into `writer`."""

    def __init__(
        self,
        source: Any,
        writer: Writer | Transfer,
        reader: Reader | None = None,
        *,
        reactor: Reactor | None = None,
    ) -> None:
        """`reactor` is needed for a `source`, not for a `reader`."""
        super().__init__()
        self._source = source
        self._reactor = reactor
        self._reader = reader
        self._writer = writer

    @property
    def count(self) -> int:
        """Bytes copied."""
        return self._writer.count

    def probe(self) -> Probe:
        """Return what the end that it writes to shows; see `streams.probe`."""
        writer = self._writer
        return writer.probe_sink() if isinstance(writer, Transfer) else writer.probe()

    def release(self, on_end: Callable[[], None]) -> None:
        """Stop, since the stages have ended or not all of them could be started.

        `on_end()` is called once the feeder holds nothing of the run, perhaps at once.
        """
        self._stopped = True  # first: the interrupts below must not count as errors
        reason = Cancelled("the stages have ended")
        self._writer.interrupt(reason)
        if self._reader is not None:
            self._reader.interrupt(reason)
        self.leave()
        self.on_done(on_end)

    def run(self) -> None:
        """Copy all of it."""
        source, self._source = self._source, None
        if isinstance(self._writer, Transfer):
            self._writer.run()
        elif self._reader is not None:
            copy_stream(self._reader, self._writer)
        elif self._reactor is not None:
            feed(source, self._writer, self.call_user_code, ReactorCalls(self._reactor))

    def judge(self, outcome: BaseException | None) -> BaseException | None:
        """Return the error, unless it only says that the first stage has ended. `_lock` is held."""
        return None if self._stopped or outcome is None or is_pipe_error(outcome) else outcome

    def release_streams(self) -> None:
        """Close both sides."""
        if self._reader is not None:
            self._reader.close()
        self._writer.close()


class Relay(Feeder):
    """Moves bytes of the caller's reader into a pipe, and gives back those that nobody has taken out of it.

    The bytes come from the reader's descriptor by a `Transfer`, or from one of our own readers, which lends
    them (`streams.lent_readers`), to `writer`.
    """

    def __init__(self, writer: Writer | Transfer, reader: Reader | None, rest: PipeRest) -> None:
        super().__init__(None, writer, reader)
        self._unsent = b""
        self._rest = rest

    def run(self) -> None:
        """Move all of it."""
        if self._reader is None or isinstance(self._writer, Transfer):
            super().run()
            return
        for chunk in self._reader.chunks():
            before = self._writer.count
            try:
                self._writer.write(chunk)
            except BaseException:
                self._unsent = chunk[self._writer.count - before :]
                raise

    def release(self, on_end: Callable[[], None]) -> None:
        """Stop, and give back what is left."""

        def finish() -> None:
            self._return_rest()
            on_end()

        super().release(finish)

    def abandon(self, outcome: BaseException | None = None) -> None:
        """End without a start."""
        super().abandon(outcome)
        self._return_rest()

    def _return_rest(self) -> None:
        self._rest.give_back(self._writer.unsent if isinstance(self._writer, Transfer) else self._unsent)


class Drainer(GuardedCall):
    """Copies the output of the last stage into a user object.

    `sink` may be a stream. One that was made for this copy (`sink_owned`) is interrupted and closed with it.
    The stdout of a stage, which a run inside its function got as its own stdout, outlives the copy: a write
    that is blocked in it ends by the hook of the worker's thread.
    """

    _stop_reason: BaseException | None = None

    def __init__(
        self,
        reactor: Reactor,
        reader: Reader | Transfer,
        sink: Any,
        on_end: Callable[[], None],
        *,
        sink_owned: bool = False,
    ) -> None:
        super().__init__()
        self._sink_owned = sink_owned
        self._reactor = reactor
        self._reader = reader
        self._sink = sink
        self._callback = on_end

    @property
    def count(self) -> int:
        """Bytes copied."""
        return self._reader.count

    def probe(self) -> Probe:
        """Return what the end that it reads shows; see `streams.probe`."""
        return self._reader.probe()

    has_unread = False
    """Its worker takes at once what comes."""

    @property
    def waiting_since(self) -> float | None:
        """The `time.monotonic()` since which it has waited for the last stage; None if it does not."""
        return self._reader.waiting_since

    def stop(self, reason: BaseException, deadline: float) -> None:
        """Stop reading, since the stages were cancelled and have ended. In the reactor's thread.

        At `deadline` (`time.monotonic()`) the run stops waiting for the user object.
        """
        if self.done:
            return
        self._reader.interrupt(reason)
        sink = self._sink
        if isinstance(sink, Stream) and self._sink_owned:
            sink.interrupt(reason)
        elif isinstance(sink, Stream):
            self._stop_reason = reason
            sink.nudge()
        self.abandon_at(deadline, reason, self._reactor)

    def run(self) -> None:
        """Copy all of it."""
        if isinstance(self._reader, Transfer):
            self._reader.run()
            return
        if isinstance(self._sink, FifoWriter):
            self._sink.flush()  # a reader waits for it to be opened, even if no data comes
        before, before_sleep.hook = before_sleep.hook, self._check_stopped
        try:
            drain(self._reader, self._sink)
        finally:
            before_sleep.hook = before

    def _check_stopped(self) -> None:
        """Raise the reason for which the copy is to end, in its own thread."""
        if self._stop_reason is not None:
            raise self._stop_reason

    def release_streams(self) -> None:
        """Close the pipeline's side; the user object stays open."""
        sink, self._sink = self._sink, None
        self._reader.close()
        if isinstance(sink, Stream) and self._sink_owned:
            sink.close()

"""Copies between a pipeline and an object of the caller's, whose methods may block for as long as they like.

Each runs in a worker. A feeder copies from the caller's object into the first stage; when the stages have
ended it is of no more use, so it is released: where it sits in the caller's own code it is left there,
holding nothing of ours, and ends when that returns. A drainer copies from the last stage to the caller's
object; the run waits for it, except after a cancellation, where it is abandoned like a function that does not
end.

Where the object is a descriptor that may not be passed, and a pipe stands on the other side, one `Transfer`
holds both and carries the bytes; it is then what a feeder has for a writer, a drainer for a reader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.core.errors import Cancelled
from penstock.core.matchers import is_pipe_error
from penstock.runtime.guarded_call import GuardedCall
from penstock.streams.base import Stream
from penstock.streams.copy import copy_stream
from penstock.streams.fifo_streams import FifoWriter
from penstock.streams.transfer import Transfer
from penstock.streams.user_objects import drain, feed

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime.reactor import Reactor
    from penstock.streams.reader import Reader
    from penstock.streams.writer import Writer

__all__ = ["Drainer", "Feeder"]


class Feeder(GuardedCall):
    """Copies a caller's object, or a reader of ours, into `writer`."""

    def __init__(self, source: Any, writer: Writer | Transfer, reader: Reader | None = None) -> None:
        super().__init__()
        self._source = source
        self._reader = reader
        self._writer = writer

    @property
    def count(self) -> int:
        """Bytes copied."""
        return self._writer.count

    def release(self, on_end: Callable[[], None]) -> None:
        """The stages have ended, or not all could be started: stop.

        `on_end()` is called once nothing of the run is held any more, perhaps at once.
        """
        self._stopped = True  # first: what the worker raises from now on is no error
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
        else:
            feed(source, self._writer, self.call_user_code)

    def judge(self, outcome: BaseException | None) -> BaseException | None:
        """That the first stage has left is never an error of who feeds it."""
        return None if self._stopped or outcome is None or is_pipe_error(outcome) else outcome

    def release_streams(self) -> None:
        """Close both sides."""
        if self._reader is not None:
            self._reader.close()
        self._writer.close()


class Drainer(GuardedCall):
    """Copies what the last stage writes into a caller's object."""

    def __init__(
        self,
        reactor: Reactor,
        reader: Reader | Transfer,
        sink: Any,
        on_end: Callable[[], None],
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._reader = reader
        self._sink = sink
        self._callback = on_end

    @property
    def count(self) -> int:
        """Bytes copied."""
        return self._reader.count

    def stop(self, reason: BaseException, deadline: float) -> None:
        """The stages were cancelled and have ended: take no more.

        In the reactor's thread. At `deadline` (`time.monotonic()`) the caller's object is no longer waited
        for.
        """
        if self.done:
            return
        self._reader.interrupt(reason)
        if isinstance(self._sink, Stream):
            self._sink.interrupt(reason)
        self.abandon_at(deadline, reason, self._reactor)

    def run(self) -> None:
        """Copy all of it."""
        if isinstance(self._reader, Transfer):
            self._reader.run()
            return
        if isinstance(self._sink, FifoWriter):
            self._sink.flush()  # whoever reads it waits for it to be opened, also where nothing comes
        drain(self._reader, self._sink)

    def release_streams(self) -> None:
        """Close the side of the pipeline; the other is the caller's."""
        sink, self._sink = self._sink, None
        self._reader.close()
        if isinstance(sink, Stream):  # one of ours, around a descriptor of the caller's
            sink.close()

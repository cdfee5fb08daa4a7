"""Copies between a pipeline and an object of the caller's, whose methods may block for as long as they like.

Each runs in a worker. A feeder copies from the caller's object into the first stage; when the stages have
ended it is of no more use, so it is released: where it sits in the caller's own code it is left there,
holding nothing of ours, and ends when that returns. A drainer copies from the last stage to the caller's
object; the run waits for it, except after a cancellation, where it is abandoned like a function that does not
end.

Where the object is a descriptor that may not be passed, and a pipe stands on the other side, one `Transfer`
holds both and carries the bytes; it is then what a feeder has for a writer, a drainer for a reader.

`_lock` of a feeder guards who closes: the worker, or whoever released it while the worker was in the caller's
code.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from penstock.core.errors import Cancelled
from penstock.core.matchers import is_pipe_error
from penstock.runtime import thread_pool
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


class Feeder:
    """Copies a caller's object, or a reader of ours, into `writer`."""

    def __init__(self, source: Any, writer: Writer | Transfer, reader: Reader | None = None) -> None:
        self._source = source
        self._reader = reader
        self._writer = writer
        self._lock = threading.Lock()
        self._begun = False
        self._busy = False
        self._released = False
        self._ended = False
        self._on_end: Callable[[], None] | None = None
        self.error: BaseException | None = None

    @property
    def count(self) -> int:
        """Bytes copied."""
        return self._writer.count

    def start(self) -> None:
        """Begin, in a worker, where it is not released before that has taken it.

        So an interrupt may fall in before the worker has it, or after: `release` need not know.
        """
        thread_pool.submit(self._work)

    def release(self, on_end: Callable[[], None]) -> None:
        """The stages have ended, or not all could be started: stop.

        `on_end()` is called once nothing of the run is held any more, perhaps at once.
        """
        with self._lock:
            self._released = True
            never = not self._begun
            self._ended = self._ended or never
            waits = not (self._ended or self._busy)
            if waits:
                self._on_end = on_end
        reason = Cancelled("the stages have ended")
        self._writer.interrupt(reason)
        if self._reader is not None:
            self._reader.interrupt(reason)
        if never:
            self.abandon()
        if not waits:
            self._writer.close()
            on_end()

    def abandon(self) -> None:
        """Close the streams of a copy that never began."""
        if self._reader is not None:
            self._reader.close()
        self._writer.close()

    def _work(self) -> None:
        with self._lock:
            if self._released:
                return
            self._begun = True
        error: BaseException | None = None
        try:
            if isinstance(self._writer, Transfer):
                self._writer.run()
            elif self._reader is not None:
                copy_stream(self._reader, self._writer)
            else:
                feed(self._source, self._writer, self._call)
        except BaseException as raised:  # noqa: BLE001 - whatever the caller's object raises is the outcome of this edge
            error = raised
        with self._lock:
            # That the first stage has left is never an error of who feeds it.
            if error is not None and not self._released and not is_pipe_error(error):
                self.error = error
        self._source = None
        self.abandon()
        with self._lock:
            self._ended = True
            on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call code of the caller's, in which the worker is left behind where the stages have ended."""
        self._mark(busy=True)
        try:
            return function(*arguments)
        finally:
            self._mark(busy=False)

    def _mark(self, *, busy: bool) -> None:
        with self._lock:
            if self._released:
                raise Cancelled("the stages have ended")
            self._busy = busy


class Drainer:
    """Copies what the last stage writes into a caller's object."""

    def __init__(
        self,
        reactor: Reactor,
        reader: Reader | Transfer,
        sink: Any,
        on_end: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._reader = reader
        self._sink = sink
        self._on_end: Callable[[], None] | None = on_end
        self._lock = threading.Lock()
        self._reason: BaseException | None = None
        self.error: BaseException | None = None
        self.ended = False

    @property
    def count(self) -> int:
        """Bytes copied."""
        return self._reader.count

    def start(self) -> None:
        """Begin, in a worker."""
        thread_pool.submit(self._work)

    def stop(self, reason: BaseException, late: float) -> None:
        """The stages were cancelled and have ended: take no more.

        In the reactor's thread. At `late` (`time.monotonic()`) the caller's object is no longer waited for.
        """
        if self._reason is None:
            self._reason = reason
            self._reader.interrupt(reason)
            if isinstance(self._sink, Stream):
                self._sink.interrupt(reason)
            self._reactor.call_at(late, partial(self._end, reason))

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            if isinstance(self._reader, Transfer):
                self._reader.run()
            else:
                if isinstance(self._sink, FifoWriter):
                    self._sink.flush()  # whoever reads it waits for it to be opened, also where nothing comes
                drain(self._reader, self._sink)
        except BaseException as raised:  # noqa: BLE001 - whatever the caller's object raises is the outcome of this edge
            error = raised
        self._end(error)

    def abandon(self) -> None:
        """Close the stream of a copy that never began."""
        self._on_end = None
        self._reader.close()
        self.ended = True

    def _end(self, error: BaseException | None) -> None:
        with self._lock:
            on_end, self._on_end = self._on_end, None
            if on_end is None:
                return
            self.error = error
        sink, self._sink = self._sink, None
        self._reader.close()
        if isinstance(sink, Stream):  # one of ours, around a descriptor of the caller's
            sink.close()
        self.ended = True
        on_end()

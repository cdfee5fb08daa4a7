"""Copies between a pipeline and an object that belongs to an event loop, made by a task of that loop.

They stand in for the feeders and drainers of `control.copies`, and keep their promises: a feeder is released
when the stages have ended, and a drainer is stopped when they were cancelled. The task is cancelled for that;
one that does not heed it is left behind after the grace time, holding nothing of the run's.

`_lock` guards who tells of the end.
"""

from __future__ import annotations

import threading
import time
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import anyio

from penstock.aio.streams import FdReceiver, FdSender
from penstock.aio.user_objects import Chunks, sender_of
from penstock.core.matchers import is_pipe_error

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from penstock.runtime.reactor import Reactor
    from penstock.system.event_loops import Loop
    from penstock.system.fds import Fd

__all__ = ["AsyncDrainer", "AsyncFeeder"]


class _AsyncCopyTask:
    """A task that copies, until it is done or told to stop."""

    def __init__(
        self, stream: FdReceiver | FdSender, work: Callable[[], Coroutine[Any, Any, None]], loop: Loop
    ) -> None:
        self._stream = stream
        self._work = work
        self._loop = loop
        self._lock = threading.Lock()
        self._scope: anyio.CancelScope | None = None
        self._begun = False
        self._stopped = False
        self._on_end: Callable[[], None] | None = None
        self.error: BaseException | None = None
        self.done = False

    @property
    def count(self) -> int:
        """Bytes copied."""
        return self._stream.count

    def start(self) -> None:
        """Begin, in the loop; not where it was stopped before."""
        context = copy_context()
        with self._lock:
            if self._stopped:
                return
            self._begun = True
        if not self._loop.call(lambda: self._loop.spawn(self._run, context)):
            self._end(RuntimeError("the event loop is closed"))

    def abandon(self) -> None:
        """Close the stream of a copy that never began."""
        self._on_end = None
        self.done = True
        self._stream.close()

    async def _run(self) -> None:
        error: BaseException | None = None
        with anyio.CancelScope() as self._scope:
            if self._stopped:
                self._scope.cancel()
            try:
                await self._work()
            except anyio.get_cancelled_exc_class() as cancelled:
                error = cancelled
                raise
            except BaseException as raised:  # noqa: BLE001 - whatever the caller's object raises is the outcome
                error = raised
            finally:
                self._end(error)

    def _stop(self) -> bool:
        """Have the task cancelled; False where there is nothing to wait for."""
        with self._lock:
            self._stopped = True
            waits = self._begun and not self.done
        return waits and self._loop.call(self._cancel)

    def _cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    def _end(self, error: BaseException | None) -> None:
        with self._lock:
            if self.done:
                return
            self.done = True
            self.error = self._judged(error)
            on_end, self._on_end = self._on_end, None
        self._stream.close()
        if on_end is not None:
            on_end()

    def _judged(self, error: BaseException | None) -> BaseException | None:
        raise NotImplementedError


class AsyncFeeder(_AsyncCopyTask):
    """Copies what an async object of the caller's gives into the pipe to the first stage."""

    def __init__(self, source: Any, fd: Fd, loop: Loop, reactor: Reactor, grace: float) -> None:
        sender = FdSender(fd, loop)
        super().__init__(sender, self._feed, loop)
        self._source = source
        self._sender = sender
        self._reactor = reactor
        self._grace = grace

    def release(self, on_end: Callable[[], None]) -> None:
        """The stages have ended, or not all could be started: stop.

        `on_end()` is called once nothing of the run is held any more, perhaps at once.
        """
        with self._lock:
            self._on_end = on_end
        if self._stop():
            self._reactor.call_at(time.monotonic() + self._grace, lambda: self._end(None))
            return
        with self._lock:
            self.done = True
            waiting, self._on_end = self._on_end, None
        self._stream.close()
        if waiting is not None:
            waiting()

    async def _feed(self) -> None:
        chunks = Chunks(self._source)
        try:
            while (chunk := await chunks.next()) is not None:
                await self._sender.send(chunk)
        finally:
            await chunks.aclose()

    def _judged(self, error: BaseException | None) -> BaseException | None:
        # That the first stage has left is never an error of who feeds it.
        return None if self._stopped or error is None or is_pipe_error(error) else error


class AsyncDrainer(_AsyncCopyTask):
    """Copies what the last stage writes into an async object of the caller's."""

    def __init__(self, sink: Any, fd: Fd, loop: Loop, reactor: Reactor, on_end: Callable[[], None]) -> None:
        receiver = FdReceiver(fd, loop)
        super().__init__(receiver, self._drain, loop)
        self._sink = sink
        self._receiver = receiver
        self._reactor = reactor
        self._on_end = on_end
        self._reason: BaseException | None = None

    def stop(self, reason: BaseException, late: float) -> None:
        """The stages were cancelled and have ended: take no more.

        In the reactor's thread. At `late` (`time.monotonic()`) the caller's object is no longer waited for.
        """
        if self._reason is None:
            self._reason = reason
            if self._stop():
                self._reactor.call_at(late, lambda: self._end(reason))
            else:
                self._end(reason)

    async def _drain(self) -> None:
        send = sender_of(self._sink)
        async for chunk in self._receiver:
            await send(chunk)

    def _judged(self, error: BaseException | None) -> BaseException | None:
        return error if error is None or self._reason is None else self._reason

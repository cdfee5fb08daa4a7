"""Copies between a pipeline and an object that belongs to an event loop, made by a task of that loop.

They stand in for the feeders and drainers of `runtime.copy_tasks`, and keep their promises: a feeder is
released when the stages have ended, and a drainer is stopped when they were cancelled. The task is cancelled
for that; one that does not heed it is left behind after the grace time, holding nothing of the run's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from penstock.aio.streams import FdReceiver, FdSender
from penstock.aio.task_call import TaskCall
from penstock.aio.user_objects import Chunks, sender_of
from penstock.core.matchers import is_pipe_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime.reactor import Reactor
    from penstock.system.event_loops import Loop
    from penstock.system.fds import Fd

__all__ = ["AsyncDrainer", "AsyncFeeder"]


class AsyncFeeder(TaskCall):
    """Copies what an async object of the caller's gives into the pipe to the first stage."""

    def __init__(self, source: Any, fd: Fd, loop: Loop, reactor: Reactor, grace: float) -> None:
        super().__init__(loop)
        self._source = source
        self._sender = FdSender(fd, loop)
        self._reactor = reactor
        self._grace = grace

    @property
    def count(self) -> int:
        """Bytes copied."""
        return self._sender.count

    def release(self, on_end: Callable[[], None]) -> None:
        """The stages have ended, or not all could be started: stop.

        `on_end()` is called once nothing of the run is held any more, perhaps at once.
        """
        self.cancel_by(time.monotonic() + self._grace, None, self._reactor)
        self.on_done(on_end)

    async def run(self) -> None:
        """Copy all of it."""
        with self.cancellable():
            chunks = Chunks(self._source)
            try:
                while (chunk := await chunks.next()) is not None:
                    await self._sender.send(chunk)
            finally:
                await chunks.aclose()

    def judge(self, outcome: BaseException | None) -> BaseException | None:
        """That the first stage has left is never an error of who feeds it."""
        return None if self._stopped or outcome is None or is_pipe_error(outcome) else outcome

    def release_streams(self) -> None:
        """Close the side of the pipeline."""
        self._sender.close()


class AsyncDrainer(TaskCall):
    """Copies what the last stage writes into an async object of the caller's."""

    def __init__(self, sink: Any, fd: Fd, loop: Loop, reactor: Reactor, on_end: Callable[[], None]) -> None:
        super().__init__(loop)
        self._sink = sink
        self._receiver = FdReceiver(fd, loop)
        self._reactor = reactor
        self._callback = on_end
        self._reason: BaseException | None = None

    @property
    def count(self) -> int:
        """Bytes copied."""
        return self._receiver.count

    def stop(self, reason: BaseException, deadline: float) -> None:
        """The stages were cancelled and have ended: take no more.

        In the reactor's thread. At `deadline` (`time.monotonic()`) the caller's object is no longer waited
        for.
        """
        self._reason = self._reason or reason
        self.cancel_by(deadline, self._reason, self._reactor)

    async def run(self) -> BaseException | None:
        """Copy all of it."""
        with self.cancellable():
            send = sender_of(self._sink)
            async for chunk in self._receiver:
                await send(chunk)
            return None
        return self._reason

    def judge(self, outcome: BaseException | None) -> BaseException | None:
        """After a cancellation its reason counts, however the task took it."""
        return outcome if outcome is None or self._reason is None else self._reason

    def release_streams(self) -> None:
        """Close the side of the pipeline."""
        self._receiver.close()

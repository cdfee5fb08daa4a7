"""Copy between a pipeline and an object that belongs to an event loop, by a task of that loop.

These are the event-loop versions of the feeder and drainer of `runtime.copy_tasks`, with the same promises:
a feeder is released when the stages have ended, and a drainer is stopped when they were cancelled. Both
cancel the task. A task that ignores its cancellation is abandoned after the grace time, and holds nothing of
the run then.
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

    from penstock.runtime.pipe_rest import PipeRest
    from penstock.runtime.reactor import Reactor
    from penstock.streams.probe import Probe
    from penstock.system.event_loops import Loop
    from penstock.system.fds import Fd

__all__ = ["AsyncDrainer", "AsyncFeeder"]


class AsyncFeeder(TaskCall):
    """Copies the chunks of an async user object into the pipe to the first stage."""

    def __init__(  # noqa: PLR0913 - the parts of a copy
        self, source: Any, fd: Fd, loop: Loop, reactor: Reactor, grace: float, rest: PipeRest | None
    ) -> None:
        """`rest`: the bytes that are left in the pipe at the end go back to the source."""
        super().__init__(loop)
        self._rest = rest
        self._unsent = b""
        self._source = source
        self._sender = FdSender(fd, loop)
        self._reactor = reactor
        self._grace = grace

    @property
    def count(self) -> int:
        """Bytes copied."""
        return self._sender.count

    def probe(self) -> Probe:
        """Return what the end of the pipe shows; see `streams.probe`."""
        return self._sender.probe()

    def release(self, on_end: Callable[[], None]) -> None:
        """Stop, since the stages have ended or not all of them could be started.

        `on_end()` is called once the feeder holds nothing of the run, perhaps at once.
        """

        def finish() -> None:
            self._return_rest()
            on_end()

        self.cancel_by(time.monotonic() + self._grace, None, self._reactor)
        self.on_done(finish)

    def abandon(self, outcome: BaseException | None = None) -> None:
        """End, whatever the task does, or if it never was to have one."""
        super().abandon(outcome)
        self._return_rest()

    def _return_rest(self) -> None:
        if self._rest is not None:
            self._rest.give_back(self._unsent)

    async def run(self) -> None:
        """Copy all of it."""
        with self.cancellable():
            chunks = Chunks(self._source)
            try:
                while (chunk := await chunks.next()) is not None:
                    before = self._sender.count
                    try:
                        await self._sender.send(chunk)
                    except BaseException:
                        self._unsent = chunk[self._sender.count - before :]
                        raise
            finally:
                await chunks.aclose()

    def judge(self, outcome: BaseException | None) -> BaseException | None:
        """Return the error, unless it only says that the first stage has ended. `_lock` is held."""
        return None if self._stopped or outcome is None or is_pipe_error(outcome) else outcome

    def release_streams(self) -> None:
        """Close the pipeline's side; the user object stays open."""
        self._sender.close()


class AsyncDrainer(TaskCall):
    """Copies the output of the last stage into an async user object."""

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

    def probe(self) -> Probe:
        """Return what the end of the pipe shows; see `streams.probe`."""
        return self._receiver.probe()

    @property
    def has_unread(self) -> bool:
        """Whether the last stage has written bytes that the task has not taken yet."""
        return self._receiver.has_unread

    @property
    def waiting_since(self) -> float | None:
        """The `time.monotonic()` since which it has waited for the last stage; None if it does not."""
        return self._receiver.waiting_since

    def stop(self, reason: BaseException, deadline: float) -> None:
        """Stop reading, since the stages were cancelled and have ended. In the reactor's thread.

        At `deadline` (`time.monotonic()`) the run stops waiting for the user object.
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
        """Return the reason in place of an error that follows a cancellation. `_lock` is held."""
        return outcome if outcome is None or self._reason is None else self._reason

    def release_streams(self) -> None:
        """Close the pipeline's side; the user object stays open."""
        self._receiver.close()

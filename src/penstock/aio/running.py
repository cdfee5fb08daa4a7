"""A running stage whose work is a coroutine.

Its task belongs to no task group of user code. So a coroutine that ignores its cancellation is abandoned
after the grace time like any function; a task group could not be left while it goes on. The run itself is
structured: it does not end before its stages, and its owner waits for it.

A cancellation is delivered by the task's own scope, and by the streams, which raise the reason.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream

from penstock.aio.streams import FdReceiver, FdSender
from penstock.aio.task_call import TaskCall
from penstock.aio.thread_calls import ThreadCall
from penstock.aio.user_objects import Chunks
from penstock.core.errors import FinishEarly
from penstock.stages.context import NamedEnds
from penstock.stages.running import ThreadedStage
from penstock.system.fds import is_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from penstock.stages.branch import StagePorts
    from penstock.stages.context import StageContext
    from penstock.streams.reader import Reader
    from penstock.streams.stage_ends import Input, Output
    from penstock.streams.writer import Writer
    from penstock.system.event_loops import Loop

__all__ = ["RunningCoroutine", "write_all"]


class RunningCoroutine(ThreadedStage):
    """One started stage; `work(ctx, stdin, stdout)` makes its coroutine."""

    def __init__(  # noqa: PLR0913 - the ends of a stage
        self,
        ctx: StageContext,
        work: Callable[[StageContext, Any, Any], Coroutine[Any, Any, None]],
        stdin: Input,
        stdout: Output,
        loop: Loop,
        ports: StagePorts | None = None,
    ) -> None:
        others = [] if ports is None else ports.ends.values()
        super().__init__(ctx, stdout, stdin, *others)
        self._ports = ports
        self._work = work
        self._stdin = stdin
        self._stdout = stdout
        self._loop = loop
        self._task = TaskCall(loop, self._run)
        self._task.on_done(self._finish)
        ctx.barrier.add_callback(self._task.start)

    def interrupt(self, reason: BaseException) -> None:
        """Cancel the coroutine; if it has not begun, it never will."""
        super().interrupt(reason)
        self._task.cancel(reason)

    async def _run(self) -> BaseException | None:
        error: BaseException | None = None
        with self._task.cancellable():
            error = await self._attempt()
        if error is not None and self.ctx.scope.on_exception is not None:
            # The handler is user code and may block.
            error = await ThreadCall(self._loop, partial(self._seen, error)).result()
        return error

    async def _attempt(self) -> BaseException | None:
        try:
            loop = self._loop
            stdin, stdout = receiver_of(self._stdin, loop), sender_of(self._stdout, loop)
            if self._ports is not None:
                inputs, outputs = self._ports.inputs, self._ports.outputs
                self.ctx.inputs = NamedEnds({name: receiver_of(end, loop) for name, end in inputs.items()})
                self.ctx.outputs = NamedEnds({name: sender_of(end, loop) for name, end in outputs.items()})
            await self._work(self.ctx, stdin, stdout)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as raised:  # noqa: BLE001 - whatever the coroutine raises is the outcome of the stage
            # Drop this frame from the traceback: it would keep everything alive that the run holds.
            return raised.with_traceback(raised.__traceback__ and raised.__traceback__.tb_next)
        return None

    def _seen(self, error: BaseException) -> BaseException | None:
        return error if isinstance(error, FinishEarly) else self.apply_on_exception(error)

    def _finish(self) -> None:
        self.release()
        self.complete(self.outcome(self._task.error))


def receiver_of(end: Input, loop: Loop) -> ByteReceiveStream:
    """Return a stream for the stage's input."""
    if _is_simple(end):
        stream: FdReceiver = end.wrap(lambda fd: FdReceiver(fd, loop))
        return stream
    return _ThreadReceiver(end.reader, loop)


def sender_of(end: Output, loop: Loop) -> ByteSendStream:
    """Return a stream for the stage's output."""
    if _is_simple(end):
        stream: FdSender = end.wrap(lambda fd: FdSender(fd, loop))
        return stream
    return _ThreadSender(end.writer, loop)


def _is_simple(end: Input | Output) -> bool:
    """Return whether a loop can wait for it: it is an exclusive descriptor, and not a file on a disk."""
    return end.exclusive and end.fd is not None and not is_regular(end.fd)


class _ThreadReceiver(ByteReceiveStream):
    """Reads, by a worker, a stream that a loop cannot wait for.

    A cancelled `receive` loses nothing: the next one gets the bytes that the worker has read.
    """

    def __init__(self, reader: Reader, loop: Loop) -> None:
        self._reader = reader
        self._loop = loop
        self._call: ThreadCall[bytes] | None = None
        self._rest = b""

    def take_back(self, data: bytes) -> None:
        """Take back as `FdReceiver.take_back` does."""
        self._rest = data + self._rest

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive as `FdReceiver.receive` does."""
        if not self._rest:
            if self._call is None:
                self._call = ThreadCall(self._loop, lambda: self._reader.read1(max_bytes))
            self._rest = await self._call.result()
            self._call = None
            if not self._rest:
                raise anyio.EndOfStream
        data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return data

    async def aclose(self) -> None:
        """Close it, and wake a worker that waits in it."""
        self._reader.close()


class _ThreadSender(ByteSendStream):
    """Writes, by a worker, to a stream that a loop cannot wait for."""

    def __init__(self, writer: Writer, loop: Loop) -> None:
        self._writer = writer
        self._loop = loop
        self._call: ThreadCall[int] | None = None

    async def send(self, item: bytes) -> None:
        """Send as `FdSender.send` does."""
        if self._call is not None:  # a send that was cancelled
            await self._call.result()
        data = bytes(item)
        self._call = ThreadCall(self._loop, lambda: self._writer.write(data))
        try:
            await self._call.result()
        except BrokenPipeError as error:
            raise anyio.BrokenResourceError from error
        self._call = None

    async def aclose(self) -> None:
        """Close it, and wake a worker that waits in it."""
        self._writer.close()


async def write_all(made: Any, stdout: Any, name: str) -> None:
    """Write the chunks of an async iterable. TypeError, naming the stage, if `made` is not one."""
    if not hasattr(made, "__aiter__"):
        raise TypeError(f"{name} must be an async generator, or return an async iterable of bytes")
    chunks = Chunks(made)
    try:
        while (chunk := await chunks.next()) is not None:
            await stdout.send(chunk)
    finally:
        await chunks.aclose()

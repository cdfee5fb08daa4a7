"""The two ends of a pipe for an event loop: byte streams in the sense of anyio, over a descriptor of our own.

The open file description is exclusively ours, so it is non-blocking; a child at the other end has another.
A stream reads or writes first, and waits for the loop only on EAGAIN.

Fairness. A pipe that is never empty would let one task keep the loop. So a task that has not waited for a
millisecond yields once, before anything is read: a cancellation loses no byte. In between it only checks for
a cancellation, because yielding costs as much as reading 64 KiB.

Threads. `receive` and `send` are for the loop that the stream was made for, one task at a time.
`interrupt`, `poison` and `close` may be called from any thread. They hand over to the loop, because a
descriptor that a selector still watches must not be closed under it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
from anyio import lowlevel
from anyio.abc import ByteReceiveStream, ByteSendStream

from penstock.aio.held_sends import HeldSends
from penstock.core.errors import raised_by
from penstock.system import system_calls
from penstock.system.fds import set_nonblocking
from penstock.system.unread import unread_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType
    from typing import Any

    from penstock.streams.probe import Probe
    from penstock.system.event_loops import Loop
    from penstock.system.fds import Fd

__all__ = ["FdReceiver", "FdSender"]

CHUNK_SIZE = 262144
_MAX_BUSY_S = 0.001
"""Seconds that a task may go on without yielding to others."""


class _FdStream:
    """The common part of both directions. `count` is the number of bytes that went through."""

    def __init__(self, fd: Fd, loop: Loop) -> None:
        set_nonblocking(fd.fileno())
        self.count = 0
        self._fd = fd
        self._loop = loop
        self._since = 0.0
        self._busy = False
        self._reason: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._checkpoint: Callable[[], Coroutine[Any, Any, None]] | None = None

    def probe(self) -> Probe:
        """Return what this end shows; see `streams.probe`."""
        return self.count, self._waits, self._fd

    @property
    def _waits(self) -> bool | None:
        """Whether a task waits in it."""
        return None

    def poison(self, reason: BaseException) -> None:
        """Let every later use raise `reason`; wake nobody. From any thread."""
        if self._reason is None:
            self._traceback = reason.__traceback__
            self._reason = reason

    def interrupt(self, reason: BaseException) -> None:
        """Let every later use raise `reason`, and one that is under way too. From any thread."""
        self.poison(reason)
        self._loop.call(self._wake)

    def raised(self, error: BaseException) -> bool:
        """Return whether `error` comes from here."""
        return raised_by(error, self)

    def close(self) -> None:
        """Close it, and wake a task that waits in it. From any thread; idempotent."""
        if self._fd.closed:
            return
        # If a task waits in it, the loop has to know first. A closed loop no longer has such a task.
        if (self._loop.here and not self._busy) or not self._loop.call(self._close):
            self._release()

    async def aclose(self) -> None:
        """Close it. Idempotent."""
        self._close()
        await lowlevel.checkpoint()

    def _close(self) -> None:
        self._wake()
        self._release()

    def _release(self) -> None:
        self._fd.close()

    def _wake(self) -> None:
        if self._busy and not self._fd.closed:
            anyio.notify_closing(self._fd.fileno())

    def _usable(self) -> int:
        """Return the descriptor's number, or raise the error that says why it cannot be used."""
        if self._reason is not None:
            # Each raise adds to the traceback, so each begins where the traceback of the reason ended.
            raise self._reason.with_traceback(self._traceback)
        if self._fd.closed:
            raise anyio.ClosedResourceError
        return self._fd.fileno()

    def _find_checkpoint(self) -> Callable[[], Coroutine[Any, Any, None]]:
        """Return anyio's function, without the search for the library that is running, which takes longer."""
        backend = getattr(lowlevel.current_token(), "backend_class", lowlevel)
        found: Callable[[], Coroutine[Any, Any, None]] = backend.checkpoint_if_cancelled
        self._checkpoint = found
        return found

    async def _yield(self) -> None:
        """Let other tasks go first."""
        self._loop.check("this stream")
        self._busy = True  # another task may come while this one yields
        try:
            await lowlevel.checkpoint()
        finally:
            self._busy = False
        self._since = time.monotonic()


class FdReceiver(_FdStream, ByteReceiveStream):
    """The reading end of a pipe."""

    _rest = b""
    waiting_since: float | None = None
    """The `time.monotonic()` since which a task has waited for bytes, or knows that no more come."""

    @property
    def has_unread(self) -> bool:
        """Whether bytes wait that no task has taken yet, because the loop is busy. From any thread."""
        try:
            return unread_bytes(self._fd.fileno()) > 0
        except ValueError:  # closed just now
            return False

    @property
    def _waits(self) -> bool | None:
        return self.waiting_since is not None

    def take_back(self, data: bytes) -> None:
        """Deliver bytes once more, before all others: a run within a stage has left them."""
        self._rest = data + self._rest
        self.count -= len(data)

    async def receive(self, max_bytes: int = CHUNK_SIZE) -> bytes:
        """Return the bytes that are there, at most `max_bytes`; wait while there are none.

        `anyio.EndOfStream` at EOF, `anyio.ClosedResourceError` once it is closed.
        """
        if self._busy:
            raise anyio.BusyResourceError("using")
        if time.monotonic() - self._since > _MAX_BUSY_S:
            await self._yield()
        else:
            await (self._checkpoint or self._find_checkpoint())()
        self._busy = True
        try:
            while True:
                number = self._usable()
                if self._rest:
                    data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
                    self.count += len(data)
                    return data
                try:
                    data = system_calls.read(number, max_bytes)
                except BlockingIOError:
                    await self._wait(number)
                    continue
                if not data:
                    self.waiting_since = self.waiting_since or time.monotonic()
                    raise anyio.EndOfStream
                self.count += len(data)
                return data
        finally:
            self._busy = False

    async def _wait(self, number: int) -> None:
        self.waiting_since = time.monotonic()
        try:
            await anyio.wait_readable(number)
        except anyio.ClosedResourceError:
            self._usable()  # raises the reason, if there is one
        finally:
            self.waiting_since = None
        self._since = time.monotonic()


class FdSender(_FdStream, ByteSendStream):
    """The writing end of a pipe. Small sends of a burst are joined (`aio.held_sends`)."""

    def __init__(self, fd: Fd, loop: Loop) -> None:
        super().__init__(fd, loop)
        self._held = HeldSends(fd, loop)

    async def send(self, item: bytes | bytearray | memoryview) -> None:
        """Write all of `item`, waiting while the pipe is full.

        `anyio.BrokenResourceError`, caused by a `BrokenPipeError`, if there is no reader any more;
        `anyio.ClosedResourceError` once it is closed. If it is cancelled, a part may have been written:
        `count` says how much. It needs no flush: of a burst of small sends the last ones go into the pipe
        when the loop comes to its next turn.
        """
        if self._busy:
            raise anyio.BusyResourceError("using")
        if time.monotonic() - self._since > _MAX_BUSY_S:
            await self._yield()
        else:
            await (self._checkpoint or self._find_checkpoint())()
        held = self._held
        done = 0
        if type(item) is bytes:
            number = self._usable()
            size = len(item)
            if size <= held.room:
                held.add(item)
                self.count += size
                return
            if before := held.take():
                self.count -= len(before)
                item = before + item
            # A short cut: the pipe mostly has room, and a small write costs no more than the calls around it.
            try:
                done = system_calls.write(number, item)
            except (BlockingIOError, BrokenPipeError):
                pass  # what follows meets it too
            else:
                self.count += done
                if done == len(item):
                    held.count_piece()
                    return
        else:
            held.flush()
        self._busy = True
        try:
            with memoryview(item) as view, view.cast("B") as flat, flat[done:] as rest:
                await self._send_all(rest)
        finally:
            self._busy = False

    async def _send_all(self, data: memoryview) -> None:
        done = 0
        while done < len(data):
            number = self._usable()
            try:
                with data[done:] as rest:
                    size = system_calls.write(number, rest)
            except BlockingIOError:
                await self._wait(number)
                continue
            except BrokenPipeError as error:
                if self._reason is not None:  # the reader was cancelled as well
                    raise self._reason from None
                raise anyio.BrokenResourceError from error
            done += size
            self.count += size

    async def _wait(self, number: int) -> None:
        try:
            await anyio.wait_writable(number)
        except anyio.ClosedResourceError:
            self._usable()
        self._since = time.monotonic()

    def _release(self) -> None:
        self._held.flush()
        super()._release()

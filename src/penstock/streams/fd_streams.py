"""Streams over a descriptor, with blocking semantics and a way to wake whoever is blocked.

Where the open file description is ours alone it is made non-blocking: try first, and only on EAGAIN poll the
descriptor together with a `Waker`; after a write that was cut short, or a read of little, the next would be
EAGAIN at once, so poll first. A read of a page or more is no such sign: whoever writes so much goes on, and
to poll each time costs a fifth of the throughput. From a pipe that has brought a page a read goes on until
nothing is there (`data.read_bulk`), and then a page is little. Where it is shared, with the caller or with a
child, its flags are not ours to change (O_NONBLOCK sits in the description, so the others would get EAGAIN):
poll first, then read what is there, or write no more than PIPE_BUF, which a pipe that polls as writable takes
without blocking (pipe(7)). Should the others have made it non-blocking themselves, EAGAIN leads back to the
poll. A regular file never blocks, and is neither polled nor written in pieces.

What a shared description cannot give: where another process takes the bytes between our poll and our read,
the read blocks until more come, and only those wake it.

A pipe that holds its user up, full before a write or at a read, or filled as fast as it is read, is made
larger once, by what the budget of `system.pages` allows; that is given back with the descriptor. So nothing
is spent on the many pipes that little passes through.

`FdReader` and `FdWriter` are faces; `_Descriptor` does the waiting, and decides when the number may be
closed. Only `perform` blocks.
"""

from __future__ import annotations

import os
import select
import stat
import threading
from typing import TYPE_CHECKING, TypeVar

from penstock.streams.base import before_sleep
from penstock.streams.bulk_read import bulk_reader
from penstock.streams.reader import Reader
from penstock.streams.writer import Writer
from penstock.system.fds import Waker, set_nonblocking
from penstock.system.pipe_capacity import GROWN_SIZE, resize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.system.fds import Fd

    _Argument = TypeVar("_Argument")
    _Answer = TypeVar("_Answer", bytes, int)

__all__ = ["FdReader", "FdWriter"]

CHUNK_SIZE = 65536
"""Bytes that a read asks for, and that a pipe holds as it is born: one that gave so many was full, or filled
as fast as it was read.
"""

_PAGE = select.PIPE_BUF
"""What the first read of a stream asks for: less is little."""


class _Descriptor:
    """A descriptor in the hands of one thread at a time: `with descriptor:` around its use.

    Closing from another thread must not close the number under a thread that is about to use it, since the
    next open in any thread would get it. So `close` only says so, wakes the user, and leaves the rest to
    whoever holds `_in_use` last: the closer tries to take it after saying so, and the user looks after
    letting go of it, so that one of them does it.
    """

    __slots__ = (
        "_closing",
        "_event",
        "_fd",
        "_in_use",
        "_lock",
        "_poll",
        "_poll_next",
        "_read_bulk",
        "_stopped",
        "_waker",
        "may_grow",
        "may_read_bulk",
        "polls_first",
    )

    def __init__(self, fd: Fd, *, owned: bool, event: int) -> None:
        self._fd = fd
        self._event = event
        self._lock = threading.Lock()
        self._in_use = threading.Lock()
        self._stopped = False
        self._closing = False
        self._waker: Waker | None = None
        self._poll: select.poll | None = None
        self._poll_next = False
        self._read_bulk: Callable[[int], bytes | None] | None = None
        self.may_read_bulk = owned and event == select.POLLIN
        """Whether it might be a pipe that brings much, and has not been looked at yet."""
        self.may_grow = owned
        """Whether it might be a pipe of ours that has not been made larger yet."""
        self.polls_first = False
        if owned:
            set_nonblocking(fd.fileno())
        else:
            self.polls_first = not stat.S_ISREG(os.fstat(fd.fileno()).st_mode)

    def perform(self, call: Callable[[int, _Argument], _Answer], argument: _Argument) -> _Answer | None:
        """Return `call(number, argument)`, waiting while that would block; None where it was stopped."""
        if self.polls_first or self._poll_next:
            self._wait()
        while not self._stopped:
            try:
                return call(self._fd.fileno(), argument)
            except BlockingIOError:
                if not (self.may_grow and self._event == select.POLLOUT and self._grow()):
                    self._wait()
        return None

    def read(self, size: int) -> bytes | None:
        """Read what is there, at most `size` bytes; waits where nothing is, and is None where it was stopped.

        What can be had at once is had in as few steps as will do: half of the time goes into calls.
        """
        try:
            with self._in_use:
                if not (self.polls_first or self._poll_next or self._stopped):
                    read_bulk = self._read_bulk
                    try:
                        data = os.read(self._fd.fileno(), size) if read_bulk is None else read_bulk(size)
                    except BlockingIOError:
                        data = None
                    if data is not None:
                        if len(data) <= _PAGE or self.may_grow:
                            self.moved(len(data), size, emptied=read_bulk is not None)
                        return data
                    self._poll_next = True
                data = self.perform(os.read, size)
                if data is not None:
                    self.moved(len(data), size)
                return data
        finally:
            if self._closing:
                self._close_unless_used()

    def moved(self, size: int, wanted: int, *, emptied: bool = False) -> None:
        """Learn from what one call moved; `emptied`: it went on until nothing was there. In use."""
        if self.may_read_bulk and size >= _PAGE:
            self.may_read_bulk = False
            self._read_bulk = bulk_reader(self._fd.fileno())
        held_up = size < wanted if self._event == select.POLLOUT else size >= CHUNK_SIZE
        if held_up and self.may_grow and self._grow():
            self._poll_next = False
            return
        little = wanted if self._event == select.POLLOUT else min(wanted, _PAGE + emptied)
        # Where nothing has been waited for yet it may be a file, or all that there will ever be.
        self._poll_next = size < little and self._poll is not None

    def _grow(self) -> bool:
        """Make a pipe larger, the first time that this is called; whether it is."""
        self.may_grow = False
        grown = resize(self._fd.fileno(), GROWN_SIZE)
        if grown is None:  # perhaps it has the size that was asked for, and `pages` of that
            return False
        self._fd.pages = grown
        return True

    def _wait(self) -> None:
        """Sleep until the descriptor polls as ready, or `stop` is called."""
        # The waker is made here, when it is needed for the first time, under the lock that `stop` takes.
        # Either `stop` came first, and is seen here; or it comes later, finds the waker, and makes it
        # readable, which it then stays, so that the poll returns at once even if it begins only afterwards.
        poll = self._poll
        if poll is None:
            with self._lock:
                if self._stopped:
                    return
                waker = Waker()
                poll = select.poll()
                poll.register(waker.fileno(), select.POLLIN)
                poll.register(self._fd.fileno(), self._event)
                self._waker, self._poll = waker, poll
        before_sleep()
        # Errors and hang-ups are always reported: the call that follows meets them.
        poll.poll()

    def stop(self) -> None:
        """Make a `perform` under way, and every later one, return None; from any thread, idempotent."""
        with self._lock:
            self._stopped = True
            waker = self._waker
        # Outside the lock: a waker that has been closed meanwhile takes no harm.
        if waker is not None:
            waker.wake()

    def close(self) -> None:
        """Stop it and close the descriptor, at once or when the thread that uses it lets go."""
        self._closing = True
        self.stop()
        self._close_unless_used()

    def __enter__(self) -> None:
        self._in_use.acquire()

    def __exit__(self, *_: object) -> None:
        self._in_use.release()
        if self._closing:
            self._close_unless_used()

    def _close_unless_used(self) -> None:
        if self._in_use.acquire(blocking=False):
            try:
                self._poll = None
                if self._waker is not None:
                    self._waker.close()
                self._fd.close()
            finally:
                self._in_use.release()


class FdReader(Reader):
    """The reading end of a pipe, socket or file; owns `fd` and closes it.

    `owned_description`: nobody else has this open file description, so that it may be made non-blocking.
    `chunk_size` is the most bytes that one read asks for. Reads begin with a page, which is all that most
    streams of short pipelines carry, and become as large as that once one was filled.
    """

    __slots__ = ("_chunk_size", "_descriptor", "_size")

    def __init__(self, fd: Fd, *, owned_description: bool, chunk_size: int = CHUNK_SIZE) -> None:
        super().__init__()
        self._chunk_size = chunk_size
        self._size = min(chunk_size, select.PIPE_BUF)
        self._descriptor = _Descriptor(fd, owned=owned_description, event=select.POLLIN)

    def chunks(self) -> Iterator[bytes]:
        """Iterate over the chunks as they come, none empty; first what an earlier read left of a chunk."""
        read = self._descriptor.read
        while chunk := self._next():
            self._count += len(chunk)
            yield chunk
            size = self._size
            # The short cut from chunk to chunk; `_next` says what came instead of one.
            while not (self._stopped or self._rest or self._at_eof):
                more = read(size)
                if not more:
                    self._at_eof = more is not None
                    break
                self._count += len(more)
                if len(more) == size:
                    self._size = size = self._chunk_size
                yield more

    def _read_chunk(self) -> bytes:
        data = self._descriptor.read(self._size)
        if data is None:
            raise self._stop_error()
        if len(data) == self._size:
            self._size = self._chunk_size
        return data

    def _readinto(self, view: memoryview) -> int:
        if self._stopped or self._at_eof or self._offset < len(self._rest) or not view:
            return super()._readinto(view)
        with self._descriptor:
            size = self._descriptor.perform(_read_into, view)
            if size is not None:
                self._descriptor.moved(size, len(view))
        if size is None:
            raise self._stop_error()
        self._at_eof = size == 0
        return size

    def _wake(self) -> None:
        self._descriptor.stop()

    def _release(self) -> None:
        super()._release()
        self._descriptor.close()


class FdWriter(Writer):
    """The writing end of a pipe, socket or file; owns `fd` and closes it.

    `owned_description` is as for `FdReader`. Short writes are completed. Several threads may write; each
    write is whole. A write that is interrupted may have written a part, and `count` says how much.
    """

    __slots__ = ("_descriptor",)

    def __init__(self, fd: Fd, *, owned_description: bool) -> None:
        super().__init__()
        self._descriptor = _Descriptor(fd, owned=owned_description, event=select.POLLOUT)

    def _write_chunk(self, data: bytes | memoryview) -> None:
        with self._descriptor:
            done = self._write(data)
            if done < len(data):
                # Every view is let go of, also by an exception: the caller's bytearray cannot be resized
                # before.
                with memoryview(data) as view:
                    while done < len(view):
                        with view[done:] as rest:
                            done += self._write(rest)

    def _write(self, data: bytes | memoryview) -> int:
        """Write the first part of `data`, as much as goes at once, and return its length."""
        if len(data) > select.PIPE_BUF and self._descriptor.polls_first:
            with memoryview(data) as view, view[: select.PIPE_BUF] as part:
                return self._write(part)
        size = self._descriptor.perform(os.write, data)
        if size is None:
            raise self._stop_error()
        self._descriptor.moved(size, len(data))
        self._count += size
        return size

    def _wake(self) -> None:
        self._descriptor.stop()

    def _release(self) -> None:
        self._descriptor.close()


def _read_into(number: int, view: memoryview) -> int:
    return os.readv(number, (view,))

"""Streams over a descriptor, with blocking semantics and a way to wake a blocked thread.

If nobody else has the open file description, it is made non-blocking. Then we try first, and only on EAGAIN
poll the descriptor together with a `Waker`. After a short write, or a read of little, the next call would get
EAGAIN at once, so we poll first. A read of a page or more is not such a sign: a program that writes so much
goes on, and polling each time costs a fifth of the throughput. Once a pipe has brought a page, each read goes
on until the pipe is empty (`streams.bulk_read`), and from then on a page counts as little.

If the description is shared, with the caller or with a child, we must not change its flags: O_NONBLOCK
belongs to the description, so the others would get EAGAIN. Then we poll first, and read the bytes that are
there, or write no more than PIPE_BUF, which a pipe that polls as writable takes without blocking (pipe(7)).
If the others made it non-blocking themselves, EAGAIN leads back to the poll. A regular file never blocks, and
is neither polled nor written in pieces.

One limit of a shared description: if another process takes the bytes between our poll and our read, the read
blocks until more bytes come, and nothing else wakes it.

A pipe that makes its user wait (it is full at a write, or filled as fast as it is read) is made larger once,
within the budget of `system.pipe_capacity`. The share is given back when the descriptor is closed. So the
many pipes that carry little cost nothing.

`FdReader` and `FdWriter` are thin; `_Descriptor` does the waiting, and decides when the number may be closed.
Only `perform` blocks.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import threading

from penstock.streams.base import before_sleep, poll_until_ready
from penstock.streams.bulk_read import bulk_reader, read_into
from penstock.streams.reader import Reader
from penstock.streams.writer import Writer
from penstock.system import system_calls
from penstock.system.fds import Waker, set_nonblocking
from penstock.system.pipe_capacity import GROWN_SIZE, resize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from penstock.system.fds import Fd

    _Argument = TypeVar("_Argument")
    _Answer = TypeVar("_Answer", bytes, int)

__all__ = ["FdReader", "FdWriter"]

CHUNK_SIZE = 65536
"""Bytes that a read asks for, and the size of a new pipe. A pipe that gave so many was full, or was filled as
fast as it was read.
"""

_PAGE = select.PIPE_BUF
"""Bytes that the first read of a stream asks for; fewer are little."""


class _Descriptor:
    """A descriptor that one thread at a time uses, inside `with descriptor:`.

    `close` in another thread must not close the number while a thread is about to use it, because the next
    open in any thread would get that number. So `close` sets `closing`, wakes the using thread, and tries to
    take `in_use`. The using thread checks `closing` after it has released `in_use`. So one of the two
    closes it.
    """

    __slots__ = (
        "_event",
        "_fd",
        "_is_shared_file",
        "_lock",
        "_nudged",
        "_poll",
        "_poll_next",
        "_read_bulk",
        "_stopped",
        "_waker",
        "closing",
        "in_use",
        "may_grow",
        "may_read_bulk",
        "polls_first",
        "waiting_since",
    )

    def __init__(self, fd: Fd, *, owned: bool, event: int) -> None:
        self._fd = fd
        self._event = event
        self._lock = threading.Lock()
        self.in_use = threading.Lock()
        self._stopped = False
        self.closing = False
        self._nudged = False
        self.waiting_since: float | None = None
        self._waker: Waker | None = None
        self._poll: select.poll | None = None
        self._poll_next = False
        self._read_bulk: Callable[[int], bytes | None] | None = None
        self.may_read_bulk = owned and event == select.POLLIN
        """Whether it may be a pipe that brings much, and was not examined yet."""
        self.may_grow = owned
        """Whether it may be our pipe, and was not made larger yet."""
        self.polls_first = False
        if owned:
            set_nonblocking(fd.fileno())
        else:
            self.polls_first = not stat.S_ISREG(os.fstat(fd.fileno()).st_mode)
        self._is_shared_file = not owned and not self.polls_first

    def perform(self, call: Callable[[int, _Argument], _Answer], argument: _Argument) -> _Answer | None:
        """Return `call(number, argument)`, waiting while that would block; None if it was stopped."""
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
        """Return the bytes that are there, at most `size`; wait if there are none; None if it was stopped.

        Bytes that are there take as few steps as possible, because half of the time goes into calls.
        """
        try:
            with self.in_use:
                if not (self.polls_first or self._poll_next or self._stopped):
                    read_bulk = self._read_bulk
                    try:
                        data = (
                            system_calls.read(self._fd.fileno(), size)
                            if read_bulk is None
                            else read_bulk(size)
                        )
                    except BlockingIOError:
                        data = None
                    if data is not None:
                        if len(data) <= _PAGE or self.may_grow:
                            self.moved(len(data), size, emptied=read_bulk is not None)
                        return data
                    self._poll_next = True
                data = self.perform(system_calls.read, size)
                if data is not None:
                    self.moved(len(data), size)
                return data
        finally:
            if self.closing:
                self.close_unless_used()

    def moved(self, size: int, wanted: int, *, emptied: bool = False) -> None:
        """Learn from the result of one call, while in use; `emptied`: it read until the pipe was empty."""
        if self.may_read_bulk and size >= _PAGE:
            self.may_read_bulk = False
            self._read_bulk = bulk_reader(self._fd.fileno())
        held_up = size < wanted if self._event == select.POLLOUT else size >= CHUNK_SIZE
        if held_up and self.may_grow and self._grow():
            self._poll_next = False
            return
        little = wanted if self._event == select.POLLOUT else min(wanted, _PAGE + emptied)
        # If it has never been waited for, it may be a file, or these may be all the bytes that ever come.
        self._poll_next = size < little and self._poll is not None

    def _grow(self) -> bool:
        """Make a pipe larger, at the first call only; return whether it is larger."""
        self.may_grow = False
        grown = resize(self._fd.fileno(), GROWN_SIZE)
        if grown is None:  # perhaps it has the size that the user asked for, and `pages` for that
            return False
        self._fd.pages = grown
        return True

    def _wait(self) -> None:
        """Sleep until the descriptor polls as ready, or `stop` is called."""
        # The waker is made here at first need, under the lock that `stop` takes. Either `stop` came first,
        # and is seen here. Or it comes later, finds the waker, and makes it readable, which it stays, so the
        # poll returns at once even if it begins only afterwards.
        poll = self._poll
        if poll is None:
            with self._lock:
                if self._stopped:
                    return
                waker = Waker()
                try:
                    poll = select.poll()
                    poll.register(waker.fileno(), select.POLLIN)
                    poll.register(self._fd.fileno(), self._event)
                except BaseException:
                    waker.close()
                    raise
                self._waker, self._poll = waker, poll
        before_sleep()
        # poll() always reports errors and hang-ups; the call that follows meets them.
        poll_until_ready(poll, self)
        if self._nudged and not self._stopped and self._waker is not None:
            self._nudged = False
            self._waker.clear()

    def nudge(self) -> None:
        """Have a thread that is in `perform` look again, and sleep again if nothing has changed."""
        with self._lock:
            self._nudged = True
            waker = self._waker
        if waker is not None:
            waker.wake()

    def fileno(self) -> int:
        """Return the number."""
        return self._fd.fileno()

    def step_back(self, size: int) -> None:
        """Set the position of a regular file back that others use too; do nothing if a thread reads it."""
        if self._is_shared_file and self.in_use.acquire(blocking=False):
            try:
                with contextlib.suppress(OSError):
                    os.lseek(self._fd.fileno(), -size, os.SEEK_CUR)
            finally:
                self.in_use.release()

    def stop(self) -> None:
        """Make a `perform` under way, and every later one, return None; from any thread, idempotent."""
        with self._lock:
            self._stopped = True
            waker = self._waker
        # Outside the lock: waking a waker that was closed meanwhile does no harm.
        if waker is not None:
            waker.wake()

    def close(self) -> None:
        """Stop it and close the descriptor, at once or when the using thread is done with it."""
        self.closing = True
        self.stop()
        self.close_unless_used()

    def close_unless_used(self) -> None:
        """Close the descriptor; if another thread holds `in_use`, that does it afterwards."""
        if self.in_use.acquire(blocking=False):
            try:
                self._poll = None
                if self._waker is not None:
                    self._waker.close()
                self._fd.close()
            finally:
                self.in_use.release()


class FdReader(Reader):
    """The reading end of a pipe, socket or file; owns `fd` and closes it.

    `owned_description`: nobody else has this open file description, so it may be made non-blocking.
    `chunk_size` is the most bytes that one read asks for. Reads begin with a page, which is all that most
    streams of short pipelines carry, and grow to `chunk_size` once a page was filled.

    `first` are bytes to deliver before those of the descriptor. If bytes are left at the close that were read
    and not delivered, `give_back` gets them. Without it, a regular file whose description is shared is set
    back by as many.
    """

    __slots__ = ("_chunk_size", "_descriptor", "_give_back", "_size", "loan")

    def __init__(
        self,
        fd: Fd,
        *,
        owned_description: bool,
        chunk_size: int = CHUNK_SIZE,
        first: bytes = b"",
        give_back: Callable[[bytes], object] | None = None,
    ) -> None:
        super().__init__()
        self._rest = first
        self._give_back = give_back
        self.loan: Reader | None = None
        """The reader that reads in the place of this one (`streams.lent_readers`), and is stopped with it."""
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
            # A short cut from chunk to chunk; `_next` raises or ends if no chunk came.
            while not (self._stopped or self._rest or self._at_eof):
                more = read(size)
                if not more:
                    self._at_eof = more is not None
                    break
                self._count += len(more)
                if len(more) == size:
                    self._size = size = self._chunk_size
                yield more

    @property
    def waiting_since(self) -> float | None:
        """As in `Reader`."""
        return self._descriptor.waiting_since

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
        descriptor = self._descriptor
        try:
            with descriptor.in_use:
                size = descriptor.perform(read_into, view)
                if size is not None:
                    descriptor.moved(size, len(view))
        finally:
            if descriptor.closing:
                descriptor.close_unless_used()
        if size is None:
            raise self._stop_error()
        self._at_eof = size == 0
        return size

    def _wake(self) -> None:
        self._descriptor.stop()
        loan = self.loan
        if loan is not None:
            loan.interrupt(self._stop_error())

    def _release(self) -> None:
        rest, give_back = self._rest[self._offset :], self._give_back
        super()._release()
        if rest:
            if give_back is None:
                self._descriptor.step_back(len(rest))
            else:
                give_back(rest)
        self._descriptor.close()


class FdWriter(Writer):
    """The writing end of a pipe, socket or file; owns `fd` and closes it.

    `owned_description` is as for `FdReader`. Short writes are completed. Several threads may write; each
    write is whole. A write that is interrupted may have written a part, and `count` says how much.
    """

    __slots__ = ("_descriptor",)
    joins_small = True

    def __init__(self, fd: Fd, *, owned_description: bool) -> None:
        super().__init__()
        self._descriptor = _Descriptor(fd, owned=owned_description, event=select.POLLOUT)

    def _write_chunk(self, data: bytes | memoryview) -> None:
        descriptor = self._descriptor
        try:
            with descriptor.in_use:
                done = self._write(data)
                if done < len(data):
                    # Every view is released, also by an exception: until then the caller's bytearray cannot
                    # be resized.
                    with memoryview(data) as view:
                        while done < len(view):
                            with view[done:] as rest:
                                done += self._write(rest)
        finally:
            if descriptor.closing:
                descriptor.close_unless_used()

    def _write(self, data: bytes | memoryview) -> int:
        """Write as much of `data` as one call takes, and return its length."""
        if len(data) > select.PIPE_BUF and self._descriptor.polls_first:
            with memoryview(data) as view, view[: select.PIPE_BUF] as part:
                return self._write(part)
        size = self._descriptor.perform(system_calls.write, data)
        if size is None:
            raise self._stop_error()
        self._descriptor.moved(size, len(data))
        self._count += size
        return size

    def nudge(self) -> None:
        """Have a thread that is blocked in a write call its `before_sleep` hook once more."""
        self._descriptor.nudge()

    def _wake(self) -> None:
        self._descriptor.stop()

    def _release(self) -> None:
        self._descriptor.close()

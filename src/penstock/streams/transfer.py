"""Copy between two descriptors: the kernel carries the bytes if it can, and the pooled loop if not.

`copy_methods` says which methods may be tried for a pair, best first. If a method cannot carry the pair (an
old kernel, a sandbox, a file system), `Transfer` tries the next one. The kernel's methods work at the
descriptors' own positions and hold nothing back, so the next method goes on exactly where the last one
stopped, whenever that happens. The pooled loop comes last: it can carry every pair, and a real error is
raised there.

Nothing spins. On EAGAIN both sides are polled, and only the side that is not ready is waited for. With a full
pipe as sink, a wait for both would return at once because of the source, for ever. If both sides are ready
and the kernel refuses all the same, time after time, the method cannot carry the pair.

Flags. A description that nobody else has becomes non-blocking. A borrowed description that blocks keeps its
flags. It is polled first, and a sink then gets no more than PIPE_BUF at a time, except a pipe that is spliced
to, because SPLICE_F_NONBLOCK does not wait. One limit: if another process takes the bytes or the room between
our poll and our call, or a terminal that polls as writable has less room than PIPE_BUF, the call blocks until
it can go on, and `interrupt` takes effect only then.

Only `Transfer.run` blocks. Out of scope: which objects may be copied by descriptor at all.
"""

from __future__ import annotations

import os
import select
import stat
import threading
from contextlib import ExitStack

from penstock.streams.base import Stream, poll_until_ready
from penstock.streams.buffer_pool import BufferPool, buffer_pool
from penstock.streams.copy_methods import FILE, PIPE, POOLED, kind_of, methods_for
from penstock.system import splice, system_calls
from penstock.system.fds import Waker, is_nonblocking, pipe_capacity, set_nonblocking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final, TypeVar

    from penstock.streams.probe import Probe
    from penstock.system.fds import Fd

    _Argument = TypeVar("_Argument")

__all__ = ["Transfer"]

# Bytes per call of a kernel method. A pipe or a socket moves what it holds, so a larger number changes
# nothing there. Between files it bounds how long a call takes, and with it an interruption.
_CALL_BYTES: Final = 1 << 20
_FILE_CALL_BYTES: Final = 1 << 24

# Buffers of the pool that one copy uses, each of 64 KiB unless told otherwise.
_MAX_BUFFERS: Final = 4

# How often in a row a method may say EAGAIN while both sides are ready. Once or twice is a race with others
# who use the same pipe or socket.
_MAX_REFUSALS: Final = 8


class _Side:
    """One descriptor of a transfer, with how to use it and how to wait for it."""

    __slots__ = ("event", "fd", "kind", "must_poll_first", "poll", "ready")

    def __init__(self, fd: Fd, event: int, *, owned: bool) -> None:
        self.fd = fd
        self.event = event
        number = fd.fileno()
        self.kind = kind_of(number)
        instant = self.kind == FILE or _is_null(number)
        if owned and not instant:
            set_nonblocking(number)
        # Whether a call may block, so that it has to be polled first: it is borrowed, and blocks. Polling a
        # source costs next to nothing, so a non-blocking one is polled too: its owner may yet make it block.
        self.must_poll_first = not (owned or instant or (event == select.POLLOUT and is_nonblocking(number)))
        self.ready = select.poll()
        self.ready.register(number, event)
        self.poll: select.poll | None = None  # the same with the waker, made for the first wait


class Transfer(Stream):
    """Moves all of `source` into `sink`, and owns both.

    `source_owned`, `sink_owned`: nobody else has this open file description, so it may be made
    non-blocking. `count` is the number of bytes moved so far, for any thread to read. `kind` is the method
    that carries them: the one in use, or that was in use at the end. `unsent` holds bytes that the sink has
    yet to get: before `run` those that it is to get first, afterwards those that could not be written.
    `waiting_since` is the `time.monotonic()` since which it has waited for the source; None if it does not.
    """

    __slots__ = (
        "_closing",
        "_in_use",
        "_methods",
        "_pool",
        "_sink",
        "_source",
        "_waker",
        "unsent",
        "waiting_since",
    )

    def __init__(
        self, source: Fd, sink: Fd, *, source_owned: bool, sink_owned: bool, pool: BufferPool = buffer_pool
    ) -> None:
        super().__init__()
        self._methods = methods_for(source.fileno(), sink.fileno(), shared=not sink_owned)
        self._source = _Side(source, select.POLLIN, owned=source_owned)
        self._sink = _Side(sink, select.POLLOUT, owned=sink_owned)
        self._pool = pool
        self._waker: Waker | None = None
        self._in_use = threading.Lock()
        self._closing = False
        self.unsent = b""
        self.waiting_since: float | None = None

    @property
    def kind(self) -> str:
        """The method: "copy-file-range", "sendfile", "splice" or "pooled"."""
        return self._methods[0]

    def probe(self) -> Probe:
        """Return what the source shows."""
        return self.count, self.waiting_since is not None, self._source.fd

    def probe_sink(self) -> Probe:
        """Return what the sink shows."""
        return self.count, None, self._sink.fd

    def run(self) -> int:
        """Move everything until EOF, and return how many bytes were moved in all. Closes nothing.

        Raises the reason of `interrupt`, ValueError once closed, and otherwise the kernel's error
        (BrokenPipeError if the sink's reader has gone). `count` says how much was moved by then.
        """
        try:
            with self._in_use:
                if self.unsent:
                    self._send_first()
                while self._methods[0] != POOLED:
                    if self._move_with(self._methods[0]):
                        return self.count
                    del self._methods[0]
                self._copy()
        finally:
            if self._closing:
                self._close_unless_used()
        return self.count

    def _send_first(self) -> None:
        """Write the bytes that the sink is to get first."""
        while self.unsent:
            end = select.PIPE_BUF if self._sink.must_poll_first else len(self.unsent)
            size = self._perform(self._sink, system_calls.write, memoryview(self.unsent)[:end])
            self.unsent = self.unsent[size:]
            self._count += size

    def _move_with(self, method: str) -> bool:
        """Move until EOF by one of the kernel's methods; return False if the next method is to go on."""
        source, sink = self._source, self._sink
        move, polled, length = self._call_terms(method)
        refusals = 0
        while True:
            for side in polled:
                self._wait(side)
            if self._stopped:
                raise self._stop_error()
            try:
                size = move(source.fd.fileno(), sink.fd.fileno(), length)
            except BlockingIOError:
                if source.kind == PIPE and _is_hung_up(source):
                    return True  # into a full pipe, an empty one without writers gives EAGAIN, not 0
                refusals = 0 if self._wait_for_the_blocked() else refusals + 1
                if refusals == _MAX_REFUSALS:
                    return False
                continue
            except OSError as error:
                if splice.cannot(error):
                    return False
                raise
            if size == 0:
                return self._is_at_end()
            refusals = 0
            self._count += size

    def _call_terms(self, method: str) -> tuple[Callable[[int, int, int], int], list[_Side], int]:
        """Return the mover, the sides that are to be polled before each call, and the bytes for a call."""
        source, sink = self._source, self._sink
        spliced = method == "splice"  # it does not wait for pipes, whatever their flags are
        polled = [
            side for side in (source, sink) if side.must_poll_first and not (spliced and side.kind == PIPE)
        ]
        length = _FILE_CALL_BYTES if source.kind == sink.kind == FILE else _CALL_BYTES
        if sink in polled and sink.kind != PIPE:
            length = select.PIPE_BUF
        move = {
            "splice": splice.splice,
            "sendfile": splice.sendfile,
            "copy-file-range": splice.copy_file_range,
        }
        return move[method], polled, length

    def _is_at_end(self) -> bool:
        """Whether a mover's 0 is EOF."""
        if self._source.kind != FILE or self.count:
            return True
        # It is an empty file, or a file whose size means nothing (as in /proc): only a read tells. A byte
        # that is read here would be lost to the sink, so pread reads it and leaves the position.
        try:
            return not os.pread(
                self._source.fd.fileno(), 1, os.lseek(self._source.fd.fileno(), 0, os.SEEK_CUR)
            )
        except OSError:
            return False

    def _copy(self) -> None:
        """Move until EOF through buffers of the pool."""
        source, sink = self._source, self._sink
        # As many as a pipe may hold; other sources have no more to give at once.
        wanted = pipe_capacity(source.fd.fileno()) // self._pool.size if source.kind == PIPE else 1
        with ExitStack() as stack:
            buffers = [
                stack.enter_context(self._pool.lend()) for _ in range(min(_MAX_BUFFERS, max(1, wanted)))
            ]
            views = [stack.enter_context(memoryview(buffer)) for buffer in buffers]
            while size := self._perform(source, system_calls.readv, views):
                done = 0
                try:
                    while done < size:
                        end = min(size, done + select.PIPE_BUF) if sink.must_poll_first else size
                        written = self._write_range(views, done, end)
                        done += written
                        self._count += written
                finally:
                    if done < size:
                        self.unsent = b"".join(views)[done:size]

    def _write_range(self, views: Sequence[memoryview], start: int, end: int) -> int:
        """Write the bytes from `start` to `end` of all views together, or the first of them."""
        parts, place = [], 0
        for view in views:
            if start < place + len(view) and place < end:
                parts.append(view[max(0, start - place) : end - place])
            place += len(view)
        try:
            if len(parts) == 1:
                return self._perform(self._sink, system_calls.write, parts[0])
            return self._perform(self._sink, system_calls.writev, parts)
        finally:
            for part in parts:
                part.release()

    def _perform(self, side: _Side, call: Callable[[int, _Argument], int], argument: _Argument) -> int:
        """Return `call(number, argument)`, waiting while that would block."""
        if side.must_poll_first:
            self._wait(side)
        while not self._stopped:
            try:
                return call(side.fd.fileno(), argument)
            except BlockingIOError:
                self._wait(side)
        raise self._stop_error()

    def _wait_for_the_blocked(self) -> bool:
        """Wait for the side that is not ready, the source first; return False if both are ready."""
        for side in (self._source, self._sink):
            if not side.ready.poll(0):
                self._wait(side)
                return True
        return False

    def _wait(self, side: _Side) -> None:
        """Sleep until a side polls as ready, or the transfer is stopped."""
        if side.ready.poll(0):
            return
        if side.poll is None:
            # Under the lock that `interrupt` and `close` take: either they came first, and are seen here, or
            # they find the waker and make it readable, which it stays.
            with self._lock:
                if self._stopped:
                    return
                if self._waker is None:
                    self._waker = Waker()
                poll = select.poll()
                poll.register(self._waker.fileno(), select.POLLIN)
            poll.register(side.fd.fileno(), side.event)
            side.poll = poll
        # poll() always reports errors and hang-ups; the call that follows meets them.
        if side is self._source:
            poll_until_ready(side.poll, self)
        else:
            side.poll.poll()

    def _wake(self) -> None:
        with self._lock:
            waker = self._waker
        if waker is not None:
            waker.wake()

    def _release(self) -> None:
        # A number must not be closed while a thread is about to use it. The closing thread sets `_closing`
        # and tries to take `_in_use`. The running thread checks `_closing` after releasing it. So one of them
        # closes.
        self._closing = True
        self._close_unless_used()

    def _close_unless_used(self) -> None:
        if self._in_use.acquire(blocking=False):
            try:
                self._source.poll = self._sink.poll = None
                if self._waker is not None:
                    self._waker.close()
                self._sink.fd.close()
                self._source.fd.close()
            finally:
                self._in_use.release()

    def _stop_error(self) -> BaseException:
        return super()._stop_error() if self._reason is not None else ValueError("run() of a closed transfer")


def _is_null(number: int) -> bool:
    """Whether this is /dev/null, which takes everything at once."""
    status = os.fstat(number)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev  # noqa: PTH116 - pathlib is dear to import


def _is_hung_up(side: _Side) -> bool:
    """Whether a pipe is empty and has no writer."""
    events = side.ready.poll(0)
    return bool(events) and events[0][1] & (select.POLLIN | select.POLLHUP) == select.POLLHUP

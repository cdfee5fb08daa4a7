"""The in-memory pipe: chunks cross from thread to thread by reference, with a bound on the bytes in flight.

Sleeping. One lock guards the state and is never held across a sleep. Each side has one more lock, its gate,
which is used only to sleep on. A thread that must wait sets its `asleep` flag under the state lock, releases
that lock, and acquires the gate. A thread that changes the state finds the flag, clears it, and opens the
gate once. A gate is far cheaper than a Condition, which makes a lock for each sleep. A writer that found the
pipe full is woken when the pipe is half empty, not at the first byte of room: a sleep and a wake cost as much
as dozens of chunks.

Counting. The reader takes the whole queue at once and delivers from it without the lock. Bytes that it holds
are in flight until they are delivered. Two numbers that only grow say how many bytes are in flight: `sent`
and `delivered`. Only the reader writes `delivered`. Only a writer about to sleep writes `wake_when`, the
value of `delivered` at which it wants to be woken. The writer sets `wake_when` and then reads `delivered`;
the reader raises `delivered` and then reads `wake_when`; so one of them sees the other. If that order were
ever lost (it cannot be under the GIL), the writer would sleep on until the reader comes back for the next
batch, which it does under the lock.

Hot paths. Calls and attribute lookups dominate the cost of a chunk. So the two hot paths, a write when there
is room and the next chunk of a batch, are inlined in `write` and `chunks`, and the `count` of either end is
computed from the numbers above. `fits` makes the first path a single comparison: `sent_alone` may grow to it,
however much the reader has delivered meanwhile. A write that finds it too small computes it anew. A thread
sets it to 0 if the next write must not take the hot path.

Nor does the hot write take the lock, which would be a fifth of its cost, as long as one thread alone has
written. It counts its bytes in a number of its own. A reader about to sleep raises its flag and then looks at
the queue; the writer queues its chunk and then looks at the flag. A second thread that writes takes the lock,
and from then on so does the first. At most one chunk of the first thread may be under way at that moment, and
exceed the bound. Without a GIL every write takes the lock.

A chunk larger than the bound goes through when the pipe is empty. The number of chunks is bounded too,
because a pipe full of tiny chunks would hold many times its bound in object headers.

One thread at a time reads. Several may write: each write is whole, and writers that must wait take turns.
Only `_read_chunk` and `_write_chunk` may block.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from threading import get_ident

from penstock.core.errors import ClosedPipe
from penstock.streams.base import before_sleep, max_sleep
from penstock.streams.reader import Reader
from penstock.streams.writer import Writer
from penstock.system import features

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from _typeshed import ReadableBuffer

    from penstock.streams.base import Stream
    from penstock.streams.probe import Probe

__all__ = ["MemoryPipe", "MemoryReader", "MemoryWriter"]

_DEFAULT_LIMIT: Final = 4 * 1024 * 1024
MAX_CHUNKS: Final = 65536
_MIN_CHARGE: Final = _DEFAULT_LIMIT // MAX_CHUNKS
"""The size of chunk at which the default limit of bytes and the limit on chunks are the same."""
NEVER: Final = 1 << 62  # more than any number of bytes
_NO_THREAD: Final = -1


class MemoryPipe:
    """A pipe between two Python stages, with at most `limit` bytes in flight; has a `reader` and a `writer`.

    The user of an end closes it.
    """

    __slots__ = ("__weakref__", "reader", "writer")

    def __init__(self, limit: int = _DEFAULT_LIMIT) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        state = _State(limit)
        self.reader = MemoryReader(state)
        self.writer = MemoryWriter(state)


class _State:
    """The state that the two ends share, used under `lock`, except for `delivered` and `wake_when`."""

    __slots__ = (
        "delivered",
        "fits",
        "limit",
        "lock",
        "queue",
        "reader_asleep",
        "reader_closed",
        "reader_gate",
        "sent_alone",
        "sent_locked",
        "sole",
        "turn",
        "wake_at",
        "wake_when",
        "writer_asleep",
        "writer_closed",
        "writer_gate",
    )

    def __init__(self, limit: int) -> None:
        self.lock = threading.Lock()
        self.limit = limit
        self.queue: deque[bytes] = deque()
        self.sole = 0  # the only thread that has written so far, or _NO_THREAD once there were two
        self.sent_alone = 0  # bytes that it put into the queue without the lock, and all other bytes ...
        self.sent_locked = 0  # ... which were put there under the lock
        self.delivered = 0  # bytes that the reader ever delivered: `sent` minus this is in flight
        self.fits = 0  # `sent_alone` may grow to this without looking at anything else; never too large
        self.wake_at = 0  # a sleeping writer is woken when no more bytes than this are in flight ...
        self.wake_when = NEVER  # ... which is when so many have been delivered
        self.reader_asleep = False
        self.writer_asleep = False
        self.reader_closed = False
        self.writer_closed = False
        self.reader_gate = threading.Lock()
        self.writer_gate = threading.Lock()
        self.reader_gate.acquire()
        self.writer_gate.acquire()
        self.turn = threading.Lock()  # held by the one writer that may sleep on the gate

    @property
    def sent(self) -> int:
        """Bytes that were ever put into the queue."""
        return self.sent_alone + self.sent_locked

    def level(self) -> tuple[int, int]:
        """Return the bytes in flight, and the limit."""
        return max(0, self.sent - self.delivered), self.limit

    # In both of these an interrupt may come once the flag is cleared, and nobody would find it a second time.
    # So the gate is opened all the same, with no call ahead of the one that opens it.

    def wake_reader(self) -> None:
        """Make the reader look at the state again. The lock must not be held."""
        asleep = False
        try:
            with self.lock:
                asleep, self.reader_asleep = self.reader_asleep, False
        finally:
            if asleep:
                try:  # noqa: SIM105 - `suppress` would be a call ahead of it
                    self.reader_gate.release()
                except RuntimeError:  # see `_open_gate`
                    pass

    def wake_writer(self) -> None:
        """Make the writer look at the state again. The lock must not be held."""
        asleep = False
        try:
            with self.lock:
                asleep, self.writer_asleep = self.writer_asleep, False
                self.wake_when = NEVER
        finally:
            if asleep:
                try:  # noqa: SIM105 - as above
                    self.writer_gate.release()
                except RuntimeError:
                    pass


def _open_gate(gate: threading.Lock) -> None:
    # A sleeper that a KeyboardInterrupt took away leaves its flag set, so the gate may be opened for nobody,
    # and a second time before a thread passes. An open gate lets the next sleeper through at once, and that
    # looks again, so an opening too many does no harm, and there is never one too few.
    with suppress(RuntimeError):
        gate.release()


class MemoryReader(Reader):
    """The reading end of a `MemoryPipe`. Closing it drops what is in flight; the writer gets `ClosedPipe`."""

    __slots__ = ("_batch", "_state", "_waiting_since")

    def __init__(self, state: _State) -> None:
        super().__init__(state.lock)
        self._state = state
        self._batch: deque[bytes] = deque()
        self._waiting_since: float | None = None

    @property
    def count(self) -> int:
        """The number of bytes delivered, including the delivered part of the chunk in hand."""
        return self._state.delivered - max(0, len(self._rest) - self._offset)

    @property
    def waiting_since(self) -> float | None:
        """The `time.monotonic()` since which a thread has waited in it for bytes; None if none waits."""
        return self._waiting_since

    def probe(self) -> Probe:
        """Return what this end shows; see `Stream.probe`."""
        return self.count, self._waiting_since is not None, self._state.level()

    def chunks(self) -> Iterator[bytes]:
        """Iterate over the chunks as they come, none empty; first what an earlier read left of a chunk."""
        state = self._state
        while chunk := self._next():
            yield chunk
            # `_next` and `_read_chunk` in one, for chunks that are in hand already: calls are most of the
            # cost of a chunk.
            while self._batch and not (self._stopped or self._rest):
                chunk = self._batch.popleft()
                state.delivered = delivered = state.delivered + len(chunk)
                if delivered >= state.wake_when:
                    state.wake_writer()
                yield chunk

    def lend_chunk(self, borrower: Stream) -> bytes:
        """Return the next chunk; raise the reason of `borrower` once that is stopped."""
        if self._batch or self._rest or self._at_eof or borrower._stopped:  # noqa: SLF001
            return super().lend_chunk(borrower)
        if self._next_batch(borrower):
            return self._next()
        self._at_eof = True
        return b""

    def take_back(self, data: bytes) -> None:
        """Deliver bytes once more, before all others. They count as in hand, and so as not delivered."""
        self._rest = data + self._rest[self._offset :]
        self._offset = 0

    def _read_chunk(self) -> bytes:
        batch = self._batch or self._next_batch()
        if not batch:
            return b""
        chunk = batch.popleft()
        state = self._state
        state.delivered = delivered = state.delivered + len(chunk)
        if delivered >= state.wake_when:
            state.wake_writer()
        return chunk

    def _next_batch(self, borrower: Stream | None = None) -> deque[bytes]:
        """Wait until there is something in the queue, and take it; empty at EOF."""
        state = self._state
        while True:
            with state.lock:
                if self._stopped:
                    break
                if borrower is not None and borrower._stopped:  # noqa: SLF001 - of its own kind
                    raise borrower._stop_error()  # noqa: SLF001
                if state.queue or state.writer_closed:
                    batch = state.queue
                    state.queue, self._batch = self._batch, batch
                    if state.writer_asleep:
                        state.wake_when = state.sent - state.wake_at
                    return batch
                state.reader_asleep = True
                state.fits = 0
                if state.queue:  # by a write that may have looked at the flag before
                    state.reader_asleep = False
                    continue
            before_sleep()
            limit = max_sleep()
            self._waiting_since = time.monotonic()
            try:
                while not state.reader_gate.acquire(timeout=limit):
                    pass
            finally:
                self._waiting_since = None
        raise self._stop_error()

    def _wake(self) -> None:
        # Read without the lock, because the state was changed under the lock before this: a reader that falls
        # asleep later has seen the change.
        if self._state.reader_asleep:
            self._state.wake_reader()

    def _release(self) -> None:
        state = self._state
        state.delivered = self.count  # the rest of the chunk in hand will not be delivered
        super()._release()
        with state.lock:
            state.reader_closed = True
            # Replaced, not emptied: if another thread closes the reader, that may be taking from them. They
            # are freed with the last reference, outside the lock, because freeing megabytes takes a while.
            dropped = state.queue, self._batch
            state.queue, self._batch = deque(), deque()
            state.fits = 0
        if state.writer_asleep:  # as above
            state.wake_writer()
        del dropped


class MemoryWriter(Writer):
    """The writing end of a `MemoryPipe`. Once it is closed, the reader gets the bytes in flight, then EOF.

    `write()` raises `ClosedPipe` once the reader is closed.
    """

    __slots__ = ("_state",)

    def __init__(self, state: _State) -> None:
        super().__init__(state.lock)
        self._state = state

    @property
    def count(self) -> int:
        """The number of bytes taken."""
        return self._state.sent

    def probe(self) -> Probe:
        """Return what this end shows; see `Stream.probe`."""
        return self.count, self._state.writer_asleep, self._state.level()

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of `data` and return its length in bytes; see `Writer.write`."""
        state = self._state
        if type(data) is bytes and get_ident() == state.sole:
            # All that has to be done if there is room, without a further call.
            size = len(data)
            sent = state.sent_alone + size
            if sent <= state.fits and size >= _MIN_CHARGE and not self._stopped:
                state.sent_alone = sent
                state.queue.append(data)
                if state.reader_asleep:
                    state.wake_reader()
                return size
        return super().write(data)

    def _write_chunk(self, data: bytes | memoryview) -> None:
        chunk = data if isinstance(data, bytes) else bytes(data)
        state = self._state
        with state.lock:
            # Not past a sleeping writer: small chunks could overtake a large one for ever.
            done = not state.writer_asleep and self._put(chunk)
            wake = done and state.reader_asleep
            if wake:
                state.reader_asleep = False
        if wake:
            _open_gate(state.reader_gate)
        elif not done:
            self._wait_and_put(chunk)

    def _put(self, chunk: bytes) -> bool:
        """Queue the chunk if there is room for it now. The lock is held."""
        state = self._state
        if self._stopped:
            raise self._stop_error()
        if state.reader_closed:
            raise ClosedPipe
        size = len(chunk)
        delivered = state.delivered
        in_flight = state.sent - delivered
        if (in_flight + size > state.limit and in_flight) or len(state.queue) >= MAX_CHUNKS:
            return False
        state.queue.append(chunk)
        state.sent_locked += size
        if state.sole != get_ident():
            state.sole = get_ident() if state.sole == 0 and features.GIL else _NO_THREAD
        state.fits = delivered + state.limit - state.sent_locked
        return True

    def _wait_and_put(self, chunk: bytes) -> None:
        state = self._state
        with state.turn:
            while True:
                with state.lock:
                    if self._put(chunk):
                        state.writer_asleep = False
                        state.wake_when = NEVER
                        wake, state.reader_asleep = state.reader_asleep, False
                        break
                    state.writer_asleep = True
                    state.fits = 0
                    state.wake_at = max(0, min(state.limit // 2, state.limit - len(chunk)))
                    # If there are too many chunks, room comes only when the reader takes the queue.
                    too_many_chunks = len(state.queue) >= MAX_CHUNKS
                    state.wake_when = NEVER if too_many_chunks else state.sent - state.wake_at
                    if state.delivered >= state.wake_when:
                        continue  # delivered meanwhile: the reader may have looked before the level was set
                before_sleep()
                limit = max_sleep()
                while not state.writer_gate.acquire(timeout=limit):
                    pass
        if wake:
            _open_gate(state.reader_gate)

    def _wake(self) -> None:
        if self._state.writer_asleep:  # as in the reader
            self._state.wake_writer()

    def _release(self) -> None:
        state = self._state
        with state.lock:
            state.writer_closed = True
        if state.reader_asleep:
            state.wake_reader()

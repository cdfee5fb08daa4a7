"""The in-memory pipe: chunks cross from thread to thread by reference, a bounded number of bytes at a time.

Strategy. One lock guards the state and is never held across a sleep. Each side has one more lock, its gate,
that is only ever slept on: who must wait sets its `asleep` flag under the state lock, lets go of it, and
acquires the gate; who changes the state finds the flag, takes it down, and opens the gate once. That is far
cheaper than a Condition, which makes a lock for each sleep. A writer that found the pipe full is woken when
it is half empty, not at the first byte of room: a sleep and a wake cost as much as dozens of chunks.

The reader takes the whole queue in one go and delivers from it without the lock. What it holds is still in
flight until it is delivered. Numbers that only grow say how much that is: `sent` and `delivered`. Only
the reader writes `delivered`, and only a writer about to sleep writes `wake_when`, the value of it at which
it wants to be woken. The writer sets that and then looks at `delivered`; the reader raises `delivered` and
then looks at `wake_when`; so one of them sees the other. Were that order ever lost (it cannot be under the
GIL), the writer would sleep on until the reader comes back for the next batch, which it does under the lock.

What a chunk costs is calls and names, so the two ways that nearly all go, a write where there is room and the
next chunk of a batch, are written out in `write` and `chunks`, and the `count` of either end is worked out of
the numbers above. `fits` makes the first of them one comparison: `sent_alone` may grow to this, whatever
the reader has delivered meanwhile. It is worked out anew by a write that finds it too small, and taken down
to 0 by whoever wants the next write to look closer.

Nor does that write take the lock, which would be a fifth of the whole, as long as one thread alone has
written: what it sends so is counted in a number of its own. A reader about to sleep raises its flag and then
looks at the queue; the writer queues its chunk and then looks at the flag. A second thread that writes takes
the way by the lock, and so does from then on the first; at most one chunk of its may be under way at that
moment, and be one too many. Without a GIL all go by the lock.

A chunk larger than the bound goes through when the pipe is empty. Chunks are bounded in number too, because a
pipe full of tiny ones would hold many times its bound in object headers.

One thread at a time reads. Several may write: each write is whole, and those that must wait take turns.
Nothing but `_read_chunk` and `_write_chunk` may block.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING, Final

from penstock.core.errors import ClosedPipe
from penstock.streams.base import before_sleep
from penstock.streams.reader import Reader
from penstock.streams.writer import Writer
from penstock.system import features

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer

__all__ = ["MemoryPipe", "MemoryReader", "MemoryWriter"]

_DEFAULT_LIMIT: Final = 4 * 1024 * 1024
MAX_CHUNKS: Final = 65536
_MIN_CHARGE: Final = _DEFAULT_LIMIT // MAX_CHUNKS
"""Bytes of the least chunk of which no more fit into the default limit than into the number."""
NEVER: Final = 1 << 62  # more than any number of bytes
_NO_THREAD: Final = -1


class MemoryPipe:
    """A pipe between two Python stages, with at most `limit` bytes in flight; has a `reader` and a `writer`.

    Whoever uses an end closes it.
    """

    __slots__ = ("__weakref__", "reader", "writer")

    def __init__(self, limit: int = _DEFAULT_LIMIT) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        state = _State(limit)
        self.reader = MemoryReader(state)
        self.writer = MemoryWriter(state)


class _State:
    """What the two ends share; read and written under `lock`, but for `delivered` and `wake_when`."""

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
        self.sole = 0  # the thread that alone has written so far, or _NO_THREAD once there were two
        self.sent_alone = 0  # bytes that it put into the queue without the lock, and all others ...
        self.sent_locked = 0  # ... which were put there under it
        self.delivered = 0  # bytes that the reader ever gave away: what is between the two is in flight
        self.fits = 0  # what `sent_alone` may become without looking at anything else; never too much
        self.wake_at = 0  # the writer that sleeps is woken when no more bytes than this are in flight ...
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

    # In both of these an interrupt may come once the flag is down, which nobody finds a second time: so the
    # gate is opened all the same, with no call ahead of the one that opens it.

    def wake_reader(self) -> None:
        """Make the reader look at the state again. The lock must not be held."""
        asleep = False
        try:
            with self.lock:
                asleep, self.reader_asleep = self.reader_asleep, False
        finally:
            if asleep:
                try:  # noqa: SIM105 - a call of `suppress` would be one ahead
                    self.reader_gate.release()
                except RuntimeError:  # as `_open_gate` says
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
    # A sleeper that was torn away by a KeyboardInterrupt leaves its flag up, so that the gate may be opened
    # for nobody, and a second time before anyone passes. An open gate lets the next sleeper through at once,
    # and it looks again, so an opening too many does no harm and one too few cannot be.
    with suppress(RuntimeError):
        gate.release()


class MemoryReader(Reader):
    """The reading end of a `MemoryPipe`. Closing it drops what is in flight; the writer gets `ClosedPipe`."""

    __slots__ = ("_batch", "_state")

    def __init__(self, state: _State) -> None:
        super().__init__(state.lock)
        self._state = state
        self._batch: deque[bytes] = deque()

    @property
    def count(self) -> int:
        """The number of bytes delivered; of a chunk that is being delivered, what has been."""
        return self._state.delivered - max(0, len(self._rest) - self._offset)

    def chunks(self) -> Iterator[bytes]:
        """Iterate over the chunks as they come, none empty; first what an earlier read left of a chunk."""
        state = self._state
        while chunk := self._next():
            yield chunk
            # `_next` and `_read_chunk` in one, for what is in hand already: calls are most of what a chunk
            # costs.
            while self._batch and not (self._stopped or self._rest):
                chunk = self._batch.popleft()
                state.delivered = delivered = state.delivered + len(chunk)
                if delivered >= state.wake_when:
                    state.wake_writer()
                yield chunk

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

    def _next_batch(self) -> deque[bytes]:
        """Wait for the queue to fill, and take it; empty at EOF."""
        state = self._state
        while True:
            with state.lock:
                if self._stopped:
                    break
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
            state.reader_gate.acquire()
        raise self._stop_error()

    def _wake(self) -> None:
        # Asked without the lock, since before this the state was changed under it: a reader that falls asleep
        # later has seen that it was.
        if self._state.reader_asleep:
            self._state.wake_reader()

    def _release(self) -> None:
        state = self._state
        state.delivered = self.count  # what is left of a chunk never will be
        super()._release()
        with state.lock:
            state.reader_closed = True
            # Left behind, not emptied: a reader that was closed by another thread may be taking from them.
            # They go with the last reference, which is not under the lock: to free megabytes takes a while.
            dropped = state.queue, self._batch
            state.queue, self._batch = deque(), deque()
            state.fits = 0
        if state.writer_asleep:  # as above
            state.wake_writer()
        del dropped


class MemoryWriter(Writer):
    """The writing end of a `MemoryPipe`. Once it is closed the reader gets what is in flight, then EOF.

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

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of `data` and return its length in bytes; see `Writer.write`."""
        state = self._state
        if type(data) is bytes and get_ident() == state.sole:
            # All that has to be done where there is room, without a further call.
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
            # Not past a writer that sleeps: small chunks could overtake a large one for ever.
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
                    # Where there are too many chunks, room comes only when the reader takes the queue.
                    too_many_chunks = len(state.queue) >= MAX_CHUNKS
                    state.wake_when = NEVER if too_many_chunks else state.sent - state.wake_at
                    if state.delivered >= state.wake_when:
                        continue  # delivered meanwhile: the reader may have looked before the level was set
                before_sleep()
                state.writer_gate.acquire()
        if wake:
            _open_gate(state.reader_gate)

    def _wake(self) -> None:
        if self._state.writer_asleep:  # as the reader's
            self._state.wake_writer()

    def _release(self) -> None:
        state = self._state
        with state.lock:
            state.writer_closed = True
        if state.reader_asleep:
            state.wake_reader()

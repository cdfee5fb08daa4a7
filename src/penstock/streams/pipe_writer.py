"""The pipe behind `run.stdin`, as one of Python's own file objects that needs no flush.

A write goes into the pipe before it returns, so that a dialogue needs no `flush()`. While writes come fast
(`streams.joining`), they are joined to four pages. The held pieces go into the pipe

- when they are so many, at any other write than that of a few bytes, at a flush and at the close,
- when the same thread reads `run.stdout` and would have to wait, because the answer may depend on them (if
  the caller has asked for the descriptor of that, its reads cannot be seen, so nothing is joined any more),
- and, by the reactor, when nothing has gone into the pipe for `HOLD_S`.

The reactor may not block. So it writes a page at a time, as long as the pipe polls as writable, and leaves
the rest to a worker. There is hardly ever a rest, because writes are joined only while the pipe has room, and
nobody else can take that: once a caller gets the descriptor from here (`fileno`, `raw`, `detach`), nothing is
joined. If the pipe is full, each write waits for room itself, as it would without joining.

Exactness. `_pieces` are held; they go by way of the buffer of the `BufferedWriter`. CPython handles signals
between calls, and never in the middle of one of its own. So a piece is in the list or in the buffer,
and not in both, whenever an interrupt comes, and the flush of the buffer takes out just what it has
written. An interrupt leaves the held pieces for the next write, flush or close, and for the reactor.

Threads. Any thread may write. A write adds its piece first and looks at `_room` afterwards. The reactor sets
that to -1 first, and takes the pieces afterwards, so one of the two passes each piece on. `_lock` is held by
the thread that passes pieces on, which may block; the reactor only tries to take it. A signal handler that
writes in the middle of a write of its own thread leaves its piece to that.

In a forked copy nothing may be written: the held pieces belong to the parent (`forget`).
"""

from __future__ import annotations

import contextlib
import io
import select
import sys
import threading
import weakref
from functools import partial

from penstock.core.errors import raised_by
from penstock.streams.joining import HoldTimer, Pace
from penstock.streams.read_watch import ReadWatch
from penstock.system.sigpipe import without_sigpipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from penstock.streams.joining import LateCalls
    from penstock.streams.probe import Probe
    from penstock.system.fds import Fd
    from penstock.system.pipe_capacity import PipeCapacityLease

__all__ = ["PipeWriter"]

_PAGE = select.PIPE_BUF
"""Bytes that a pipe takes without blocking if it polls as writable, pipe(7)."""
_HOLD = 4 * _PAGE
"""Bytes of pieces that are joined."""
_ALL = sys.maxsize
_put, _flush_buffer = io.BufferedWriter.write, io.BufferedWriter.flush


class PipeWriter(io.BufferedWriter):
    """A pipe to the first stage as a file object; each write arrives without a flush."""

    __slots__ = (
        "_calls",
        "_file",
        "_held",
        "_joins",
        "_lock",
        "_number",
        "_pace",
        "_pages",
        "_pieces",
        "_poll",
        "_reads",
        "_room",
        "_seen",
        "_sends",
        "_timer",
        "_writer_thread",
    )

    def __init__(self, end: Fd, calls: LateCalls) -> None:
        self._pages: PipeCapacityLease | None = end.pages
        self._calls = calls
        self._lock = threading.RLock()
        self._pace = Pace()
        self._pieces: list[bytes] = []
        self._held = 0
        """About the number of bytes in `_pieces`: exact as long as one thread writes."""
        self._room = -1
        """Bytes that may be held; -1 if nothing may."""
        self._joins = True
        """Whether nobody else can have the descriptor."""
        self._sends = self._seen = 0
        self._timer = HoldTimer(calls)
        self._poll: select.poll | None = None
        self._writer_thread = 0
        self._reads: ReadWatch | None = None
        self._number = number = end.detach()
        self._file = io.FileIO(number, "wb")
        super().__init__(self._file, 2 * _HOLD)

    def raised(self, error: BaseException) -> bool:
        """Return whether `error` comes from here."""
        return raised_by(error, self)

    def probe(self) -> Probe:
        """Return what it shows from outside; see `streams.probe`. Nobody counts what the caller writes."""
        return None, None, self._file

    def write(self, data: Any, /) -> int:
        """Write all of `data`; it arrives without a flush."""
        if type(data) is bytes:
            size = len(data)
            if size <= self._room:
                self._pieces.append(data)
                self._held = held = self._held + size
                if held > self._room:
                    self.flush()
                return size
        return self._write_at_once(data)

    def flush(self) -> None:
        """Write what is held, and what a failed write has left."""
        if self._lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001 - `Condition` does that too
            return  # by a signal handler: the write that it has interrupted goes on with it
        with self._lock:
            held = bool(self._pieces)
            self._send_held()
            if held:
                self._count_send()

    def fileno(self) -> int:
        """Return the number of the descriptor; nothing is joined any more, because others may use it."""
        self.stop_joining()
        return super().fileno()

    @property
    def raw(self) -> io.RawIOBase:  # type: ignore[override]
        """The unbuffered file under it; as for `fileno`."""
        self.stop_joining()
        return self._file

    def detach(self) -> io.RawIOBase:
        """Separate the unbuffered file from it, and return that."""
        self.stop_joining()
        return super().detach()

    def close(self) -> None:
        """Close the pipe. It is not an error if nobody reads any more."""
        self._joins = False
        self._room = -1
        if self._reads is not None:
            self._reads.clear()
        if self._pieces:
            self._send_quietly()
        with contextlib.suppress(BrokenPipeError):
            super().close()
        if self._pages is not None:
            self._pages.release()

    def forget(self) -> None:
        """Close the descriptor of a forked copy, and write nothing: the parent will.

        Takes no lock, because a thread that does not exist here may hold it.
        """
        self._lock = threading.RLock()
        self._joins = False
        self._room = -1
        if self._reads is not None:
            self._reads.clear()
        self._file.close()

    def flush_before_reads_of(self, reader: io.BufferedReader) -> None:
        """Write what is held before `reader` waits for bytes; join nothing if its descriptor is asked for."""
        raw = reader.raw
        if type(raw) is io.FileIO:
            self._reads = ReadWatch(raw, weakref.WeakMethod(self.stop_joining))

    def _write_at_once(self, data: Any) -> int:
        if self._lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001 - as in `flush`
            with memoryview(data) as view:
                self._pieces.append(view.tobytes())
                return view.nbytes
        with self._lock:
            if self._pieces:
                self._send_held()
            size = _put(self, data)
            _flush_buffer(self)
            self._count_send()
        if self._pieces:  # of a signal handler, or of another thread
            self.flush()
        return size

    def _send_held(self, count: int = _ALL) -> None:
        """Write what is held, or so many pieces of it; `_lock` is held."""
        pieces = self._pieces
        _flush_buffer(self)  # what a write that failed or was interrupted has left
        while pieces:
            batch = pieces[:count]
            size = len(batch)
            data = batch[0] if size == 1 else b"".join(batch)
            self._held = 0
            # No signal is handled between these two, because no call stands between them.
            del pieces[:size]
            _put(self, data)
            _flush_buffer(self)
            if count != _ALL:
                return

    def _count_send(self) -> None:
        """Decide whether the next writes may be joined; `_lock` is held."""
        self._sends += 1
        pace = self._pace
        if not pace.fast:
            if not (pace.count_piece() and self._joins):
                return
            self._writer_thread = threading.get_ident()
        if not (self._joins and self._has_room()):
            self._room = -1
            return
        if self._reads is not None:
            self._reads.set(self._before_read)
        self._timer.start(self._look)
        self._room = _HOLD
        if not self._joins:  # it was closed meanwhile, or the descriptor was given away
            self._room = -1

    def _has_room(self) -> bool:
        """Return whether a page can be written without blocking, and somebody reads."""
        return self._poll_once() == [(self._number, select.POLLOUT)]

    def _poll_once(self) -> list[tuple[int, int]]:
        poll = self._poll
        if poll is None:
            poll = select.poll()
            poll.register(self._number, select.POLLOUT)
            self._poll = poll
        return poll.poll(0)

    def stop_joining(self) -> None:
        """Write what is held, and let each write go on at once from now on."""
        self._joins = False
        self._room = -1
        if self._reads is not None:
            self._reads.clear()
        if self._pieces:
            self.flush()

    # In the reactor's thread, which may not block.

    def _look(self) -> None:
        """Look whether anything was written since the last time; if not, write what is held."""
        if not self._lock.acquire(blocking=False):
            self._timer.blocked(self._look)
            return
        try:
            if self._pace.fast and self._sends != self._seen:
                self._seen = self._sends
                self._timer.again(self._look)
            else:
                self._timer.stop()
                self._end_joining()
        finally:
            self._lock.release()

    def _hurry(self) -> None:
        """Write what is held now."""
        if self._lock.acquire(blocking=False):  # if not, another thread writes
            try:
                self._end_joining()
            finally:
                self._lock.release()

    def _end_joining(self) -> None:
        """Write what is held, and let the next write go on at once; `_lock` is held."""
        self._room = -1  # first: a write that comes from here on sees it
        self._pace.slow_down()
        if self._reads is not None:
            self._reads.clear()
        pieces = self._pieces
        while pieces:
            count = _fitting(pieces)
            if count == 0 or not self._poll_once():
                self._have_worker_send()
                return
            try:
                _without_sigpipe(partial(self._send_held, count))
            except (OSError, ValueError):  # the next write, flush or close meets it
                return

    def _have_worker_send(self) -> None:
        """Leave what is held to a thread that may wait: there is less room than most of the time."""
        try:
            self._calls.in_worker(self._send_quietly)
        except RuntimeError:  # no thread is available now
            self._timer.start(self._look)

    def _send_quietly(self) -> None:
        """Write what is held; the next write, flush or close meets an error."""
        with contextlib.suppress(OSError, ValueError), self._lock:
            _without_sigpipe(self._send_held)

    def _before_read(self) -> None:
        """Have the reactor write what is held: the answer that the caller waits for may depend on it."""
        if threading.get_ident() == self._writer_thread:
            self._calls.soon(self._hurry)


def _fitting(pieces: list[bytes]) -> int:
    """Return how many of them a page takes."""
    size = 0
    for count, piece in enumerate(pieces):
        size += len(piece)
        if size > _PAGE:
            return count
    return len(pieces)


_without_sigpipe = without_sigpipe(lambda call: call())
"""For a write that no caller waits for: a host may have SIGPIPE at its default."""

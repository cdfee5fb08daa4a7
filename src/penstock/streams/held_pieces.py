"""Small pieces that are held back for a moment, to be joined and written together.

The user of `HeldPieces` adds pieces to its list while they come fast (`streams.joining`), and writes what is
held once it is a block. If no more come, nothing is written for a while. Then the reactor has a worker write
what is held, because the write may block, and sets `room` to -1: from the next piece on each is written as it
comes. Before the user's thread sleeps in a stream, it writes what is held, because others may wait for that.

`_lock` is held by whoever writes: a thread of the user, or that worker. So the order stays. A user adds a
piece first and looks at `room` afterwards. The reactor sets that first and has the list looked at afterwards,
so no piece is left in it.

No thread that gets signals has a part in this: the users are stages and copies, which run in workers.
"""

from __future__ import annotations

import contextlib
import threading

from penstock.streams.base import before_sleep
from penstock.streams.joining import HoldTimer, Pace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from penstock.streams.joining import LateCalls
    from penstock.streams.writer import Writer

__all__ = ["BLOCK", "OVERHEAD", "SMALL", "HeldPieces"]

BLOCK = 65536
"""Bytes that are joined, the overhead counted."""
SMALL = 4096
"""Bytes of a piece that is worth copying to save a write."""
OVERHEAD = 16
"""Bytes that an entry of the list counts beyond the piece's own. So even empty pieces fill a block."""


class HeldPieces:
    """The pieces on their way to `writer`."""

    __slots__ = (
        "_calls",
        "_failed",
        "_lock",
        "_pace",
        "_seen",
        "_timer",
        "_writer",
        "_writes",
        "pieces",
        "room",
    )

    def __init__(self, writer: Writer, calls: LateCalls) -> None:
        self._writer = writer
        self._calls = calls
        self._lock = threading.Lock()
        self._pace = Pace()
        self.pieces: list[Any] = []
        """Small ones, of bytes; only the last may be of another kind."""
        self.room = -1
        """Bytes that may be held; -1 if nothing may."""
        self._writes = self._seen = 0
        self._timer = HoldTimer(calls)
        self._failed: BaseException | None = None
        """The error of a write that nobody waited for; the next write raises it."""

    def write_at_once(self, piece: Any) -> int:
        """Write what is held and then a piece; return what the writer returned."""
        with self._lock:
            if self.pieces:
                self._write_all()
            size = self._write(piece)
            self._writes += 1
            if type(piece) is not bytes or len(piece) > SMALL:
                self._slow_down()
            elif not self._pace.fast and self._pace.count_piece():
                self.room = BLOCK
            if self.room >= 0:
                self._timer.start(self._look)
        return size

    def write_held(self) -> None:
        """Write what is held."""
        with self._lock:
            self._write_all()
            if self.room >= 0:
                self._timer.start(self._look)

    @contextlib.contextmanager
    def written_before_sleep(self) -> Iterator[None]:
        """Within the block, have the calling thread write what is held before it sleeps in a stream."""
        before = before_sleep.hook

        def write_held() -> None:
            if self.pieces and self._lock.acquire(blocking=False):  # if not, this sleep is one of a write
                try:
                    self._write_all()
                except BaseException as error:  # noqa: BLE001 - kept for the next write
                    self._failed = error
                finally:
                    self._lock.release()
            if before is not None:
                before()

        before_sleep.hook = write_held
        try:
            yield
        finally:
            before_sleep.hook = before

    def _write_all(self) -> None:
        pieces = self.pieces
        while pieces:
            batch = pieces[:]
            del pieces[: len(batch)]
            self._writes += 1
            last = batch[-1]
            if type(last) is bytes and len(last) <= SMALL:
                self._write(b"".join(batch))
                continue
            self._slow_down()
            if len(batch) > 1:
                self._write(b"".join(batch[:-1]))
            self._write(last)

    def _write(self, data: Any) -> int:
        if self._failed is not None:
            raise self._failed
        return self._writer.write(data)

    def _slow_down(self) -> None:
        self.room = -1
        self._pace.slow_down()

    # In the reactor's thread, which may not block.

    def _look(self) -> None:
        """Look whether anything was written since the last time; if not, have a worker write what is held."""
        if not self._lock.acquire(blocking=False):
            self._timer.blocked(self._look)
            return
        try:
            if self.room >= 0 and self._writes != self._seen:
                self._seen = self._writes
                self._timer.again(self._look)
                return
            self._timer.stop()
            self._slow_down()
        finally:
            self._lock.release()
        if self.pieces:
            with contextlib.suppress(RuntimeError):  # without a thread, the next write brings them along
                self._calls.in_worker(self._write_late)

    def _write_late(self) -> None:
        try:
            self.write_held()
        except BaseException as error:  # noqa: BLE001 - kept for the next write
            self._failed = error

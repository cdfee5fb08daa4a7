"""Join small writes to large ones, without holding anything back for long.

Pieces are written when they have grown to a block, before each read that may block, and once they are 50 ms
old. For the last case a reactor timer starts a worker thread, because the stage itself may be busy by then.
The lock `_order` serializes the writes. It is held during a write, which may block, so only the stage's
thread and that worker thread take it.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from penstock.runtime import thread_pool
from penstock.streams.writer import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.stages.context import StageContext

__all__ = ["CoalescingWriter"]

_MAX_DELAY_S = 0.05
"""Seconds that anything may be held back."""
_BLOCK_SIZE = 65536
"""Bytes that are worth a separate write."""


class CoalescingWriter(Writer):
    """A writer in front of another that joins small pieces."""

    __slots__ = (
        "_armed",
        "_ctx",
        "_order",
        "_pieces",
        "_result_source",
        "_since",
        "_size",
        "_target",
        "failed",
    )

    def __init__(self, ctx: StageContext, target: Writer) -> None:
        super().__init__()
        self._ctx = ctx
        self._target = target
        self._order = threading.Lock()
        self._pieces: list[bytes] = []
        self._size = 0
        self._since = 0.0
        self._armed = False
        self._result_source: Callable[[], bytes] | None = None
        self.failed: BaseException | None = None
        """The error of a write in `try_flush`, which does not raise it."""

    def _write_chunk(self, data: bytes | memoryview) -> None:
        now = time.monotonic()
        with self._order:
            self._check()
            if not self._pieces:
                self._since = now
                self._arm()
            self._pieces.append(bytes(data))
            self._size += len(data)
            self._count += len(data)
            if self._size >= _BLOCK_SIZE or now - self._since >= _MAX_DELAY_S:
                self._write_out()

    def flush(self) -> None:
        """Write all pieces."""
        with self._order:
            self._check()
            self._write_out()

    def nudge(self) -> None:
        """Have a thread that is blocked in a write call its `before_sleep` hook once more."""
        self._target.nudge()

    def set_result_source(self, source: Callable[[], bytes] | None) -> None:
        """Let another thread call `source()` for finished results while the stage is busy; None ends that.

        `source` is called under the lock. First write all pieces. Once this returns, no thread is in the old
        source or in a write.
        """
        with self._order:
            self._result_source = source
            if source is not None:
                self._check()
                self._write_out()
                self._arm()

    def try_flush(self) -> bool:
        """Write all pieces. If that fails, keep the error in `failed` and return False."""
        with self._order:
            if self.failed is None:
                try:
                    self._write_out()
                except BaseException as error:  # noqa: BLE001 - it is kept for the next write
                    self.failed = error
            return self.failed is None

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            self._ctx.reactor.call_at(time.monotonic() + _MAX_DELAY_S, self._tick)

    def _tick(self) -> None:
        """Start a thread that writes: the reactor's own, which calls this, must not block."""
        self._armed = False
        if self._pieces or self._result_source is not None:
            # If no thread can be started, the stage itself writes, before its next read or at its end.
            with suppress(RuntimeError):
                thread_pool.submit(self._flush_late)

    def _flush_late(self) -> None:
        with self._order:
            results = b"" if self._result_source is None else self._result_source()
            if results:
                self._pieces.append(results)
            if self._result_source is not None:
                self._arm()
        self.try_flush()

    def _check(self) -> None:
        if self.failed is not None:
            raise self.failed

    def _write_out(self) -> None:
        pieces, self._pieces, self._size = self._pieces, [], 0
        if pieces:
            self._target.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

"""Small writes joined to large ones, without holding anything back for long.

What is held is written when it has grown to a block, before each read that may block, and once it is 50 ms
old: a timer of the reactor's has a worker do the last, since the stage itself may be busy with something else
by then. `_order` makes the writes one after the other, whoever does them; it is held while writing, which may
block, so only the stage's thread and that worker take it.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from penstock.runtime import thread_pool
from penstock.streams.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.stages.context import StageContext

__all__ = ["CoalescingWriter"]

_MAX_DELAY_S = 0.05
"""Seconds that anything may be held back."""
_BLOCK_SIZE = 65536
"""Bytes that are worth a write of their own."""


class CoalescingWriter(Writer):
    """A writer that joins what it is given, in front of another."""

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
        """What a write raised in `try_flush`, which does not raise itself."""

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
        """Pass on what is held."""
        with self._order:
            self._check()
            self._write_out()

    def set_result_source(self, source: Callable[[], bytes] | None) -> None:
        """While the stage is busy, `source()` may be asked (under the lock) for what it has ready.

        With None no longer.

        Writes what was held before, and returns when nobody is asking or writing any more.
        """
        with self._order:
            self._result_source = source
            if source is not None:
                self._check()
                self._write_out()
                self._arm()

    def try_flush(self) -> bool:
        """Pass on what is held; False, and the error in `failed`, where that does not work."""
        with self._order:
            if self.failed is None:
                try:
                    self._write_out()
                except BaseException as error:  # noqa: BLE001 - it is kept for who writes next
                    self.failed = error
            return self.failed is None

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            self._ctx.reactor.call_at(time.monotonic() + _MAX_DELAY_S, self._tick)

    def _tick(self) -> None:
        """In the reactor's thread, which must not write itself."""
        self._armed = False
        if self._pieces or self._result_source is not None:
            # Where there is no thread to be had, the stage itself writes it, before it reads or when it ends.
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

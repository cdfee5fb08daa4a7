"""A writer that notes when bytes went through it, in front of the one that takes them.

Only runs with `idle_timeout` have one, because the clock costs as much as a small write. While a write is
under way, whoever takes the bytes is slow, so no time counts. If several threads write, the last one to
return sets the time.
"""

from __future__ import annotations

import time

from penstock.streams.writer import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from penstock.streams.probe import Probe

__all__ = ["ClockedWriter"]


class ClockedWriter(Writer):
    """Passes everything on to `target`, which it owns.

    `waiting_since` is the `time.monotonic()` since which no byte was written; None during a write.
    """

    __slots__ = ("_target", "waiting_since")

    def __init__(self, target: Writer) -> None:
        super().__init__()
        self._target = target
        self.waiting_since: float | None = time.monotonic()

    @property
    def count(self) -> int:
        """The number of bytes taken."""
        return self._target.count

    def probe(self) -> Probe:
        """Return what the target shows."""
        return self._target.probe()

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of `data` and return its length in bytes; see `Writer.write`."""
        since, self.waiting_since = self.waiting_since, None
        size = 0
        try:
            size = self._target.write(data)
        finally:
            self.waiting_since = time.monotonic() if size or since is None else since
        return size

    def _write_chunk(self, data: bytes | memoryview) -> None:
        self.write(data)

    def flush(self) -> None:
        """Flush the target."""
        self._target.flush()

    def poison(self, reason: BaseException) -> None:
        """Poison both."""
        super().poison(reason)
        self._target.poison(reason)

    def interrupt(self, reason: BaseException) -> None:
        """Interrupt both."""
        super().interrupt(reason)
        self._target.interrupt(reason)

    def nudge(self) -> None:
        """Have a thread that is blocked in a write call its `before_sleep` hook once more."""
        self._target.nudge()

    def _release(self) -> None:
        self._target.close()

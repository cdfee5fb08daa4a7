"""The stdout of a function: small writes are joined while they come fast.

A function may read its stdin, compute or sleep at any time, so `held_pieces` has what is held written before
the first, and within milliseconds in the other cases. A write of more than a few bytes, `flush()`, `close()`
and the end of the function write it too.

An error may come later than the write that it belongs to: after a block, at the latest when the function has
returned. The same holds for the interrupt of the stream, which belongs to `target`.

Out of scope: how a write waits, and the streams of other stages.
"""

from __future__ import annotations

import contextlib

from penstock.streams.held_pieces import OVERHEAD, SMALL, HeldPieces
from penstock.streams.writer import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import Any

    from penstock.streams.joining import LateCalls
    from penstock.streams.probe import Probe

__all__ = ["JoiningWriter", "call_joining"]


class JoiningWriter(Writer):
    """A writer in front of `target`, which it owns."""

    __slots__ = ("_held", "_size", "_target")

    def __init__(self, target: Writer, calls: LateCalls) -> None:
        super().__init__()
        self._target = target
        self._held = HeldPieces(target, calls)
        self._size = 0
        """About what is held, the overhead counted: exact as long as one thread writes."""

    @property
    def count(self) -> int:
        """The number of bytes taken."""
        return self._target.count + sum(map(len, self._held.pieces[:]))

    def probe(self) -> Probe:
        """Return what the target shows."""
        return self._target.probe()

    def write(self, data: Any, /) -> int:
        """Write all of `data` and return its length in bytes."""
        held = self._held
        if type(data) is bytes:
            size = len(data)
            # An empty list: others have written it, or this begins.
            if size <= held.room and size <= SMALL:
                pieces = held.pieces
                if not pieces:
                    self._size = 0
                pieces.append(data)
                self._size = total = self._size + size + OVERHEAD
                if total > held.room:
                    held.write_held()
                return size
        return held.write_at_once(data)

    def written_before_sleep(self) -> AbstractContextManager[None]:
        """Within the block, have the calling thread write what is held before it sleeps in a stream."""
        return self._held.written_before_sleep()

    def _write_chunk(self, data: bytes | memoryview) -> None:
        self._held.write_at_once(data)

    def flush(self) -> None:
        """Write what is held."""
        self._held.write_held()
        self._target.flush()

    def nudge(self) -> None:
        """Have a thread that is blocked in a write call its `before_sleep` hook once more."""
        self._target.nudge()

    def close(self) -> None:
        """Write what is held, and close this end."""
        self._held.room = -1
        try:
            self.finish()
        finally:
            super().close()
            self._target.close()

    def finish(self) -> None:
        """Write what is held, unless the stream was closed or interrupted."""
        if self._held.pieces and not self._target._stopped:  # noqa: SLF001 - of its own kind
            self._held.write_held()


def call_joining(function: Callable[[Writer], object], target: Writer, calls: LateCalls) -> None:
    """Call `function(writer)` with a writer that joins small writes, if that is worth it for `target`."""
    if not target.joins_small:
        function(target)
        return
    writer = JoiningWriter(target, calls)
    with writer.written_before_sleep():
        try:
            function(writer)
        except BaseException:
            with contextlib.suppress(Exception):
                writer.finish()
            raise
        writer.finish()

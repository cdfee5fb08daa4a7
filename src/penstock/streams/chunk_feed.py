"""Pass the chunks of the user's iterable on to a writer, small ones joined while they come fast.

The first chunks are written as they come. Once they come fast, the iterable is read without a pause, within
one call of user code, until there is a block to write, or nothing may be held any longer (`held_pieces`).

Out of scope: other objects than iterables (`user_objects`), and how to wait for room.
"""

from __future__ import annotations

import contextlib

from penstock.core.describe import describe
from penstock.streams.held_pieces import BLOCK, OVERHEAD, HeldPieces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from penstock.streams.joining import LateCalls
    from penstock.streams.writer import Writer

__all__ = ["ChunkFeed"]

_TOO_MUCH = 2 * BLOCK
"""The weight of a chunk that must be written before the next one is asked for."""
_END = object()


class ChunkFeed(HeldPieces):
    """A copy of the chunks of `source`, an object of the user, into `writer`."""

    __slots__ = ("_source",)

    def __init__(self, source: Any, writer: Writer, calls: LateCalls) -> None:
        super().__init__(writer, calls)
        self._source = source

    def run(self, chunks: Iterator[Any], call: Callable[..., Any]) -> None:
        """Copy all `chunks`. `call(function, *arguments)` calls user code, and raises if the copy is to end.

        A chunk that is not bytes is written before the next one is asked for. TypeError, naming the source,
        if a chunk has no buffer.
        """
        more = True
        while more:
            if self.room < 0:
                chunk = call(next, chunks, _END)
                if chunk is _END:
                    return
                self.write_at_once(chunk)
                continue
            try:
                more = call(self._collect, chunks)
            except BaseException:
                with contextlib.suppress(Exception):
                    self.write_held()
                raise
            self.write_held()

    def _collect(self, chunks: Iterator[Any]) -> bool:
        """Hold chunks until there is enough to write, or none may be held; return False at the end."""
        add, held = self.pieces.append, 0
        for chunk in chunks:
            add(chunk)
            held += len(chunk) + OVERHEAD if type(chunk) is bytes else _TOO_MUCH
            if held > self.room:
                return True
        return False

    def _write(self, data: Any) -> int:
        try:
            return super()._write(data)
        except TypeError as error:
            if error is self._failed:
                raise
            given = type(data).__name__
            raise TypeError(f"{describe(self._source)} gave {given}, not bytes") from None

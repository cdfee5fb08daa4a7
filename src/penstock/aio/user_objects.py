"""Read from and write to user objects that belong to the event loop.

Chunks come from an async iterable, or from an async `read(n)` if there is one: iterating over an asyncio
`StreamReader` gives lines, and fails if a line is long. Chunks go to a `StreamWriter` by `write` and `drain`,
to a send stream of anyio or trio, or to an async `write`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import anyio

from penstock.core.async_detection import is_coroutine_function

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Chunks", "returner_of", "sender_of"]

_READ_SIZE = 65536
_CLOSE_TIMEOUT_S = 1.0
"""Seconds that the clean-up of a user's generator may take after a cancellation."""


class Chunks:
    """The chunks of a user object, as bytes that no other code can change."""

    def __init__(self, thing: Any) -> None:
        self._read: Any = thing.read if is_coroutine_function(getattr(thing, "read", None)) else None
        self._iterator = None if self._read is not None else thing.__aiter__()
        self._owned = self._iterator is not thing or hasattr(thing, "ag_running")

    async def next(self) -> bytes | None:
        """Return the next chunk, or None at the end. TypeError if the object gives something else."""
        if self._read is not None:
            return _checked(await self._read(_READ_SIZE)) or None
        assert self._iterator is not None
        while True:
            try:
                chunk = await self._iterator.__anext__()
            except StopAsyncIteration:
                return None
            data = _checked(chunk)
            if data:
                return data

    async def aclose(self) -> None:
        """Let a generator that was not read to its end run its `finally` now. A stream stays open."""
        close: Callable[[], Coroutine[Any, Any, object]] | None = getattr(self._iterator, "aclose", None)
        if self._owned and close is not None:
            with anyio.move_on_after(_CLOSE_TIMEOUT_S, shield=True):
                await close()


def returner_of(source: Any) -> Callable[[bytes], object] | None:
    """Return a function by which the object takes bytes back, to deliver them next; None if it has none."""
    take_back: Callable[[bytes], object] | None = getattr(source, "take_back", None)  # a stage's own stdin
    if callable(take_back):
        return take_back
    module = sys.modules.get("asyncio")
    buffer = getattr(source, "_buffer", None)  # feed_data() only appends
    if module is None or not isinstance(source, module.StreamReader) or not isinstance(buffer, bytearray):
        return None

    def put_first(data: bytes) -> None:
        buffer[:0] = data

    return put_first


def sender_of(sink: Any) -> Callable[[bytes], Coroutine[Any, Any, object]]:
    """Return an async function that gives a chunk to the user object, and waits while that is full."""
    if is_coroutine_function(getattr(sink, "drain", None)):

        async def write_and_drain(chunk: bytes) -> None:
            sink.write(chunk)
            await sink.drain()

        return write_and_drain
    for method in ("send_all", "send", "write"):
        send: Any = getattr(sink, method, None)
        if is_coroutine_function(send):
            found: Callable[[bytes], Coroutine[Any, Any, object]] = send
            return found
    raise TypeError(f"cannot write to {sink!r}: it has no async method to write bytes")


def _checked(chunk: Any) -> bytes:
    if type(chunk) is bytes:
        return chunk
    try:
        return memoryview(chunk).tobytes()
    except TypeError:
        raise TypeError(f"an async source returned {type(chunk).__name__}, not bytes") from None

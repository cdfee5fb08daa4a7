"""What a task reads of, or writes to, an object of the caller's that belongs to the event loop.

Chunks come out of an async iterable, or of an async `read(n)` where there is one (iterating over an asyncio
`StreamReader` gives lines, and fails where one is long). They go into a `StreamWriter`, by `write` and
`drain`, into a send stream of anyio's or trio's, or into an async `write`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from penstock.core.async_detection import is_coroutine_function

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Chunks", "sender_of"]

_READ_SIZE = 65536
_CLOSE_TIMEOUT_S = 1.0
"""Seconds that the clean-up of a caller's generator may take after a cancellation."""


class Chunks:
    """The chunks of a caller's object, as bytes that nobody else changes."""

    def __init__(self, thing: Any) -> None:
        self._read: Any = thing.read if is_coroutine_function(getattr(thing, "read", None)) else None
        self._iterator = None if self._read is not None else thing.__aiter__()
        self._owned = self._iterator is not thing or hasattr(thing, "ag_running")

    async def next(self) -> bytes | None:
        """The next one; None at the end. TypeError where something else comes."""
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
        """Let a generator that was not read to its end run its `finally` now; a stream stays the caller's."""
        close: Callable[[], Coroutine[Any, Any, object]] | None = getattr(self._iterator, "aclose", None)
        if self._owned and close is not None:
            with anyio.move_on_after(_CLOSE_TIMEOUT_S, shield=True):
                await close()


def sender_of(sink: Any) -> Callable[[bytes], Coroutine[Any, Any, object]]:
    """An async function that gives a chunk to the caller's object, and waits where that is full."""
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

"""A pool of reusable buffers for copies, so that a copy of any length allocates no buffer of its own.

A buffer is borrowed, or idle and kept for the next borrower. Only a borrowed buffer may come back, once, and
at the length that it had: a buffer given back twice would be lent to two copies at the same time, and one
would overwrite the other's bytes. The pool keeps no reference to a borrowed buffer, so a borrower that loses
it costs only that buffer.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager

from penstock.core.public import exported, half_made_too
from penstock.system.fork_guard import reset_in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BufferPool", "buffer_pool"]


@exported
class BufferPool:
    """Hands out bytearrays of one size and keeps a bounded number of them for the next borrower; thread-safe.

    `size` is the length of a buffer in bytes, `limit` the most buffers that are kept idle. `hits` counts the
    borrowings that an idle buffer served, `misses` those that had to allocate one. A buffer still holds what
    its last borrower left in it. Borrowing never blocks.

    >>> pool = BufferPool(size=4, limit=1)
    >>> with pool.lend() as buffer:
    ...     len(buffer)
    4
    >>> pool.give_back(pool.borrow())
    >>> pool.hits, pool.misses
    (1, 1)
    """

    __slots__ = ("__weakref__", "_borrowed", "_hits", "_idle", "_limit", "_lock", "_misses", "_size")

    def __init__(self, size: int = 65536, limit: int = 64) -> None:
        self._size = _checked("size", size, least=1)
        self._limit = _checked("limit", limit, least=0)
        self._hits = 0
        self._misses = 0
        self._reset()

    @half_made_too
    def __repr__(self) -> str:
        return (
            f"<BufferPool size={self._size} limit={self._limit} idle={len(self._idle)} "
            f"hits={self._hits} misses={self._misses}>"
        )

    @property
    def size(self) -> int:
        """The length of a buffer, in bytes."""
        return self._size

    @property
    def limit(self) -> int:
        """The most buffers that are kept idle."""
        return self._limit

    @property
    def hits(self) -> int:
        """The number of borrowings that an idle buffer served."""
        return self._hits

    @property
    def misses(self) -> int:
        """The number of borrowings that had to allocate a buffer."""
        return self._misses

    def borrow(self) -> bytearray:
        """Return a buffer of `size` bytes; pass it to `give_back` when you no longer use it."""
        with self._lock:
            if self._idle:
                self._hits += 1
                # The buffer that was used last is most likely still in the processor's cache.
                buffer = self._idle.pop()
            else:
                self._misses += 1
                buffer = bytearray(self._size)
            self._borrowed[id(buffer)] = len(buffer)
        return buffer

    def give_back(self, buffer: bytearray) -> None:
        """Give a borrowed buffer back; do not touch it, or a memoryview of it, afterwards.

        Raises ValueError if it is not borrowed from this pool, or was given back before, or was resized
        meanwhile.
        """
        with self._lock:
            size = self._borrowed.pop(id(buffer), None)
            # After configure() a buffer of the old size may still come back, but is not kept.
            if size == len(buffer) == self._size and len(self._idle) < self._limit:
                self._idle.append(buffer)
        if size is None:
            raise ValueError(
                "give_back() takes a buffer that was borrowed from this pool and not given back yet"
            )
        if size != len(buffer):
            raise ValueError(f"give_back() takes the buffer as it was lent: {size} bytes, not {len(buffer)}")

    @contextmanager
    def lend(self) -> Iterator[bytearray]:
        """Borrow a buffer for the duration of a `with` block."""
        buffer = self.borrow()
        try:
            yield buffer
        finally:
            self.give_back(buffer)

    def configure(self, *, size: int | None = None, limit: int | None = None) -> None:
        """Change the size of buffers (bytes), or how many are kept idle; drop those that no longer fit."""
        with self._lock:
            if size is not None:
                size = _checked("size", size, least=1)
            if limit is not None:
                self._limit = _checked("limit", limit, least=0)
            if size is not None and size != self._size:
                self._size = size
                self._idle.clear()
            while len(self._idle) > self._limit:
                self._idle.popleft()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._idle: deque[bytearray] = deque()
        # By id: a bytearray has no hash and takes no weak reference, and a strong one would keep a lost
        # buffer alive.
        self._borrowed: dict[int, int] = {}


def _checked(option: str, value: int, *, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{option} must be an int, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{option} must be at least {least}, not {value}")
    return value


buffer_pool = BufferPool()

# At the moment of a fork a thread of the parent may hold the lock, and the child has no such thread to
# release it.
reset_in_child(buffer_pool._reset, "state")  # noqa: SLF001 - this module's own object

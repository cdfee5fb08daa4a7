"""A pool of idle items, bounded in number and in time.

A user puts an item into the pool when it is done with it, and the next user takes it out. The supervisor
closes an item that was idle for too long, in its own thread. If there are too many, the one that was idle for
longest is closed at once. In a forked copy the pool is empty, because its items belong to the parent.

`_lock` guards the list. Nothing that may block is called while it is held. The pools on hot paths (threads,
buffers) have a shape of their own.
"""

from __future__ import annotations

import atexit
import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from penstock.runtime.supervisor import supervisor
from penstock.system.fork_guard import reset_in_child

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["IdlePool"]

T = TypeVar("T")


class IdlePool(Generic[T]):
    """At most `limit` items, each for `timeout()` seconds; one for the life of the process."""

    def __init__(
        self,
        limit: int,
        timeout: Callable[[], float],
        *,
        close: Callable[[T], object],
        at_exit: Callable[[list[T]], object],
    ) -> None:
        """`close` is called with each item that leaves the pool unused, `at_exit` once with all that are in
        it when the interpreter ends, which leave it then.
        """
        self.limit = limit
        self._timeout = timeout
        self._close = close
        self._lock = threading.Lock()
        self._entries: list[tuple[float, T]] = []
        """When to close each item, by `time.monotonic()`, in the order of their last use."""
        self._next_sweep = float("inf")
        """When the supervisor is to close expired items."""
        atexit.register(lambda: at_exit(self.take_all()))
        reset_in_child(self._reset, "state")

    def take(self, claim: Callable[[T], object], fits: Callable[[T], bool] | None = None) -> T | None:
        """Take out the fitting item that was used last; None if there is none.

        `claim(item)` is called before the item leaves the pool, so that an interrupt cannot lose it.
        """
        with self._lock:
            for place in range(len(self._entries) - 1, -1, -1):
                item = self._entries[place][1]
                if fits is None or fits(item):
                    claim(item)
                    del self._entries[place]
                    return item
        return None

    def put(self, item: T) -> None:
        """Keep an item for its next user."""
        due = time.monotonic() + self._timeout()
        with self._lock:
            self._entries.append((due, item))
            surplus = self._entries.pop(0)[1:] if len(self._entries) > self.limit else ()
            earlier = due < self._next_sweep
            if earlier:
                self._next_sweep = due
        for each in surplus:
            self._close(each)
        if earlier:
            supervisor().call_at(due, self._sweep)

    def items(self) -> list[T]:
        """Return the items that are idle now."""
        return [item for _, item in tuple(self._entries)]

    def take_all(self) -> list[T]:
        """Empty the pool, and return its items, which the caller closes."""
        with self._lock:
            entries, self._entries[:] = self._entries[:], []
        return [item for _, item in entries]

    def _sweep(self) -> None:
        """Close the expired items. In the supervisor's thread."""
        now = time.monotonic()
        with self._lock:
            expired = [item for due, item in self._entries if due <= now]
            self._entries[:] = [entry for entry in self._entries if entry[0] > now]
            self._next_sweep = next_sweep = min((due for due, _ in self._entries), default=float("inf"))
            again = bool(self._entries)
        for item in expired:
            self._close(item)
        if again:
            supervisor().call_at(next_sweep, self._sweep)

    def _reset(self) -> None:
        self._lock = threading.Lock()  # a thread of the parent may have held it
        self._entries.clear()
        self._next_sweep = float("inf")

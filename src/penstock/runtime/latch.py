"""A one-shot event with callbacks.

Every run has one, and few are ever waited for. So a latch is a flag and one lock. A thread that has to sleep
brings a lock of its own, the gate, and registers a callback that opens it. `_guard` is held while the list of
callbacks changes, never while one runs. A callback runs in the thread that sets the latch, which may hold
locks of the engine. So it must only hand over to another thread. One that raises is called once more, and
keeps no other callback from being called.
"""

from __future__ import annotations

import threading
import time

from penstock.core.timing import timing
from penstock.runtime.faults import call_again

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Latch", "wait_in_slices"]


class Latch:
    """An event that is set once."""

    __slots__ = ("_callbacks", "_guard", "_set")

    def __init__(self) -> None:
        self._set = False
        self._guard = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._set

    def set(self) -> None:
        """Set it, and call the callbacks. Idempotent."""
        with self._guard:
            self._set = True
        while self._callbacks:
            call_again(self._callbacks[0])
            del self._callbacks[0]  # after the call: if that raises, it is made again by another `set`

    def on_set(self, callback: Callable[[], None]) -> None:
        """Call `callback()` when it is set, in the thread that sets it; at once if it is set already."""
        with self._guard:
            if not self._set:
                self._callbacks.append(callback)
                return
        callback()

    def wait(self, timeout: float) -> bool:
        """Sleep until it is set, at most `timeout` seconds; return whether it is."""
        if self._set or timeout <= 0:
            return self._set
        gate = threading.Lock()
        gate.acquire()
        self.on_set(gate.release)
        try:
            gate.acquire(timeout=timeout)
        finally:
            self._forget(gate.release)
        return self._set

    def _forget(self, callback: Callable[[], None]) -> None:
        with self._guard:
            if callback in self._callbacks:
                self._callbacks.remove(callback)


def wait_in_slices(event: Latch, timeout: float | None) -> bool:
    """Wait in slices, because a signal that arrives just before a sleep does not end that sleep."""
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        slice_ = timing.max_sleep_s if end is None else min(timing.max_sleep_s, end - time.monotonic())
        if event.wait(max(0.0, slice_)):
            return True
        if end is not None and time.monotonic() >= end:
            return event.is_set()

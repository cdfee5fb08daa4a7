"""A thing that happens once, for threads that sleep until then and for callbacks of those that may not sleep.

`_guard` is held while the list of callbacks changes, never while one runs. A callback is called in the thread
that sets the latch, which may hold locks of the engine: it hands over to somebody else, and does no more.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Latch"]


class Latch(threading.Event):
    """An event that is set once and for all."""

    def __init__(self) -> None:
        super().__init__()
        self._guard = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    def set(self) -> None:
        """Wake all who wait, and call back all who asked for it. The second time does nothing."""
        with self._guard:
            super().set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def on_set(self, callback: Callable[[], None]) -> None:
        """Call `callback()` when it is set, in the thread that sets it; at once where it is set already."""
        with self._guard:
            if not self.is_set():
                self._callbacks.append(callback)
                return
        callback()

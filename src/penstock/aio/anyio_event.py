"""An event that tasks wait for on every event loop that anyio knows, inside whatever cancel scopes.

anyio's shield keeps cancel scopes off, but asyncio's own `Task.cancel` goes through. Then a shielded wait is
repeated.
"""

from __future__ import annotations

from anyio import Event, get_cancelled_exc_class, move_on_after

__all__ = ["AnyioEvent"]


class AnyioEvent:
    """An event that is set once. Made, set and waited for in the loop's thread, by any number of tasks."""

    def __init__(self) -> None:
        self._event = Event()

    def set(self) -> None:
        """Set it, and wake those who wait."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._event.is_set()

    async def wait(self, patience: float | None = None) -> None:
        """Wait until it is set, at most `patience` seconds. Raises the task's cancellation."""
        if patience is None:
            await self._event.wait()
            return
        with move_on_after(patience):
            await self._event.wait()

    async def wait_shielded(self, patience: float | None = None) -> None:
        """Wait until it is set, at most `patience` seconds, however often the task is cancelled meanwhile."""
        with move_on_after(patience, shield=True) as scope:
            while not self._event.is_set():
                try:
                    await self._event.wait()
                except get_cancelled_exc_class():
                    if scope.cancel_called:
                        raise

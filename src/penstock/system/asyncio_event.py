"""An event that tasks of asyncio wait for, in a program that has not imported anyio.

No scope of anyio can be around such a task, so asyncio's own means are enough to shield a wait. Importing
anyio and its backend would take half the time that asyncio takes for a whole subprocess. `aio.anyio_event`
has the same methods, for every other program.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

__all__ = ["AsyncioEvent"]


class AsyncioEvent:
    """An event that is set once. Made, set and waited for in the loop's thread, by any number of tasks."""

    def __init__(self) -> None:
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def set(self) -> None:
        """Set it, and wake those who wait."""
        if not self._future.done():
            self._future.set_result(None)

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._future.done()

    async def wait(self, patience: float | None = None) -> None:
        """Wait until it is set, at most `patience` seconds. Raises the task's cancellation."""
        # A cancelled `wait` leaves the future alone, unlike `await`, which cancels it.
        await asyncio.wait((self._future,), timeout=patience)

    async def wait_shielded(self, patience: float | None = None) -> None:
        """Wait until it is set, at most `patience` seconds, however often the task is cancelled meanwhile."""
        end = None if patience is None else time.monotonic() + patience
        left = patience
        while not self.is_set() and (left is None or left > 0):
            with suppress(asyncio.CancelledError):  # the caller is being cancelled already
                await self.wait(left)
            left = None if end is None else end - time.monotonic()

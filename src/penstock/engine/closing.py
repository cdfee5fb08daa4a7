"""What the caller handed over in `closing(...)`: closed once the stages of a run have ended.

Its `close()` is the caller's code, may write a last block and may block, so a worker calls it, and the run
waits: what a last flush could not write is the run's failure. Once the run is cancelled, or was when the
closing began, the wait has an end, as for a function: then the closing is left to the worker, and the run
ends without.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from penstock.runtime.guarded_call import GuardedCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime.reactor import Reactor

__all__ = ["ClosingTask"]


class ClosingTask(GuardedCall):
    """The things that a run closes. `objects` may grow until `close` is called.

    The outcome is what a `close()` raised, or the reason for which it was not waited for.
    """

    def __init__(self, reactor: Reactor, things: list[Any]) -> None:
        super().__init__()
        self.objects = things
        self._reactor = reactor

    @property
    def finished(self) -> bool:
        """Whether there is nothing to wait for."""
        return self.done or not self.objects

    def close(self, reason: BaseException | None, deadline: float, on_end: Callable[[], None]) -> None:
        """Begin, where it has not begun; given a `reason`, wait until `deadline` (`time.monotonic()`) only.

        `on_end()` follows the end of the closing, in whatever thread that happens.
        """
        self.on_done(on_end)
        if reason is not None:
            self.abandon_at(deadline, reason, self._reactor)
        self.start(inline=True)

    def run(self) -> BaseException | None:
        """Close all of them."""
        failed: BaseException | None = None
        for thing in self.objects:
            try:
                if isinstance(thing, int):
                    os.close(thing)
                else:
                    thing.close()
            except BaseException as error:  # noqa: BLE001 - what a last flush could not write is the run's failure
                failed = error
        return failed

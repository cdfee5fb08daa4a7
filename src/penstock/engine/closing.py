"""What the caller handed over in `closing(...)`: closed once the stages of a run have ended.

Its `close()` is the caller's code, may write a last block and may block, so a worker calls it, and the run
waits: what a last flush could not write is the run's failure. Once the run is cancelled, or was when the
closing began, the wait has an end, as for a function: then the closing is left to the worker, and the run
ends without. `_lock` guards who ends it, the worker or the reactor's timer, and is never held while anything
is called.
"""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from penstock.runtime import thread_pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime.reactor import Reactor, Timer

__all__ = ["ClosingTask"]


class ClosingTask:
    """The things that a run closes. `objects` may grow until `close` is called."""

    def __init__(self, reactor: Reactor, things: list[Any]) -> None:
        self.objects = things
        self.error: BaseException | None = None
        """What a `close()` raised, or the reason for which it was not waited for."""
        self.abandoned = False
        self._reactor = reactor
        self._lock = threading.Lock()
        self._begun = False
        self._ended = False
        self._timer: Timer | None = None

    @property
    def finished(self) -> bool:
        """Whether there is nothing to wait for."""
        return self._ended or not self.objects

    def close(self, reason: BaseException | None, late: float, on_end: Callable[[], None]) -> None:
        """Begin, where it has not begun; given a `reason`, wait until `late` (`time.monotonic()`) only.

        `on_end()` follows the end of the closing, in whatever thread that happens.
        """
        with self._lock:
            first, self._begun = not self._begun, True
            limit = reason is not None and self._timer is None
            if limit:
                self._timer = self._reactor.call_at(late, partial(self._end, reason, on_end, abandoned=True))
        if first:
            try:
                thread_pool.submit(partial(self._work, on_end))
            except RuntimeError:  # no thread to be had
                self._work(on_end)

    def _work(self, on_end: Callable[[], None]) -> None:
        failed: BaseException | None = None
        for thing in self.objects:
            try:
                if isinstance(thing, int):
                    os.close(thing)
                else:
                    thing.close()
            except BaseException as error:  # noqa: BLE001 - what a last flush could not write is the run's failure
                failed = error
        self._end(failed, on_end)

    def _end(
        self, error: BaseException | None, on_end: Callable[[], None], *, abandoned: bool = False
    ) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self.error = error
            self.abandoned = abandoned
            timer = self._timer
        if timer is not None:
            timer.cancel()
        on_end()

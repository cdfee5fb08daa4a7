"""The timer by which the reactor passes on what a stream has held back (`streams.joining`)."""

from __future__ import annotations

import time

from penstock.runtime import thread_pool
from penstock.streams.joining import HOLD_S, LateCalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime.reactor import Reactor

__all__ = ["ReactorCalls"]


class ReactorCalls(LateCalls):
    """Late calls that the reactor of one run makes."""

    __slots__ = ("_reactor",)

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor

    def later(self, call: Callable[[], None], delay: float = HOLD_S) -> None:
        """Have the reactor make the call after `delay` seconds."""
        self._reactor.call_at(time.monotonic() + delay, call)

    def soon(self, call: Callable[[], None]) -> None:
        """Have the reactor make the call now."""
        self._reactor.post(call)

    def in_worker(self, call: Callable[[], None]) -> None:
        """Have a worker make the call."""
        thread_pool.submit(call)

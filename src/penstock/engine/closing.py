"""Close the objects that the user wrapped in `closing(...)`, once the stages of a run have ended.

`close()` is user code: it may write a last block, and it may block. So a worker calls it and the run waits,
and an error of that last flush is the run's failure. If the run is cancelled, before the closing or during
it, the wait has a deadline, as for a function. At the deadline the run ends, and the worker stays in
`close()`. For an object of an event loop, `close()` is that of `aio.thread_calls.LoopCloser`.
"""

from __future__ import annotations

import os

from penstock.runtime.guarded_call import GuardedCall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from penstock.runtime.reactor import Reactor

__all__ = ["ClosingTask"]


class ClosingTask(GuardedCall):
    """The objects that a run closes. `objects` may grow until `close` is called.

    `error` is the exception that a `close()` raised, or the reason of the cancellation if that was abandoned.
    """

    def __init__(self, reactor: Reactor, objects: list[Any]) -> None:
        super().__init__()
        self.objects = objects
        self._reactor = reactor

    @property
    def finished(self) -> bool:
        """Whether there is nothing to wait for."""
        return self.done or not self.objects

    def close(self, reason: BaseException | None, deadline: float, on_end: Callable[[], None]) -> None:
        """Begin unless it has begun; if there is a `reason`, wait until `deadline` (`time.monotonic()`) only.

        `on_end()` is called after the end of the closing, in the thread that ends it.
        """
        self.on_done(on_end)
        if reason is not None:
            self.abandon_at(deadline, reason, self._reactor)
        self.start(inline=True)

    def run(self) -> BaseException | None:
        """Close all of them."""
        failed: BaseException | None = None
        for each in self.objects:
            try:
                if isinstance(each, int):
                    os.close(each)
                else:
                    each.close()
            except BaseException as error:  # noqa: BLE001 - a failed last flush is the run's failure
                failed = error
        return failed

"""An asyncio event loop in a thread: the conformance suite runs async stages on it.

It lives as long as one suite. Out of scope: anything that a run needs. An async run belongs to the event loop
of its caller.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from penstock.system.event_loops import current_loop

if TYPE_CHECKING:
    from penstock.api.pipeline import Pipeline
    from penstock.core.options import Options
    from penstock.core.result import Result
    from penstock.system.event_loops import Loop

__all__ = ["LoopThread"]


class LoopThread:
    """An asyncio event loop in a thread, for an async stage."""

    def __init__(self) -> None:
        async def current() -> Loop:
            return current_loop()

        self._native = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._native.run_forever, name="check-stage-loop", daemon=True)
        self._thread.start()
        self.loop: Loop = asyncio.run_coroutine_threadsafe(current(), self._native).result()

    def run(self, pipeline: Pipeline, options: Options, timeout: float) -> Result | None:
        """Return the result of a run, or cancel it after `timeout` seconds and return None."""
        over = threading.Event()

        async def work() -> Result:
            try:
                return await pipeline.arun(check=False, **options)
            finally:
                over.set()

        future = asyncio.run_coroutine_threadsafe(work(), self._native)
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
            over.wait(timeout)
            return None

    def close(self) -> None:
        """Stop the loop, and cancel the tasks that a broken stage has left there."""
        self._native.call_soon_threadsafe(self._native.stop)
        self._thread.join()
        for task in asyncio.all_tasks(self._native):
            task.cancel()
        self._native.run_until_complete(asyncio.sleep(0))
        self._native.close()

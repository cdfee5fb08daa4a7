"""An event loop for whoever has none: the conformance suite's, for stages that are served by one.

It is asyncio's, in a thread of its own, and lives as long as one suite does. What may not live here: anything
that a run needs. A run of an event loop's belongs to the loop that its caller is in.
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
    """An asyncio event loop in a thread, for a stage that is served by one."""

    def __init__(self) -> None:
        async def current() -> Loop:
            return current_loop()

        self._native = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._native.run_forever, name="check-stage-loop", daemon=True)
        self._thread.start()
        self.loop: Loop = asyncio.run_coroutine_threadsafe(current(), self._native).result()

    def run(self, pipeline: Pipeline, options: Options, timeout: float) -> Result | None:
        """The result of a run; None where it takes longer than `timeout` seconds, and is cancelled for it."""
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
        """End it, and what of a broken stage still goes on there."""
        self._native.call_soon_threadsafe(self._native.stop)
        self._thread.join()
        for task in asyncio.all_tasks(self._native):
            task.cancel()
        self._native.run_until_complete(asyncio.sleep(0))
        self._native.close()

"""A run of a pipeline that only an event loop can run, because a stage of it is an async function.

The loop has a thread of its own, so that the main thread serves the signals, as for any other run. The caller
may `cancel` the run from any thread and must `wait` for it, which ends the loop.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock import AsyncRun, Pipeline, Result

__all__ = ["LoopRun"]


class LoopRun:
    """A run in an event loop, with the methods of `penstock.Run` that the command line uses."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Start it. Raises what `astart` raises, ImportError among it if anyio is not installed."""
        self._pipeline = pipeline
        self._run: AsyncRun | None = None
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._drive, name="penstock-loop")
        self._thread.start()
        self._started.wait()
        if self._run is None:
            self._thread.join()
            assert self._error is not None
            raise self._error

    def cancel(self) -> None:
        """End the run. From any thread; idempotent."""
        if self._run is not None:
            self._run.cancel()

    def wait(self) -> Result:
        """Wait for the end; raise PipelineError if it failed."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def _drive(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - the thread that waits raises it
            self._error = error
        finally:
            self._started.set()

    async def _main(self) -> None:
        async with self._pipeline.astart() as run:
            self._run = run
            self._started.set()
            self._result = await run.wait()

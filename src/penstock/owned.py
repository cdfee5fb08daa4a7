"""A run that a task of an event loop owns: started by a worker, waited for, and ended with its owner.

A start cannot be called off: a spawn that is under way makes a child. So a cancellation that comes meanwhile
waits for the start, at most a moment, and ends what it made. Where the worker sits in an `open` that does not
return, it does so itself once it gets that far.

Waiting for what must not be left behind is `_surely`. A shield of anyio's keeps cancel scopes off, but
asyncio's own `Task.cancel` goes through; it is then waited again, and the task, which is being cancelled
already, says so afterwards. asyncio counts the calls, so its own timeouts know what was theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from penstock import report  # noqa: F401 - now, rather than on the loop's thread when the first run ends
from penstock.control import starter
from penstock.run import MARGIN, Run
from penstock.system.loops import current_loop, threads_context

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from penstock.core.result import Result
    from penstock.system.loops import Loop
    from penstock.tree import Composite

__all__ = ["OwnedRun", "begin"]


class OwnedRun:
    """A run, and the event loop that it was started in."""

    def __init__(self, run: Run, loop: Loop) -> None:
        self.run = run
        self.loop = loop
        self.ended = anyio.Event()
        run.on_end(self._tell)

    async def finish(self, *, check: bool) -> Result:
        """Wait for the end; where the task is cancelled, end the run, and wait until nothing is left."""
        try:
            await self.ended.wait()
        except BaseException:
            self.run.cancel("the task that owned the run was cancelled")
            await self.gone()
            raise
        return self.run.outcome(check=check)

    async def gone(self) -> None:
        """Wait for the end, whatever is cancelled meanwhile."""
        await _surely(self.ended)

    async def leave(self) -> None:
        """Nobody reads its output any more: end what is left, which is no failure, and wait."""
        if not self.run.leave():
            return
        patience = self.run.patience
        try:
            with anyio.move_on_after(patience):
                await self.ended.wait()
        except BaseException:
            await _surely(self.ended, patience)
            raise

    def _tell(self) -> None:
        self.loop.call(self.ended.set)


class _Start:
    """A run that is being started by a worker."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.over = anyio.Event()
        self.run: Run | None = None
        self.error: BaseException | None = None
        self._unwanted = False

    def attempt(self, pipeline: Composite, options: Mapping[str, Any], *, iterate: bool) -> None:
        """In the worker."""
        try:
            self.run = Run(pipeline, options, iterate=iterate, loop=self._loop)
        except BaseException as error:  # noqa: BLE001 - it is raised where the start was asked for
            self.error = error
        if not self._loop.call(self.over.set) or self._unwanted:
            self.discard()

    def discard(self) -> None:
        """Nobody will have the run: end it, now or when it is made. From any thread."""
        self._unwanted = True
        if self.run is not None:
            self.run.cancel("the task that started the run was cancelled")
            self.run.close_streams()


async def begin(pipeline: Composite, options: Mapping[str, Any], *, iterate: bool = False) -> OwnedRun:
    """Start a run; one that could not be started has ended. A cancellation ends what was started."""
    loop = current_loop()
    start = _Start(loop)
    context = threads_context()
    starter.submit(lambda: context.run(start.attempt, pipeline, options, iterate=iterate))
    try:
        await start.over.wait()
    except BaseException:
        await _surely(start.over, MARGIN)
        start.discard()
        if start.run is not None:
            await OwnedRun(start.run, loop).gone()
        raise
    if start.run is None:
        assert start.error is not None
        raise start.error
    return OwnedRun(start.run, loop)


async def _surely(event: anyio.Event, patience: float | None = None) -> None:
    """Wait for `event`, at most `patience` seconds. A cancellation meanwhile is left to the caller, which is
    being cancelled already.
    """
    with anyio.move_on_after(patience, shield=True) as scope:
        while not event.is_set():
            try:
                await event.wait()
            except anyio.get_cancelled_exc_class():
                if scope.cancel_called:
                    raise

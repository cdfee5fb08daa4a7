"""A stage of this process that one call in a thread carries out: in a worker, or in the caller's own."""

from __future__ import annotations

import threading
from contextvars import copy_context

from penstock.core.errors import FinishEarly
from penstock.runtime.stage_scheduler import run_stages
from penstock.stages.running import ThreadedStage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.stages.context import StageContext
    from penstock.stages.running import Stoppable

__all__ = ["RunningFunction"]


class RunningFunction(ThreadedStage):
    """A stage while it runs: a call in a thread, in a copy of the starter's contextvars context.

    `streams` are those that the call may be blocked in, and that are closed when it ends. The lock `_gate`
    guards `_work_started` and `_dropped`: either the thread starts, or a kill comes first.
    """

    def __init__(self, ctx: StageContext, body: Callable[[], None], *streams: Stoppable) -> None:
        super().__init__(ctx, *streams)
        self._body = body
        self._context = copy_context()
        self._gate = threading.Lock()
        self._work_started = False
        self._dropped = False
        ctx.barrier.add_stage(self, run_stages)

    def interrupt(self, reason: BaseException) -> None:
        """Wake the function from a read or write; if it has not started, it never will."""
        super().interrupt(reason)
        self.fail(reason)

    def fail(self, error: BaseException) -> None:
        """End with `error`, unless the function has started."""
        with self._gate:
            self._dropped = not self._work_started
        if self._dropped:
            self.release()
            self.complete(error)

    def work(self) -> None:
        """Make the call, and report how it ended."""
        with self._gate:
            if self._dropped:
                return
            self.worker = threading.get_ident()
            self._work_started = True
        error: BaseException | None = None
        try:
            self._context.run(self._body)
        except FinishEarly as early:
            error = early
        except BaseException as raised:  # noqa: BLE001 - whatever the function raises is the stage's outcome
            # Drop this frame from the traceback: it would keep everything alive that the run holds.
            error = self.apply_on_exception(
                raised.with_traceback(raised.__traceback__ and raised.__traceback__.tb_next)
            )
        self.release()
        self.complete(self.outcome(error))

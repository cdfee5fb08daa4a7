"""A command that waits for the files that it reads (`reading(via="file")`), before its process is started.

It takes the place of the running command until then. All of it happens in the reactor's thread: the files are
complete when the stages that write them have ended, and then the outcome of their sources must be known. A
run that is cancelled meanwhile, or whose source has failed, starts no process.
"""

from __future__ import annotations

import time
from functools import partial

from penstock.core.errors import Cancelled
from penstock.stages.running import Running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.stages.branch import StagePorts
    from penstock.stages.context import StageContext

__all__ = ["Postponed"]

_INTERVAL_S = 0.002
"""Seconds between two looks for the outcome of a source whose bytes are all there."""


class Postponed(Running):
    """Not a process yet; `hand_over` gets the running command when there is one."""

    takes_signals = True

    def __init__(
        self,
        ctx: StageContext,
        ports: StagePorts,
        start: Callable[[], Running],
        close: Callable[[], None],
    ) -> None:
        super().__init__(ctx)
        self.hand_over = _forget
        self._ports = ports
        self._start = start
        self._close = close
        self._attempted = False
        self._begun: Running | None = None
        self._feeds = ports.file_feeds()
        for feed in self._feeds:
            feed.on_done(partial(ctx.reactor.post, self._look))

    def _look(self) -> None:
        """Start the process if all files are complete, or end if one never will be."""
        if self.done or self._attempted or not all(feed.done for feed in self._feeds):
            return
        known, error = self._ports.outcome_of_files()
        if not known:
            self.ctx.reactor.call_at(time.monotonic() + _INTERVAL_S, self._look)
        elif error is not None:
            self._end(Cancelled("what it reads was never complete"))
        else:
            self._begin()

    def _begin(self) -> None:
        self._attempted = True  # first: an interrupt may come as soon as there is a child
        try:
            self._begun = self._start()
        except Exception as error:  # noqa: BLE001 - as at any start, that is the outcome of the stage
            self._end(error)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._begun is not None and self.hand_over is not None:
            self.hand_over(self._begun)

    def check_exit(self) -> None:
        """Hand over a process whose start was interrupted."""
        if self._attempted and not self.done:
            if self._begun is None:
                self._begun = self.ctx.recover_child()
            self._hand_over()

    def _end(self, error: BaseException) -> None:
        self._close()
        self.complete(self._reason or error)

    def prepare_cancel(self, reason: BaseException) -> None:
        """Note the reason."""
        if self._reason is None:
            self._reason = reason

    def kill(self, reason: BaseException) -> None:
        """Start no process any more; end the one that there is. From any thread."""
        self.prepare_cancel(reason)
        self.ctx.reactor.post(partial(self._kill, reason))

    def _kill(self, reason: BaseException) -> None:
        self.check_exit()
        if self._begun is not None:
            self._begun.kill(reason)
        elif not self.done:
            self._end(reason)

    def stop(self, grace: float) -> None:
        """Start no process any more, which is not a failure."""
        if self._begun is not None:
            self._begun.stop(grace)
        elif self._mark_stopped():
            assert self.stopped is not None
            self._end(self.stopped)

    def send_signal(self, signum: int) -> None:
        """Send a signal to the process, if there is one."""
        if self._begun is not None:
            self._begun.send_signal(signum)


def _forget(_running: Running) -> None:
    """Do nothing, until the run says what to do."""

"""Has the progress of one run shown: from its start, at the intervals of the view, to its end.

The reactor of the run keeps the time. The last snapshot, with `done`, comes when the stages and endpoints
have ended, and before the run counts as ended. A run that could not be started shows nothing.

Out of scope: how a snapshot is taken and shown. In the reactor's thread, or in the one that starts the run.
"""

from __future__ import annotations

import time
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.core.snapshot import Snapshot
    from penstock.progress.views import View
    from penstock.runtime.reactor import Reactor, Timer
    from penstock.runtime.tee import StderrRelay

__all__ = ["Progress"]


class Progress:
    """The progress of one run."""

    def __init__(
        self,
        take: Callable[[], Snapshot],
        make_view: Callable[[Callable[[], StderrRelay]], View],
        reactor: Reactor,
        *,
        is_starting: Callable[[], bool],
        failed_to_start: Callable[[], bool],
    ) -> None:
        """`take()` takes a snapshot; `make_view(open_relay)` makes the view, and may raise OSError."""
        self._is_starting = is_starting
        self._failed_to_start = failed_to_start
        self._take: Callable[[], Snapshot] | None = take
        self._make_view: Callable[[Callable[[], StderrRelay]], View] | None = make_view
        self._reactor = reactor
        self._view: View | None = None
        self._timer: Timer | None = None
        self._finished = False
        self.shows_stderr = False
        """Whether commands that inherit our stderr are to be shown above a live view."""

    def begin(self, open_relay: Callable[[], StderrRelay]) -> None:
        """Make the view, before the first stage is started. Raises OSError if no descriptor is left."""
        assert self._make_view is not None
        self._view = view = self._make_view(open_relay)
        self.shows_stderr = view.is_live
        self._schedule(view)

    def finish(self) -> None:
        """Show the last snapshot, unless the start has failed. Idempotent."""
        view, take = self._view, self._take
        if self._finished or view is None or take is None:
            return
        if not self._failed_to_start():
            view.show(partial(_last, take))
        self._finished = True

    def close(self) -> None:
        """Show nothing more, and forget the run. Idempotent."""
        self._finished = True
        self._take = self._make_view = None
        self._is_starting = self._failed_to_start = bool
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        view, self._view = self._view, None
        if view is not None:
            view.close()

    # A timer refers to nothing else than this object, because one may be set in the moment of `close`.

    def _schedule(self, view: View) -> None:
        """Set the timer for the next snapshot, or for a look before that."""
        call = self._look_ahead if view.ahead_s else self._tick
        self._timer = self._reactor.call_at(time.monotonic() + view.interval_s - view.ahead_s, call)

    def _look_ahead(self) -> None:
        view, take = self._view, self._take
        if self._finished or view is None or take is None:
            return
        if not (view.busy or self._is_starting()):
            view.look_ahead(take)
        self._timer = self._reactor.call_at(time.monotonic() + view.ahead_s, self._tick)

    def _tick(self) -> None:
        view, take = self._view, self._take
        if self._finished or view is None or take is None:
            return
        view.note_time()
        if not (view.busy or self._is_starting()):
            view.show(take)
        self._schedule(view)


def _last(take: Callable[[], Snapshot]) -> Snapshot:
    """Take a snapshot of a run that has nothing left to do but to be judged."""
    snapshot: Snapshot = take()
    ended = dict.fromkeys(("eta", "bottleneck", "bottleneck_index", "bottleneck_end"))
    return snapshot.__replace__(**ended, done=True)  # type: ignore[attr-defined,no-any-return] # of a record

"""Commands that something has stopped: the terminal (SIGTTIN, SIGTTOU, Ctrl-Z), or a SIGSTOP from elsewhere.

A stopped command neither ends nor fails, so a run that waits for it says so: in its repr and in the message
of a timeout, which look when they are made, and by an event, if somebody listens. At a terminal the log
listens, if the program has configured logging. Nobody announces a stop, because SIGCHLD is the host's. So one
timer for all commands of a run looks, more rarely as time goes by.

A stop is reported if two looks in a row have seen it. Ctrl-Z stops this process too, and its commands a
moment earlier or later, and `fg` continues all of them; neither is worth an event. A look that comes late,
because this process was stopped itself, is therefore taken for the first one. The stops of a cancellation do
not count.

Out of scope: the reading of the state (`system.process`).
"""

from __future__ import annotations

import signal
import time

from penstock.core.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from penstock.engine.tree import StageRun
    from penstock.runtime.reactor import Reactor, Timer
    from penstock.stages.running import Running

__all__ = ["StopWatch", "describe_stops"]

_MIN_INTERVAL_S = 0.1
_MAX_INTERVAL_S = 2.0
"""Seconds between two looks: doubled each time within these bounds."""
_LATE_S = 0.05
"""Seconds by which a look may come late."""


def describe_stops(leaves: Iterable[StageRun]) -> str:
    """Return a text about those stages that are stopped now: "" if none is, else it begins with "; "."""
    texts = []
    for leaf in leaves:
        running = leaf.running
        signum = None if running is None or leaf.end is not None else running.stop_signal()
        if running is not None and signum is not None:
            texts.append(f'; "{printable(leaf.stage.name)}" is {_describe(running, signum)}')
    return "".join(texts)


def _describe(running: Running, signum: int) -> str:
    """Return what has stopped a process, and what to do."""
    try:
        name = signal.Signals(signum).name
    except ValueError:  # a debugger's
        name = f"signal {signum}"
    if signum not in (signal.SIGTTIN, signal.SIGTTOU):
        advice = f"`kill -CONT {running.pid}` continues it"
    elif running.leads_group:
        advice = "it uses the terminal from the background; with process_group=None it would not"
    else:
        advice = "it uses the terminal, but this program is in the background; `fg` continues it"
    return f"stopped by {name} ({advice})"


class StopWatch:
    """Looks for stopped commands of a run, and emits the events. In the reactor's thread."""

    def __init__(self, reactor: Reactor, leaves: Sequence[StageRun]) -> None:
        self._reactor = reactor
        self._leaves = leaves
        self._timer: Timer | None = None
        self._interval = _MIN_INTERVAL_S
        self._seen: dict[int, int] = {}
        """The signals that have stopped stages, by the index of the stage, as of the last look."""
        self._reported: set[int] = set()
        self._closed = False

    def begin(self) -> None:
        """Begin to look, if that has not begun. In whatever thread starts the stages."""
        if self._timer is None:
            self._schedule()

    def close(self) -> None:
        """Look no more. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        self._timer = self._reactor.call_at(time.monotonic() + self._interval, self._look)

    def _look(self) -> None:
        if self._closed or self._timer is None:
            return
        if time.monotonic() > self._timer.when + _LATE_S:
            self._seen.clear()
        before = dict(self._seen)
        for leaf in self._leaves:
            running = leaf.running
            if leaf.end is None and running is not None:
                self._look_at(leaf.index, running)
        self._interval = min(self._interval * 2, _MAX_INTERVAL_S)
        if self._seen != before:
            self._interval = _MIN_INTERVAL_S
        self._schedule()

    def _look_at(self, index: int, running: Running) -> None:
        signum = running.stop_signal()
        if signum is None:
            self._seen.pop(index, None)
            if index in self._reported:
                self._reported.discard(index)
                running.ctx.emit_event("continued", "goes on", None, {"pid": running.pid})
        elif self._seen.get(index) != signum:
            self._seen[index] = signum
        elif index not in self._reported:
            self._reported.add(index)
            facts = {"pid": running.pid, "signal": signum}
            running.ctx.emit_event("stopped", _describe(running, signum), None, facts)

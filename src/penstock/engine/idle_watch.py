"""End a run of which no byte of output has come for too long.

Time counts while somebody waits for bytes of the last stage: a tap, a copy, the caller's iterator, or the
stage's own next write. It does not count while whoever takes them is slow (`StdoutPort.waiting_since`), or
while bytes lie in the caller's pipe (`has_unread`). Nothing is done for a byte but a note of the time. One
timer looks at that note, and is set again for the earliest moment at which the time may be over. The caller
does not say when bytes were taken out of a pipe, so while some lie there, it looks ten times as often.

In the reactor's thread, except for `end_output`.
"""

from __future__ import annotations

import time

from penstock.core.noop import noop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.engine.ports import StdoutPort
    from penstock.runtime.reactor import Reactor, Timer

__all__ = ["IdleWatch"]

_LATE_S = 0.05
"""Seconds by which a look may come late.

If it comes later, the process was held up, perhaps by Ctrl-Z, and bytes may be there that no thread has read
yet. Then there is another look so many seconds later.
"""
_LOOKS = 10
"""Looks within the time, while the caller has bytes to read."""


class IdleWatch:
    """The idle timeout of one run, in seconds."""

    def __init__(
        self, timeout: float, reactor: Reactor, port: StdoutPort, expire: Callable[[], None]
    ) -> None:
        """`expire()` is called, in the reactor's thread, when the time is over."""
        self._timeout = timeout
        self._reactor = reactor
        self._port: StdoutPort | None = port
        self._expire = expire
        self._ended_at: float | None = None
        self._counts_from = time.monotonic()
        """No time before this counts."""
        self._due = 0.0
        """When the next look is to be, by `time.monotonic()`."""
        self._timer: Timer | None = None
        self._look_at(self._counts_from + timeout)

    def end_output(self) -> None:
        """Note that the output has ended: no byte comes any more, whatever the stages still do."""
        if self._ended_at is None:
            self._ended_at = time.monotonic()

    def close(self) -> None:
        """Look no more, and forget the run. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._port, self._expire = None, noop

    def _look(self) -> None:
        port, now = self._port, time.monotonic()
        if port is None:
            return
        since = port.waiting_since if self._ended_at is None else self._ended_at
        when = now + self._timeout  # somebody is slow, and can begin to wait from now on
        if port.has_unread:
            self._counts_from = now
            when = now + self._timeout / _LOOKS
        elif since is not None:
            when = max(since, self._counts_from) + self._timeout
            if when <= now <= self._due + _LATE_S:
                self._expire()
                return
            if when <= now:
                when = now + _LATE_S
        self._look_at(when)

    def _look_at(self, when: float) -> None:
        self._due = when  # first: the timer may be over, and the reactor's thread look, before this returns
        self._timer = self._reactor.call_at(when, self._look)

"""The guard of a run whose commands are to end with the host, and the watch over the guardian itself.

The supervisor watches the guardian's socket, once for all runs. If the guardian dies while runs depend on it,
a worker starts another one, which takes over. If that fails, or if the last one died at once, the runs go on
unguarded, and an event of each says so. The next run that asks for a guard tries again, and fails if it must.

Out of scope: the guardian (`system.guardian`).
"""

from __future__ import annotations

import contextlib
import time
from _thread import RLock
from functools import partial

from penstock.runtime import thread_pool
from penstock.runtime.supervisor import supervisor
from penstock.system.fork_guard import reset_in_child
from penstock.system.guard_table import Guard
from penstock.system.guardian import ensure_guardian
from penstock.system.poller import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.runtime.events import EventEmitter
    from penstock.system.guardian import Guardian

__all__ = ["RunGuard"]

_SHORT_LIFE_S = 1.0
"""Seconds that a guardian lives at least, if another one is to replace it: something may kill each."""

_active: dict[RunGuard, EventEmitter] = {}
_watched: Guardian | None = None
"""The guardian that the supervisor watches."""
_lock = RLock()
"""Held while the supervisor begins to watch one. Re-entrant, for a signal handler that starts a run."""


class RunGuard(Guard):
    """The guard of one run."""

    __slots__ = ("_events",)

    def __init__(self, events: EventEmitter) -> None:
        super().__init__()
        self._events = events

    def start(self) -> None:
        """Guard the run. Raises OSError or RuntimeError if its commands would not be ended with the host."""
        table = _watched_guardian().table
        _active[self] = self._events
        self.begin(table)

    def close(self) -> None:
        """Let the processes of the run outlive the host from now on. Idempotent."""
        _active.pop(self, None)
        super().close()


def _watched_guardian() -> Guardian:
    """Return the guardian of this process, which the supervisor watches."""
    global _watched  # noqa: PLW0603 - one for the process is the point
    guardian, _ = ensure_guardian()
    if guardian is not _watched:
        with _lock:
            fd = guardian.fileno()
            if guardian is not _watched and fd is not None:
                check = partial(_check, guardian, fd, time.monotonic())
                with contextlib.suppress(FileExistsError):  # an interrupt came before it was noted
                    supervisor().watch(fd, READ, check)
                _watched = guardian
    return guardian


def _check(guardian: Guardian, fd: int, since: float, _events: int) -> None:
    """Replace the guardian if it has died. In the supervisor's thread."""
    global _watched  # noqa: PLW0603
    if guardian.alive():
        return
    supervisor().unwatch(fd)
    guardian.close()
    if guardian is not _watched:  # a start has replaced it
        return
    _watched = None
    if not _active:
        return
    if time.monotonic() - since < _SHORT_LIFE_S:
        _report(ChildProcessError("the process that was to do it was killed as soon as it was started"))
        return
    try:
        thread_pool.submit(_replace)
    except RuntimeError as error:  # there is no thread for it
        _report(error)


def _replace() -> None:
    try:
        _watched_guardian()
    except (OSError, RuntimeError) as error:
        _report(error)


def _report(error: Exception) -> None:
    for events in list(_active.values()):
        events.emit("unguarded", "orphans", "its commands no longer end with this program", error)


def _after_fork_in_child() -> None:
    global _watched, _lock  # noqa: PLW0603
    _watched = None
    _lock = RLock()
    _active.clear()


reset_in_child(_after_fork_in_child, "state")

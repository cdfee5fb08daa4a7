"""The one background thread of the process that steers all runs which nobody drives for themselves.

It starts with the first such run and stays, asleep in the kernel, until the process ends; it owns an epoll
and a waker descriptor. It never blocks elsewhere and never calls code of the user's. At interpreter exit all
runs that still go are ended with SIGKILL, and in a forked copy of the host the thread is simply absent: the
next run there starts its own.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING, Protocol

from penstock.control.reactor import Reactor
from penstock.system.poller import PollPoller, new_poller

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Steered", "live", "local_reactor", "supervisor"]


class Steered(Protocol):
    """A run, as far as the end of the process concerns it."""

    def end_with_process(self) -> None:
        """Kill every process of the run at once."""

    def forget_in_child(self) -> None:
        """Called in a forked copy: this run belongs to another process now."""


class _Supervisor(Reactor):
    def __init__(self) -> None:
        super().__init__(new_poller())
        self._thread = threading.Thread(target=self._loop, name="penstock-supervisor", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while True:
            try:
                self.turn()
            except Exception:  # noqa: BLE001 - a fault in one run's steering must not end all others'
                report("the supervisor met an error")


live: set[Steered] = set()
"""The runs that go on, so that exit and fork find them.

Adding and discarding are atomic under the interpreter's lock.
"""

_lock = threading.Lock()
_current: _Supervisor | None = None


def supervisor() -> Reactor:
    """The process's own reactor; its thread is started by the first call."""
    global _current  # noqa: PLW0603 - one a process is the point
    if _current is None:
        with _lock:
            if _current is None:
                _current = _Supervisor()
    return _current


def local_reactor() -> Reactor:
    """A reactor that the calling thread is going to drive, for one run."""
    return Reactor(PollPoller())


def report(message: str) -> None:
    """Log the exception at hand, in an except block."""
    import logging  # noqa: PLC0415 - for the day something goes wrong

    logging.getLogger("penstock").exception(message)  # noqa: LOG004 - called where there is one


def _at_exit() -> None:
    for run in list(live):
        run.end_with_process()


def _after_fork_in_child() -> None:
    global _current, _lock  # noqa: PLW0603
    # The descriptors are closed by system.fds, which knows them all. The epoll's own is closed by the
    # poller's registry there.
    _lock = threading.Lock()
    _current = None
    for run in list(live):
        run.forget_in_child()
    live.clear()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)


def register_fork_reset(reset: Callable[[], None]) -> None:
    """Have `reset` called in every forked copy of the host."""
    os.register_at_fork(after_in_child=reset)

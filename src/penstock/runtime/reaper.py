"""Reap children that outlive their run.

They stay with the supervisor: everything here happens in its thread, and nothing blocks.
"""

from __future__ import annotations

import contextlib
import time

from penstock.runtime.supervisor import supervisor
from penstock.system.poller import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.system.process import Process
    from penstock.system.process_tree import ProcessTree

__all__ = ["OrphanReaper"]

_POLL_INTERVAL_S = 0.02
"""Seconds between two polls of a process without a pidfd."""


class OrphanReaper:
    """Waits for a child that its run has left behind, and reaps it."""

    def __init__(self, process: Process, tree: ProcessTree | None = None) -> None:
        """The handles of `tree` are closed at the end."""
        self._process = process
        self._tree = tree
        self._reactor = supervisor()

    def watch(self) -> None:
        """Begin to wait for its end."""
        fd = self._process.fileno()
        if fd is None:
            self._reactor.post(self._look_again)
        else:
            self._reactor.watch(fd, READ, self._on_exit)

    def _look_again(self) -> None:
        if self._process.exited():
            self._reap()
        else:
            self._reactor.call_at(time.monotonic() + _POLL_INTERVAL_S, self._look_again)

    def _on_exit(self, _events: int) -> None:
        if self._process.exited():
            fd = self._process.fileno()
            if fd is not None:
                self._reactor.unwatch(fd)
            self._reap()

    def _reap(self) -> None:
        if self._tree is not None:
            self._tree.close()
        with contextlib.suppress(ChildProcessError):
            self._process.reap()

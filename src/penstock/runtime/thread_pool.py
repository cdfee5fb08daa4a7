"""Threads for code that may block: function stages, copies through the caller's objects, callbacks.

A worker that has nothing to do waits a while for the next task, so that a service which starts pipelines all
the time does not start threads all the time. Any number may be busy at once, for stages of one pipeline wait
for each other. They are daemon threads: one that sits in the caller's own code must not keep the interpreter
from ending.

`_lock` guards the stack of idle workers and is never held while anything runs. A task is handed to a worker
before that is taken off the stack, for an interrupt may come between the two, and must lose neither. So a
worker takes itself off too, and passes on what else it was given meanwhile: no task waits for another's end.
And one whose patience is over takes itself off, and then looks whether it was handed a task in that moment.
"""

from __future__ import annotations

import itertools
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from penstock.core.timing import timing
from penstock.runtime.log import report
from penstock.system.fork_guard import reset_in_child

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["submit"]


_lock = threading.RLock()
_idle: list[_Worker] = []
_serial = itertools.count(1)


class _Worker(threading.Thread):
    def __init__(self, task: Callable[[], None]) -> None:
        super().__init__(name=f"penstock-worker-{next(_serial)}", daemon=True)
        self.inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.inbox.put(task)

    def run(self) -> None:
        task: Callable[[], None] | None = self.inbox.get()
        while task is not None:
            self._pass_on()
            try:
                task()
            except BaseException:  # noqa: BLE001 - tasks handle their own errors; what gets here is a fault of ours
                report("unexpected error in a worker thread")
            task = None  # an idle worker holds on to nothing
            with _lock:
                _idle.append(self)
            try:
                task = self.inbox.get(timeout=timing.thread_idle_s)
            except Empty:
                self._leave_stack()
                if not self.inbox.empty():
                    task = self.inbox.get()

    def _leave_stack(self) -> None:
        with _lock:
            if self in _idle:
                _idle.remove(self)

    def _pass_on(self) -> None:
        """Hand on what it was given beside its task, if an interrupt has kept it on the stack."""
        if self in _idle:
            self._leave_stack()
        while not self.inbox.empty():
            task = self.inbox.get()
            try:
                submit(task)
            except RuntimeError:  # no thread to be had: it has to wait
                self.inbox.put(task)
                return


def submit(task: Callable[[], None]) -> None:
    """Run `task()` in a worker thread, at once. RuntimeError where the system allows no further thread."""
    with _lock:
        if _idle:
            worker = _idle[-1]
            worker.inbox.put(task)
            worker._leave_stack()  # noqa: SLF001 - of its own kind
            return
    _Worker(task).start()


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - it may have been held at the fork by a thread that is not here
    _lock = threading.RLock()
    _idle.clear()


reset_in_child(_after_fork_in_child, "state")

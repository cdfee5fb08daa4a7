"""Threads for code that may block: function stages, copies through user objects, handlers.

An idle worker waits a while for the next task, so that a service which starts pipelines all the time does not
start threads all the time. Any number may be busy at once, because the stages of one pipeline wait for each
other. They are daemon threads: a worker that is stuck in user code must not keep the interpreter from ending.

`_lock` guards the stack of idle workers and is never held while a task runs. A task is queued before its
worker is taken off the stack, so that an interrupt between the two steps loses neither. So a worker takes
itself off the stack too, and passes on further tasks that it was given meanwhile: no task waits for the end
of another. A worker whose idle time is over takes itself off, and then checks whether it was given a task in
that moment.

A task handles its own errors. One that raises all the same has an owner that is told, by `on_fault`, because
somebody may wait for the end of the task.
"""

from __future__ import annotations

import _queue
import itertools
import sys
import threading
from functools import partial

from penstock.core.timing import timing
from penstock.runtime.faults import call_again
from penstock.runtime.log import report
from penstock.system.fork_guard import reset_in_child
from penstock.system.interpreters import allow_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from queue import Empty, SimpleQueue
else:
    # `queue` adds nothing that we use, so it is not imported. But a program that replaces threads replaces
    # that one's class alone (gevent). A wait in the other one would stop all of its threads.
    SimpleQueue = getattr(sys.modules.get("queue"), "SimpleQueue", _queue.SimpleQueue)
    Empty = _queue.Empty

__all__ = ["SimpleQueue", "has_busy_workers", "submit"]


_lock = threading.RLock()
_idle: list[_Worker] = []
_serial = itertools.count(1)


class _Task:
    """A call, and who is told what it raises."""

    __slots__ = ("call", "on_fault")

    def __init__(self, call: Callable[[], None], on_fault: Callable[[BaseException], object] | None) -> None:
        self.call = call
        self.on_fault = on_fault

    def fail(self, error: BaseException) -> None:
        """Tell the owner; without one this is reported."""
        if self.on_fault is None:
            report("unexpected error in a worker thread", error)
        else:
            call_again(partial(self.on_fault, error))


class _Worker(threading.Thread):
    def __init__(self, task: _Task) -> None:
        super().__init__(name=f"penstock-worker-{next(_serial)}", daemon=True)
        self.inbox: SimpleQueue[_Task] = SimpleQueue()
        self.inbox.put(task)

    def run(self) -> None:
        task: _Task | None = self.inbox.get()
        while task is not None:
            try:
                self._pass_on()
            except Exception as error:  # noqa: BLE001 - its own task comes first
                report("unexpected error in a worker thread", error)
            try:
                task.call()
            except BaseException as error:  # noqa: BLE001 - whatever it is, somebody may wait for its end
                task.fail(error)
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
        """Pass on further tasks that it was given because an interrupt has kept it on the stack."""
        if self in _idle:
            self._leave_stack()
        while not self.inbox.empty():
            task = self.inbox.get()
            try:
                _submit(task)
            except RuntimeError:  # no thread available: the task has to wait
                self.inbox.put(task)
                return


def submit(task: Callable[[], None], on_fault: Callable[[BaseException], object] | None = None) -> None:
    """Run `task()` in a worker thread, at once. RuntimeError if the system allows no further thread.

    If the task raises, `on_fault(error)` is called in that thread; without it, the error is reported.
    """
    _submit(_Task(task, on_fault))


def _submit(task: _Task) -> None:
    with _lock:
        if _idle:
            worker = _idle[-1]
            worker.inbox.put(task)
            worker._leave_stack()  # noqa: SLF001 - of its own kind
            return
    allow_thread()
    _Worker(task).start()


def has_busy_workers() -> bool:
    """Return whether a worker is at work, or left in user code."""
    return any(isinstance(thread, _Worker) and thread not in _idle for thread in threading.enumerate())


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - it may have been held at the fork by a thread that is not here
    _lock = threading.RLock()
    _idle.clear()


reset_in_child(_after_fork_in_child, "state")

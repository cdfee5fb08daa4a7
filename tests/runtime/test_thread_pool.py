"""Worker threads are handed tasks by threads that may be interrupted at any moment: nothing is lost by it."""

from __future__ import annotations

import io
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE

from penstock import CAPTURE, command
from penstock.runtime import copy_tasks, thread_pool

if TYPE_CHECKING:
    from collections.abc import Callable


class Interrupted:
    """The inbox of a worker, with an interrupt right after something was put into it."""

    def __init__(self, inbox: Any) -> None:
        self._inbox = inbox

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inbox, name)

    def put(self, task: Callable[[], None]) -> None:
        """Hand over, and be interrupted."""
        self._inbox.put(task)
        raise KeyboardInterrupt


def _idle_worker() -> Any:
    """See that there is one; it is the next to be given a task."""
    done = threading.Event()
    thread_pool.submit(done.set)
    assert done.wait(DEADLINE)
    deadline = time.monotonic() + 30
    while not thread_pool._idle:  # it is about to be: nobody tells when
        assert time.monotonic() < deadline
    return thread_pool._idle[-1]


def test_an_interrupted_submit_does_not_block_the_next_task() -> None:
    """The next one runs while the first still does, and the worker is used again."""
    worker = _idle_worker()
    first, second, go = threading.Event(), threading.Event(), threading.Event()

    def blocks() -> None:
        first.set()
        go.wait(DEADLINE)

    inbox = worker.inbox
    worker.inbox = Interrupted(inbox)
    with pytest.raises(KeyboardInterrupt):
        thread_pool.submit(blocks)
    worker.inbox = inbox
    thread_pool.submit(second.set)
    assert second.wait(DEADLINE)
    assert first.wait(DEADLINE)
    go.set()


@pytest.mark.parametrize("handed_over", [False, True])
def test_an_interrupt_before_a_worker_copies_the_input_ends_the_run(
    handed_over: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether a worker has got the copy or not."""
    submit = thread_pool.submit

    def interrupted(task: Any, on_fault: Any = None) -> None:
        if handed_over or not isinstance(getattr(task, "__self__", None), copy_tasks.Feeder):
            submit(task, on_fault)
        if isinstance(getattr(task, "__self__", None), copy_tasks.Feeder):
            raise KeyboardInterrupt

    monkeypatch.setattr(thread_pool, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        (command("cat") | command("cat")).run(stdin=io.BytesIO(b"x" * 1_000_000), stdout=CAPTURE)

"""All events of a run are delivered before its methods return, unless a handler is slow."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest
from tests.support.waiting import DEADLINE, until

from penstock import (
    DEVNULL,
    Pipeline,
    PipelineError,
    PipelineTimeout,
    command,
    filter_error,
    memory_observer,
)
from penstock.runtime import dispatcher, thread_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock import Event

FAILS = command("sh", "-c", "sleep 0.03; exit 3")
TIMES = 10


def observed(stage: Pipeline, events: list[Event]) -> Pipeline:
    """Watch the memory of a stage, often enough that it is seen."""
    return memory_observer(stage, on_event=events.append, interval=0.01)


def one_input() -> Iterator[bytes]:
    """Feed from a worker thread, which may be the one that concludes the run."""
    yield b"x"


def run(pipeline: Pipeline) -> None:
    """Run, with an input from a worker."""
    pipeline.run(stdin=one_input())


def iterate(pipeline: Pipeline) -> None:
    """Iterate to the end."""
    list(pipeline.iter_lines())


def start(pipeline: Pipeline) -> None:
    """Start, and wait."""
    pipeline.start().wait()


def arun(pipeline: Pipeline) -> None:
    """Run in an event loop."""
    asyncio.run(pipeline.arun())


@pytest.mark.parametrize("door", [Pipeline.run, run, iterate, start, arun])
def test_the_peak_of_a_failing_command_is_told_before_its_error_is_raised(
    door: Callable[[Pipeline], object],
) -> None:
    """It is the last event of the watch, and made when the command has ended."""
    for _ in range(TIMES):
        events: list[Event] = []
        with pytest.raises(PipelineError) as caught:
            door(observed(FAILS, events))
        assert caught.value.result is not None
        seen = caught.value.result.stages[0].peak_memory is not None
        assert ("memory-peak" in [event.kind for event in events]) == seen


def test_an_iterator_that_is_closed_early_has_told_everything() -> None:
    """When `close()` returns."""
    for _ in range(TIMES):
        events: list[Event] = []
        lines = observed(command("yes"), events).iter_lines()
        enough = time.monotonic() + 0.5  # the memory is sampled every 0.01 s
        while time.monotonic() < enough:
            next(lines)
        lines.close()
        # `close()` waits for the handlers, but not for longer than 0.2 s, which a busy machine may need.
        until(lambda events=events: events)  # type: ignore[misc] # bound now
        assert [event.kind for event in events] == ["memory-peak"]


def test_a_handler_that_waits_for_its_own_events_does_not_wait() -> None:
    """As one that closes an iterator over the run would: it would wait for itself."""
    queue, seen = dispatcher.Dispatcher(), list[int]()

    def call() -> None:
        queue.flush()
        seen.append(1)

    queue.submit(call)
    queue.flush()
    assert seen == [1]


def test_an_abandoned_filter_is_told_before_the_run_returns() -> None:
    """Its event came after the end of the run."""
    going = threading.Event()

    def stubborn(_error: BaseException | None) -> None:
        going.wait(DEADLINE)

    try:
        for _ in range(3):
            events: list[Event] = []
            with pytest.raises(PipelineTimeout):
                filter_error(command("true"), stubborn).run(
                    timeout=0.1, grace=0.05, on_event=events.append, stdout=DEVNULL
                )
            assert "abandoned" in [event.kind for event in events]
    finally:
        going.set()


def test_a_worker_that_begins_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is slow then, and not the handler."""
    go = threading.Event()
    submit = thread_pool.submit

    def late(task: Callable[[], None], _on_fault: object) -> None:
        def wait_first() -> None:
            go.wait(DEADLINE)
            task()

        submit(wait_first)

    monkeypatch.setattr(thread_pool, "submit", late)
    queue, seen = dispatcher.Dispatcher(), list[int]()
    queue.submit(lambda: seen.append(1))
    timer = threading.Timer(0.4, go.set)
    timer.start()
    queue.flush()
    assert seen == [1]
    timer.join()


def test_events_for_which_there_was_no_thread_are_delivered_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By then there may be one."""
    queue, seen = dispatcher.Dispatcher(), list[int]()

    def refuse(_task: object, _on_fault: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(thread_pool, "submit", refuse)
        queue.submit(lambda: seen.append(1))
        queue.flush()
    assert queue.busy
    queue.flush()
    until(lambda: not queue.busy)
    assert seen == [1]

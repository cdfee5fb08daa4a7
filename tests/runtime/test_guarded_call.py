"""A guarded call ends once: by itself, by being left, or at its deadline."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.interrupts import Interruption

from penstock.core.errors import Cancelled
from penstock.runtime import thread_pool
from penstock.runtime.guarded_call import GuardedCall
from penstock.runtime.reactor import Reactor
from penstock.system.poller import PollPoller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE = 20.0
WITHIN = "runtime/guarded_call.py"


class Streams(GuardedCall):
    """A call with something to release; says in which order it was done."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(function)
        self.steps: list[str] = []

    def release_streams(self) -> None:
        self.steps.append("released after the end" if self.done else "released")


class Blocked:
    """User code that returns when it is told to."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        self.returned = threading.Event()

    def __call__(self) -> str:
        self.entered.set()
        assert self.go.wait(DEADLINE)
        self.returned.set()
        return "late"


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    code = Blocked()
    yield code
    code.go.set()


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    """A reactor that this thread drives."""
    reactor = Reactor(PollPoller(), threading.get_ident())
    yield reactor
    reactor.close()


@pytest.fixture
def no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(_task: object, _on_fault: object = None) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(thread_pool, "submit", submit)


def wait_for(call: GuardedCall) -> None:
    ended = threading.Event()
    call.on_done(ended.set)
    assert ended.wait(DEADLINE)


def drive(reactor: Reactor, call: GuardedCall) -> None:
    end = time.monotonic() + DEADLINE
    while not call.done:
        assert time.monotonic() < end
        reactor.run_once()


# How it ends.


def test_the_value_is_the_outcome() -> None:
    call = GuardedCall(lambda: 42)
    assert not call.done
    call.start()
    wait_for(call)
    assert (call.outcome, call.error, call.abandoned) == (42, None, False)


def test_the_exception_is_the_outcome() -> None:
    error = KeyError("x")

    def fail() -> None:
        raise error

    call = GuardedCall(fail)
    call.start()
    wait_for(call)
    assert call.outcome is error
    assert call.error is error


def test_the_streams_are_released_before_the_end_is_announced() -> None:
    call = Streams(lambda: None)
    call.on_done(lambda: call.steps.append("done"))
    call.start()
    wait_for(call)
    assert call.steps in (["released", "done"], ["released"])  # `wait_for` may have replaced the callback


def test_a_second_start_makes_no_second_call() -> None:
    calls: list[int] = []
    call = GuardedCall(lambda: calls.append(1))
    call.start()
    call.start()
    wait_for(call)
    call.start()
    assert calls == [1]


def test_a_call_that_is_queued_twice_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    queue: list[Callable[[], None]] = []
    monkeypatch.setattr(thread_pool, "submit", lambda task, _on_fault: queue.append(task))
    calls: list[int] = []
    call = GuardedCall(lambda: calls.append(1))
    call.start()
    call._queued = False  # as if an interrupt had come before it was noted
    call.start()
    assert len(queue) == 2
    for task in queue:
        task()
    assert calls == [1]
    assert call.done


def test_the_last_callback_is_called_once() -> None:
    said: list[str] = []
    call = GuardedCall(lambda: None)
    call.on_done(lambda: said.append("first"))
    call.on_done(lambda: said.append("second"))
    call._work()
    call.end(None)
    assert said == ["second"]


def test_a_callback_that_comes_too_late_is_called_at_once() -> None:
    call = GuardedCall(lambda: None)
    call._work()
    said: list[str] = []
    call.on_done(lambda: said.append("now"))
    assert said == ["now"]


def test_nothing_of_an_ended_call_is_left_to_the_garbage_collector(reactor: Reactor) -> None:
    call = GuardedCall(lambda: None)
    call.abandon_at(time.monotonic() + 1000, None, reactor)
    call.on_done(lambda: None)
    call._work()
    gone = weakref.ref(call)
    gc.disable()
    try:
        del call
        assert gone() is None
    finally:
        gc.enable()


# Deadlines.


def test_it_is_abandoned_at_the_deadline_and_the_late_end_is_ignored(
    reactor: Reactor, blocked: Blocked
) -> None:
    call, ends = Streams(blocked), []
    call.on_done(lambda: ends.append(call.outcome))
    call.start()
    assert blocked.entered.wait(DEADLINE)
    reason = TimeoutError()
    call.abandon_at(time.monotonic() + 0.02, reason, reactor)
    drive(reactor, call)
    assert (call.outcome, call.abandoned) == (reason, True)
    blocked.go.set()
    assert blocked.returned.wait(DEADLINE)
    call._lock.acquire()  # the worker's own end has either come or is about to
    call._lock.release()
    assert (call.outcome, ends, call.steps) == (reason, [reason], ["released"])


@pytest.mark.parametrize("before", [True, False])
def test_a_deadline_may_be_set_before_the_start_or_after_it(
    before: bool,  # noqa: FBT001
    reactor: Reactor,
    blocked: Blocked,
) -> None:
    call = GuardedCall(blocked)
    deadline = time.monotonic() + 0.02
    if before:
        call.abandon_at(deadline, "out of time", reactor)
    call.start()
    if not before:
        call.abandon_at(deadline, "out of time", reactor)
    drive(reactor, call)
    assert time.monotonic() >= deadline
    assert (call.outcome, call.abandoned) == ("out of time", True)


def test_a_call_that_was_abandoned_before_it_began_is_never_made(reactor: Reactor) -> None:
    calls: list[int] = []
    call = GuardedCall(lambda: calls.append(1))
    call.abandon_at(time.monotonic(), "too late", reactor)
    drive(reactor, call)
    call.start()
    call._work()
    assert not calls
    assert call.outcome == "too late"


def test_an_end_before_the_deadline_stands(reactor: Reactor) -> None:
    call = GuardedCall(lambda: "in time")
    call.abandon_at(time.monotonic() + 0.02, "late", reactor)
    call._work()
    time.sleep(0.03)
    reactor.post(lambda: None)
    reactor.run_once()
    assert (call.outcome, call.abandoned) == ("in time", False)


def test_the_earliest_deadline_stands(reactor: Reactor, blocked: Blocked) -> None:
    call = GuardedCall(blocked)
    call.start()
    now = time.monotonic()
    for seconds in (500.0, 0.02, 1000.0):
        call.abandon_at(now + seconds, seconds, reactor)
    drive(reactor, call)
    assert call.outcome == 0.02


# No thread to be had.


@pytest.mark.usefixtures("no_thread")
def test_without_a_thread_the_start_fails() -> None:
    call = GuardedCall(lambda: None)
    with pytest.raises(RuntimeError, match="thread"):
        call.start()
    assert not call.done


@pytest.mark.usefixtures("no_thread")
def test_without_a_thread_the_call_is_made_inline_if_somebody_waits_for_it() -> None:
    threads: list[int] = []
    call = GuardedCall(lambda: threads.append(threading.get_ident()))
    call.start(inline=True)
    assert threads == [threading.get_ident()]
    assert call.done


@pytest.mark.usefixtures("no_thread")
def test_an_error_of_an_inline_call_does_not_blame_the_missing_thread() -> None:
    def fail() -> None:
        raise ValueError

    call = GuardedCall(fail)
    call.start(inline=True)
    assert call.error is not None
    assert call.error.__context__ is None


# Being left.


def test_a_call_that_is_left_before_it_began_ends_at_once() -> None:
    calls: list[int] = []
    call = Streams(lambda: calls.append(1))
    assert call.leave("left")
    call._work()
    assert (call.outcome, calls, call.steps) == ("left", [], ["released"])


def test_a_call_that_is_left_in_user_code_ends_at_once(blocked: Blocked) -> None:
    call: GuardedCall = Streams(lambda: call.call_user_code(blocked))
    call.start()
    assert blocked.entered.wait(DEADLINE)
    assert call.leave("left")
    assert call.outcome == "left"


def test_a_call_that_is_left_outside_of_user_code_is_waited_for(blocked: Blocked) -> None:
    call = Streams(blocked)
    call.start()
    assert blocked.entered.wait(DEADLINE)
    assert not call.leave("left")
    blocked.go.set()
    wait_for(call)
    assert call.outcome == "late"


def test_a_worker_that_was_left_makes_no_further_call_of_user_code() -> None:
    call = GuardedCall()
    call.leave()
    with pytest.raises(Cancelled):
        call.call_user_code(lambda: None)


def test_a_call_that_is_abandoned_instead_of_started_releases_its_streams() -> None:
    call = Streams(lambda: None)
    call.abandon()
    assert (call.done, call.outcome, call.steps) == (True, None, ["released"])


# Interrupts: whatever step they fall on, doing it again does what is missing.


def interrupted_everywhere(step: Callable[[Any], object], prepare: Callable[[], Any]) -> Iterator[Any]:
    """Prepare, take the step with an interrupt at its n-th moment, for each n, and take it again."""
    for turn in range(1, 1000):
        subject = prepare()
        interruption = Interruption(turn, WITHIN)
        try:
            with interruption:
                step(subject)
        except KeyboardInterrupt:
            step(subject)
        yield subject
        if interruption.left > 0:
            assert turn > 1, "there was no moment at which to interrupt it"
            return


def test_an_interrupted_start_that_is_repeated_makes_the_call_once() -> None:
    def prepare() -> tuple[GuardedCall, list[int]]:
        calls: list[int] = []
        return GuardedCall(lambda: calls.append(1)), calls

    for call, calls in interrupted_everywhere(lambda subject: subject[0].start(), prepare):
        wait_for(call)
        assert calls == [1]


def test_an_interrupted_deadline_that_is_repeated_is_kept(reactor: Reactor) -> None:
    def abandon(call: GuardedCall) -> None:
        call.abandon_at(time.monotonic() + 0.001, "out of time", reactor)

    for call in interrupted_everywhere(abandon, GuardedCall):
        drive(reactor, call)
        assert (call.outcome, call.abandoned) == ("out of time", True)


def test_an_interrupted_end_that_is_repeated_releases_the_streams_and_is_announced() -> None:
    def end(call: Streams) -> None:
        call.end("over")
        call.on_done(lambda: call.steps.append("called back"))

    for call in interrupted_everywhere(end, lambda: Streams(lambda: None)):
        assert call.done
        assert call.outcome == "over"
        assert call.steps[0] == "released"
        assert call.steps[-1] == "called back"


def test_an_interrupted_leave_that_is_repeated_ends_the_call() -> None:
    for call in interrupted_everywhere(lambda call: call.leave("left"), lambda: Streams(lambda: None)):
        assert (call.done, call.outcome) == (True, "left")
        call._work()
        assert call.outcome == "left"


@pytest.mark.slow
def test_an_interrupted_abandonment_is_made_up_for_by_the_next_deadline(reactor: Reactor) -> None:
    """The timer is gone by then; whoever cancels again sets another."""

    def run_out(call: GuardedCall) -> None:
        call.abandon_at(time.monotonic(), "out of time", reactor)
        reactor.run_once()

    for call in interrupted_everywhere(run_out, GuardedCall):
        drive(reactor, call)
        assert call.outcome == "out of time"

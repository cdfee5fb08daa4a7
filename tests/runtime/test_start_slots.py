"""Threads that start runs at the same time take turns; nobody is kept out, whatever a turn is spent on."""

from __future__ import annotations

import signal
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE

from penstock import DEVNULL, Pipeline, command, function
from penstock.runtime import start_slots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.fixtures import SetTiming

TRUE = command("true")


class Slow:
    """A stage whose start is the caller's own code, as that of each custom stage is."""

    def __init__(self, start: Callable[[], object]) -> None:
        self._start = start
        self._pass = function(lambda _ctx, stdin, stdout: [stdout.write(chunk) for chunk in stdin.chunks()])
        self.name = "slow"
        self.requirements = self._pass.requirements

    def start(self, ctx: Any, stdin: Any, stdout: Any) -> Any:
        """Do that first."""
        self._start()
        return self._pass.start(ctx, stdin, stdout)


@pytest.fixture
def in_threads() -> Iterator[Callable[..., list[threading.Thread]]]:
    """Call functions in threads of their own, and see that all of them end and none fails."""
    threads: list[threading.Thread] = []
    errors: deque[BaseException] = deque()

    def in_threads(*functions: Callable[[], object]) -> list[threading.Thread]:
        def guarded(function: Callable[[], object]) -> None:
            try:
                function()
            except BaseException as error:  # noqa: BLE001 - told in the test's own thread
                errors.append(error)

        mine = [threading.Thread(target=guarded, args=(function,)) for function in functions]
        threads.extend(mine)
        for thread in mine:
            thread.start()
        return mine

    yield in_threads
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert not errors


def _run(start: Callable[[], object]) -> Callable[[], object]:
    return lambda: Pipeline(Slow(start)).run(input=b"x", stdout=DEVNULL)


def test_starts_that_wait_for_starts_that_wait_their_turn(in_threads: Callable[..., Any]) -> None:
    """More of them than there are turns, and each goes on only when all of them have begun."""
    everybody = threading.Barrier(start_slots.MAX_CONCURRENT_STARTS * 3)
    in_threads(*[_run(lambda: everybody.wait(DEADLINE))] * everybody.parties)


def test_a_start_within_a_start_needs_no_second_turn(in_threads: Callable[..., Any]) -> None:
    """Also where all the turns are taken by starts that do the same."""
    inside = threading.Barrier(start_slots.MAX_CONCURRENT_STARTS)

    def start() -> None:
        inside.wait(DEADLINE)
        assert TRUE.run().ok

    in_threads(*[_run(start)] * start_slots.MAX_CONCURRENT_STARTS)


@pytest.fixture
def patient(set_timing: SetTiming) -> None:
    """However busy the machine is, who has a turn is waited for."""
    set_timing(start_stall_s=60.0)


@pytest.mark.usefixtures("patient")
def test_the_thread_that_came_first_starts_first() -> None:
    """One after the other where a single turn is free."""
    over = threading.Event()
    came: list[int] = []

    def hold() -> None:
        turn = start_slots.StartSlot()
        turn.acquire()
        over.wait(DEADLINE)
        turn.release()

    def come(number: int) -> None:
        turn = start_slots.StartSlot()
        turn.acquire()
        came.append(number)
        turn.release()

    mine = start_slots.StartSlot()
    mine.acquire()
    holding = [threading.Thread(target=hold) for _ in range(start_slots.MAX_CONCURRENT_STARTS - 1)]
    coming = [threading.Thread(target=come, args=(number,)) for number in range(10)]
    for count, thread in enumerate([*holding, *coming], start=2):
        thread.start()
        while len(start_slots._holders) + len(start_slots._waiting) < count:
            assert thread.is_alive()
    mine.release()
    for thread in coming:
        thread.join(DEADLINE)
    over.set()
    for thread in holding:
        thread.join(DEADLINE)
    assert came == list(range(10))


@pytest.mark.usefixtures("patient")
def test_an_interrupt_while_waiting_leaves_the_line(in_threads: Callable[..., Any]) -> None:
    """KeyboardInterrupt comes out, nothing was started, and who comes later gets a turn."""
    over, inside = threading.Event(), threading.Barrier(start_slots.MAX_CONCURRENT_STARTS + 1)
    in_threads(
        *[_run(lambda: (inside.wait(DEADLINE), over.wait(DEADLINE)))] * start_slots.MAX_CONCURRENT_STARTS
    )
    inside.wait(DEADLINE)
    ours = threading.get_ident()

    def interrupt() -> None:
        while ours not in start_slots._waiting:
            assert not over.is_set()
        signal.pthread_kill(ours, signal.SIGINT)

    started: list[None] = []
    try:
        in_threads(interrupt)
        with pytest.raises(KeyboardInterrupt):
            _run(lambda: started.append(None))()
    finally:
        over.set()
    assert not started
    assert ours not in start_slots._waiting
    assert ours not in start_slots._holders
    assert TRUE.run().ok


def test_turns_that_are_never_ended_hold_nobody_up_for_long(in_threads: Callable[..., Any]) -> None:
    """As where an interrupt fell between a turn and what ends it."""
    over, taken = threading.Event(), threading.Barrier(start_slots.MAX_CONCURRENT_STARTS + 1)

    def hold() -> None:
        start_slots.StartSlot().acquire()
        taken.wait(DEADLINE)
        over.wait(DEADLINE)

    in_threads(*[hold] * start_slots.MAX_CONCURRENT_STARTS)
    try:
        taken.wait(DEADLINE)
        for thread in in_threads(*[TRUE.run] * (start_slots.MAX_CONCURRENT_STARTS * 2)):
            thread.join(DEADLINE)
    finally:
        over.set()
    assert not start_slots._holders


@pytest.mark.usefixtures("patient")
def test_a_thread_that_is_exempt_needs_no_turn() -> None:
    """As the workers that start runs for event loops: their queue limits how many start at once."""
    slots = [start_slots.StartSlot() for _ in range(start_slots.MAX_CONCURRENT_STARTS)]
    holding = [threading.Thread(target=slot.acquire) for slot in slots]
    for thread in holding:
        thread.start()
    for thread in holding:
        thread.join(30)
    try:
        with start_slots.exempt():
            assert TRUE.run().ok
        assert threading.get_ident() not in start_slots._exempt
    finally:
        for slot in slots:
            slot.release()

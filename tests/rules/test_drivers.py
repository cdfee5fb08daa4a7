# ruff: noqa: D103 - the tests' names are their sentences
"""Who waits for a run steers it; until then, and after that, the supervisor does."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from penstock import (
    CAPTURE,
    DEVNULL,
    PIPE,
    PipelineCancelled,
    PipelineTimeout,
    command,
    function,
)
from penstock.control.supervisor import supervisor
from penstock.system import features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import ThreadPoolExecutor

PATIENCE = 20.0
CATS = command("cat") | command("cat")
TOLD = command("sh", "-c", "echo told >&2; cat")


@pytest.fixture
def busy() -> Iterator[None]:
    """Keep the supervisor from doing anything."""
    begun, leave = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        leave.wait(PATIENCE)

    supervisor().post(wait)
    assert begun.wait(PATIENCE)
    yield
    leave.set()


@pytest.mark.usefixtures("busy")
def test_who_waits_needs_nobody_else() -> None:
    with (TOLD | command("cat")).start(stdin=PIPE, stdout=CAPTURE) as run:
        assert run.stdin is not None
        run.stdin.write(b"a")
    result = run.wait()
    assert (result.stdout, result.stages[0].stderr) == (b"a", b"told\n")
    assert list(command("seq", "3").iter_lines()) == [b"1", b"2", b"3"]


@pytest.mark.usefixtures("busy")
def test_a_cancellation_reaches_whoever_waits(threads: ThreadPoolExecutor) -> None:
    run = command("sleep", "1000").start(stdout=DEVNULL)
    waiting = threads.submit(run.wait, check=False)
    run.cancel("on purpose")
    assert isinstance(waiting.result(PATIENCE).error, PipelineCancelled)


def test_a_run_that_is_not_waited_for_ends_all_the_same(
    until: Callable[[Callable[[], object]], None],
) -> None:
    run = TOLD.start(stdout=DEVNULL)
    until(run.done)
    assert run.wait().stages[0].stderr == b"told\n"


def test_a_wait_that_is_over_gives_the_run_back(until: Callable[[Callable[[], object]], None]) -> None:
    run = CATS.start(stdin=PIPE, stdout=DEVNULL)
    for timeout in (0.0, 0.001, 0.002):
        with pytest.raises(TimeoutError):
            run.wait(timeout)
    assert run.stdin is not None
    run.stdin.close()
    until(run.done)
    assert run.wait().ok


def test_a_deadline_ends_a_run_that_is_waited_for_and_one_that_was(
    until: Callable[[Callable[[], object]], None],
) -> None:
    with pytest.raises(PipelineTimeout):
        command("sleep", "1000").start(stdout=DEVNULL, timeout=0.02).wait()
    run = command("sleep", "1000").start(stdout=DEVNULL, timeout=0.05)
    with pytest.raises(TimeoutError, match="within"):
        run.wait(0.001)
    until(run.done)
    assert isinstance(run.wait(check=False).error, PipelineTimeout)


def test_any_number_of_threads_may_wait_for_one_run(threads: ThreadPoolExecutor) -> None:
    run = CATS.start(stdin=PIPE, stdout=CAPTURE)
    going, over = threading.Barrier(9), threading.Event()

    def impatient() -> int:
        going.wait(PATIENCE)
        missed = 0
        while not over.is_set():
            try:
                run.wait(0.001)
            except TimeoutError:
                missed += 1
        return missed

    impatients = [threads.submit(impatient) for _ in range(5)]
    patients = [threads.submit(lambda: (going.wait(PATIENCE), run.wait())[1]) for _ in range(3)]
    going.wait(PATIENCE)
    assert run.stdin is not None
    for _ in range(200):
        run.stdin.write(b"a line\n")
    with run:
        pass
    results = [waiting.result(PATIENCE) for waiting in patients]
    over.set()
    assert all(result is results[0] for result in results)
    assert results[0].stdout == b"a line\n" * 200
    for waiting in impatients:
        waiting.result(PATIENCE)


def test_what_a_signal_handler_raises_leaves_the_run_going(
    until: Callable[[Callable[[], object]], None],
) -> None:
    """KeyboardInterrupt alone ends it."""

    def ring(*_: object) -> None:
        raise LookupError("it rings")

    def wait(delay: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, delay)
        run.wait()

    run = CATS.start(stdin=PIPE, stdout=DEVNULL)
    before = signal.signal(signal.SIGALRM, ring)
    try:
        for delay in range(1, 30):
            with pytest.raises(LookupError, match="it rings"):
                wait(delay / 1e4)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not run.done()
    assert run.stdin is not None
    run.stdin.close()
    until(run.done)
    assert run.wait().ok


def test_without_a_descriptor_to_be_woken_by_the_supervisor_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    run = CATS.start(stdin=PIPE, stdout=DEVNULL)

    def refuse() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("penstock.control.lent.Waker", refuse)
    assert run.stdin is not None
    run.stdin.close()
    assert run.wait(PATIENCE).ok


@pytest.mark.parametrize("watched", ["by pidfd", "by looking"])
def test_functions_and_commands_end_under_a_waiter(watched: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers tell of their ends while somebody comes to wait, or goes."""
    if watched == "by looking":
        monkeypatch.setattr(features, "PIDFD", False)

    def fn(_ctx: object, stdin: Any, stdout: Any) -> None:
        stdout.write(stdin.read())

    pipeline = function(fn) | command("cat") | function(fn)
    for _ in range(20):
        run = pipeline.start(input=b"a" * 200_000, stdout=CAPTURE)
        while not run.done():
            try:
                run.wait(0.0005)
            except TimeoutError:
                continue
        assert run.wait().stdout == b"a" * 200_000

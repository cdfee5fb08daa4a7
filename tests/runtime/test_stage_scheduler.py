"""Python stages share threads where they can, and each has one of its own as soon as it needs it."""

from __future__ import annotations

import threading
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE

from penstock import DEVNULL, PIPE, PipelineCancelled, PipelineError, command, function, source, transform
from penstock.runtime import thread_pool
from penstock.runtime.stall_watch import watch_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fixtures import SetTiming

    from penstock import Pipeline

MIB = b"x" * (1 << 20)


@pytest.fixture
def only_by_need(set_timing: SetTiming) -> None:
    """No stage is given a thread because time goes by."""
    set_timing(stage_stall_s=3600.0)


def _row(fn: Callable[..., Any], count: int) -> Pipeline:
    return reduce(or_, [function(fn) for _ in range(count)])


def _pass(_ctx: object, stdin: Any, stdout: Any) -> None:
    for chunk in stdin.chunks():
        stdout.write(chunk)


@pytest.mark.usefixtures("only_by_need")
def test_short_functions_are_run_by_one_thread_one_after_the_other() -> None:
    threads: list[threading.Thread] = []

    def fn(ctx: object, stdin: Any, stdout: Any) -> None:
        threads.append(threading.current_thread())
        _pass(ctx, stdin, stdout)

    assert _row(fn, 10).output(input=b"a") == b"a"
    assert threads == [threading.current_thread()] * 10
    threads.clear()
    assert _row(fn, 10).output(input=b"a", timeout=1000) == b"a"
    assert len(threads) == 10
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()


def test_all_stages_run_at_one_time_if_they_wait_for_each_other() -> None:
    meeting = threading.Barrier(12)

    def fn(ctx: object, stdin: Any, stdout: Any) -> None:
        meeting.wait(DEADLINE)
        _pass(ctx, stdin, stdout)

    assert _row(fn, 12).output(input=b"a") == b"a"


def test_a_stage_may_wait_for_a_later_one_in_a_started_run_too() -> None:
    begun = threading.Event()

    def first(_ctx: object, _stdin: Any, stdout: Any) -> None:
        assert begun.wait(DEADLINE)
        stdout.write(b"first")

    def second(_ctx: object, stdin: Any, stdout: Any) -> None:
        begun.set()
        stdout.write(stdin.read())

    pipeline = function(first) | transform(lambda chunks: chunks) | function(second)
    with pipeline.start(stdout=PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.read() == b"first"


@pytest.mark.usefixtures("only_by_need")
@pytest.mark.parametrize("between", [function(_pass), command("cat")], ids=["memory", "os-pipe"])
def test_a_full_pipe_has_its_reader_started(between: Pipeline) -> None:
    count = 0

    def taken(_ctx: object, stdin: Any, _stdout: Any) -> None:
        nonlocal count
        count = sum(map(len, stdin.chunks()))

    (source([MIB] * 12) | between | function(_pass) | function(taken)).run(stdout=DEVNULL)
    assert count == 12 << 20


@pytest.mark.usefixtures("only_by_need")
def test_a_stage_that_waits_for_input_holds_up_none_of_the_later_ones() -> None:
    with _row(_pass, 5).start(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        for line in (b"one\n", b"two\n"):
            run.stdin.write(line)
            assert run.stdout.readline() == line


@pytest.mark.usefixtures("only_by_need")
def test_a_cancelled_run_begins_none_of_the_stages_that_still_wait(stubborn: Any) -> None:
    begun = threading.Event()
    pipeline = function(stubborn) | function(lambda *_: begun.set(), name="later")
    run = pipeline.start(stdout=DEVNULL, grace=0.01)
    assert stubborn.begun.wait(DEADLINE)
    run.cancel("on purpose")
    result = run.wait(check=False)
    assert isinstance(result.error, PipelineCancelled)
    stubborn.release.set()
    assert all(ended.wait(DEADLINE) for ended in stubborn.left)
    assert not begun.is_set()


@pytest.mark.parametrize("timeout", [None, 1000], ids=["caller's thread", "workers"])
def test_stages_without_a_thread_fail_by_name(monkeypatch: pytest.MonkeyPatch, timeout: float | None) -> None:
    begun = threading.Event()

    def first(ctx: object, stdin: Any, stdout: Any) -> None:
        begun.set()
        _pass(ctx, stdin, stdout)

    def refuse(_task: object, _on_fault: object = None) -> None:
        raise RuntimeError("can't start new thread")

    def once(task: Callable[[], None], on_fault: Any = None) -> None:
        monkeypatch.setattr(thread_pool, "submit", refuse)
        submit(task, on_fault)

    submit = thread_pool.submit
    monkeypatch.setattr(thread_pool, "submit", refuse if timeout is None else once)
    pipeline = source([MIB] * 12) | function(first) | function(_pass, name="last")
    with pytest.raises(PipelineError, match="can't start new thread") as caught:
        pipeline.run(stdout=DEVNULL, timeout=timeout)
    result = caught.value.result
    assert result is not None
    assert [str(stage.error) for stage in result.stages[1:]] == ["can't start new thread"] * 2
    assert not begun.is_set()


def test_a_row_that_raises_keeps_the_watch_for_stalls_going() -> None:
    """Stages of other runs wait for their threads."""
    raised = threading.Event()

    class Row:
        def is_waiting(self) -> bool:
            return True

        def add_threads(self) -> None:
            raised.set()
            raise MemoryError

    def waits(_ctx: object, _stdin: Any, stdout: Any) -> None:
        assert begun.wait(DEADLINE)
        stdout.write(b"a")

    def begins(_ctx: object, stdin: Any, stdout: Any) -> None:
        begun.set()
        _pass(_ctx, stdin, stdout)

    watch_row(Row())
    assert raised.wait(DEADLINE)
    begun = threading.Event()
    assert (function(waits) | function(begins)).output() == b"a"

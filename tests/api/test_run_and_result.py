"""`Run`, the handle of a run that goes on, and `Result`, what it leaves."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.support.processes import reaped
from tests.support.waiting import DEADLINE, until

from penstock import (
    CAPTURE,
    DEVNULL,
    PIPE,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    Result,
    command,
    echo,
    function,
    map_lines,
)

CAT = command("cat")
SLEEP = command("sleep", "60")


# wait.


def test_wait_with_a_timeout_leaves_the_run_going() -> None:
    """TimeoutError, which is no PipelineTimeout; later it can be waited for again."""
    with CAT.start(stdin=PIPE, stdout=CAPTURE) as run:
        for timeout in (0, 0.01, -1):
            with pytest.raises(TimeoutError) as caught:
                run.wait(timeout)
            assert not isinstance(caught.value, PipelineError)
        assert not run.done()
        assert run.stdin is not None
        assert not run.stdin.closed
        run.stdin.write(b"x")
        run.stdin.close()
        assert run.wait(DEADLINE).stdout == b"x"
        assert run.done()


@pytest.mark.parametrize("timeout", [None, 60, 1e18, math.inf])
def test_a_timeout_may_be_arbitrarily_long(timeout: float | None) -> None:
    """No limit of some clock shows through."""
    assert command("true").start().wait(timeout).ok


@pytest.mark.parametrize("wrong", ["5", [], object(), math.nan])
def test_a_timeout_that_is_no_number_is_a_mistake(wrong: Any) -> None:
    """Whether or not the run has ended; it goes on."""
    with CAT.start(stdin=PIPE, stdout=DEVNULL) as run:
        with pytest.raises((TypeError, ValueError)):
            run.wait(wrong)
        assert not run.done()


def test_wait_can_be_called_again_and_gives_the_same() -> None:
    """The result, or the error."""
    run = echo("x").start(stdout=CAPTURE)
    assert run.wait() is run.wait()
    failed = command("false").start()
    errors = []
    for _ in range(3):
        with pytest.raises(PipelineError) as caught:
            failed.wait()
        errors.append(caught.value)
    assert errors[0] is errors[1] is errors[2]
    assert failed.wait(check=False).error is errors[0]


def test_many_threads_may_wait_and_all_are_told() -> None:
    """With a timeout or without."""
    with CAT.start(stdin=PIPE, stdout=CAPTURE) as run, ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(run.wait, timeout) for timeout in (None, None, 30, 30)]
        assert run.stdin is not None
        run.stdin.write(b"x")
        run.stdin.close()
        assert {id(future.result(DEADLINE)) for future in waiting} == {id(run.wait())}


def test_a_run_started_in_a_thread_that_ended_can_be_waited_for_elsewhere() -> None:
    """It belongs to no thread."""
    runs = []
    thread = threading.Thread(target=lambda: runs.append((CAT | CAT).start(input=b"x", stdout=CAPTURE)))
    thread.start()
    thread.join()
    assert runs[0].wait().stdout == b"x"


def test_done_and_pids_describe_the_run() -> None:
    """A pid for each command, in order; none for Python stages."""
    with (CAT | map_lines(bytes) | CAT).start(stdin=PIPE, stdout=DEVNULL) as run:
        assert not run.done()
        pids = run.pids
        assert len(pids) == 2
        assert not any(reaped(pid) for pid in pids)
        assert "going" in repr(run)
        assert "cat | bytes | cat" in repr(run)
    assert run.done()
    assert tuple(stage.pid for stage in run.wait().stages) == (pids[0], None, pids[1])
    assert all(reaped(pid) for pid in pids)
    assert "ended" in repr(run)
    assert function(lambda _c, _i, _o: None).start(stdout=DEVNULL).pids == ()


def test_a_run_has_files_only_where_pipe_was_asked_for() -> None:
    """None elsewhere."""
    run = command("true").start()
    assert (run.stdin, run.stdout) == (None, None)
    run.wait()


def test_done_becomes_true_without_anyone_waiting() -> None:
    """The supervisor sees the end."""
    reading, writing = os.pipe()
    with open(reading, "rb") as file:  # noqa: PTH123
        ended = threading.Event()

        def told(_event: object) -> None:
            ended.set()

        run = command("true").start(on_event=lambda event: told(event) if event.kind == "exit" else None)
        assert ended.wait(DEADLINE)
        until(run.done)
        os.close(writing)
        assert file.read() == b""
    assert run.wait().ok


# cancel.


@pytest.mark.parametrize("stage", [SLEEP, function(lambda _c, i, _o: i.read()), CAT | map_lines(bytes)])
def test_cancel_ends_the_run_with_the_reason(stage: Pipeline) -> None:
    """Idempotent; the first reason stands."""
    run = stage.start(stdin=PIPE, stdout=DEVNULL)
    reason = LookupError("no longer wanted")
    assert run.cancel(reason) is None  # type: ignore[func-returns-value]
    run.cancel()
    run.cancel(ValueError("too late"))
    with pytest.raises(PipelineCancelled) as caught:
        run.wait()
    assert caught.value.cause is reason
    run.cancel()
    assert run.wait(check=False).error is caught.value


def test_cancel_takes_a_text_or_nothing_for_a_reason() -> None:
    """And no other thing."""
    for given, text in ((None, "cancelled"), ("enough", "enough"), ("", "cancelled")):
        run = SLEEP.start()
        run.cancel(given)
        error = run.wait(check=False).error
        assert isinstance(error, PipelineCancelled)
        assert text in str(error.cause)
    run = SLEEP.start()
    for wrong in (5, ValueError, b"x"):
        with pytest.raises(TypeError, match="reason"):
            run.cancel(wrong)  # type: ignore[arg-type]
    assert not run.done()
    run.cancel()
    run.wait(check=False)


def test_cancel_after_the_end_changes_nothing() -> None:
    """A success stays one."""
    run = command("true").start()
    assert run.wait().ok
    run.cancel()
    assert run.wait().ok


# The context manager.


def test_leaving_the_block_closes_the_files_and_waits() -> None:
    """EOF ends the pipeline."""
    with CAT.start(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        run.stdin.write(b"ping\n")
        assert run.stdout.readline() == b"ping\n"
    assert run.done()
    assert run.stdin.closed
    assert run.stdout.closed
    assert run.wait().ok


def test_leaving_the_block_raises_the_failure_of_the_run() -> None:
    """As `wait` does."""
    with pytest.raises(PipelineError), command("false").start():
        pass


def test_leaving_the_block_by_an_exception_cancels_and_lets_it_out() -> None:
    """The failure of the run does not hide it."""
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught, SLEEP.start() as run:
        raise error
    assert caught.value is error
    assert run.done()
    result = run.wait(check=False)
    assert isinstance(result.error, PipelineCancelled)
    assert result.error.cause is error


def test_a_block_may_wait_itself() -> None:
    """Leaving it then does nothing more."""
    with echo("x").start(stdout=CAPTURE) as run:
        assert run.wait().stdout == b"x\n"
    assert run.wait().stdout == b"x\n"


def test_wait_closes_a_stdin_that_was_left_open_after_the_end() -> None:
    """Nothing is left of a run that was waited for."""
    run = command("true").start(stdin=PIPE)
    run.wait()
    assert run.stdin is not None
    assert run.stdin.closed


def test_writing_to_a_command_that_has_exited_is_a_broken_pipe() -> None:
    """And no error of the run."""
    with command("true").start(stdin=PIPE) as run:
        assert run.stdin is not None
        with pytest.raises(BrokenPipeError):
            run.stdin.write(b"x" * (4 << 20))
        run.stdin.close()
    assert run.wait().ok


def test_a_dialogue_over_two_pipes() -> None:
    """Through commands and Python stages."""
    with (map_lines(bytes.upper) | map_lines(bytes.strip)).start(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        for word in (b"one", b"two", b"three"):
            run.stdin.write(b" " + word + b"\n")
            assert run.stdout.readline() == word.upper() + b"\n"
        run.stdin.close()
        assert run.stdout.read() == b""


# Result.


def test_a_result_describes_each_leaf_stage() -> None:
    """Name, kind, pid, status, times and memory of a command; of a Python stage what there is."""
    result = (command("sh", "-c", "echo x; echo e >&2") | map_lines(bytes.upper, name="up") | CAT).run(
        stdout=CAPTURE
    )
    first, second, third = result.stages
    assert (first.name, first.kind, first.returncode, first.signal) == ("sh", "command", 0, None)
    assert (first.error, first.stderr) == (None, b"e\n")
    assert isinstance(first.pid, int)
    assert first.user_time is not None
    assert 0 <= first.user_time < 10
    assert first.system_time is not None
    assert 0 <= first.system_time < 10
    assert first.max_rss is not None
    assert 100_000 < first.max_rss < 1 << 30
    assert (second.name, second.kind) == ("up", "map-lines")
    assert (second.pid, second.returncode, second.signal, second.stderr) == (None, None, None, b"")
    assert (second.user_time, second.system_time, second.max_rss) == (None, None, None)
    assert third.stderr == b""
    for stage in result.stages:
        assert stage.elapsed is not None
        assert 0 <= stage.elapsed <= result.elapsed
    assert result.returncodes == (0, None, 0)
    assert (result.ok, result.error, result.stdout) == (True, None, b"X\n")


def test_edges_tell_what_carried_them_and_how_much_penstock_saw() -> None:
    """None where the kernel carried the bytes between two children."""
    result = (CAT | CAT | map_lines(bytes)).run(input=b"12345\n", stdout=CAPTURE)
    assert [(edge.source, edge.target) for edge in result.edges] == [
        ("stdin", "cat"),
        ("cat", "cat"),
        ("cat", "bytes"),
        ("bytes", "stdout"),
    ]
    assert [edge.bytes for edge in result.edges] == [6, None, 6, 6]


def test_no_bytes_are_0_bytes_where_penstock_saw_the_edge() -> None:
    """None says that it did not."""
    assert [edge.bytes for edge in CAT.run(input=b"", stdout=CAPTURE).edges] == [0, 0]
    assert [edge.bytes for edge in map_lines(bytes).run(input=b"", stdout=CAPTURE).edges] == [0, 0]
    assert [edge.bytes for edge in (CAT | map_lines(bytes)).run(stdin=[], stdout=CAPTURE).edges] == [0, 0, 0]


def test_stdout_is_kept_when_the_run_fails_or_times_out() -> None:
    """None only where it was not captured."""
    assert command("sh", "-c", "echo x; exit 1").run(check=False, stdout=CAPTURE).stdout == b"x\n"
    error: Any = None
    with pytest.raises(PipelineTimeout) as caught:
        command("sh", "-c", "echo x; exec sleep 60").output(timeout=0.3)
    error = caught.value
    assert error.result.stdout == b"x\n"
    assert command("/no/such").run(check=False, stdout=CAPTURE).stdout in (b"", None)
    assert echo("x").run(stdout=DEVNULL).stdout is None


def test_a_result_prints_well() -> None:
    """`str` is a small table, one line for each stage; `repr` is short."""
    result = (CAT | command("sh", "-c", "exit 3", name="three")).run(check=False, stdout=DEVNULL)
    head, header, *rows = str(result).splitlines()
    assert head.startswith("failed: three: exit status 3")
    assert header.split() == ["stage", "kind", "exit", "wall", "user", "system", "rss", "error"]
    assert [row.split()[:3] for row in rows] == [["cat", "command", "0"], ["three", "command", "3"]]
    assert rows[1].endswith("exit status 3")
    assert str(command("true").run()).startswith("ok (")
    assert repr(result).startswith("Result(")
    assert "cat | three" in repr(result)


def test_each_stage_has_one_line_in_the_table() -> None:
    """Line ends inside are none of the table's."""

    def fail(_ctx: object, _stdin: object, _stdout: object) -> None:
        raise ValueError("two\nlines")

    result = function(fail, name="a\nb").run(check=False, stdout=DEVNULL)
    last = str(result).splitlines()[-1]
    assert last.startswith("a b ")
    assert last.endswith("two lines")


def test_a_result_cannot_be_changed_and_can_be_pickled() -> None:
    """With its error, and the way back from there."""
    result = command("sh", "-c", "echo why >&2; exit 3").run(check=False)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.elapsed = 0  # type: ignore[misc]
    again = pickle.loads(pickle.dumps(result))
    assert isinstance(again, Result)
    assert str(again) == str(result)
    assert again.error is not None
    assert again.error.result is again
    assert again.stages[0].stderr == b"why\n"
    assert pickle.loads(pickle.dumps(command("true").run())).ok


def test_stderr_of_a_success_is_in_the_result_and_bounded() -> None:
    """The first and the last 32 KiB."""
    line = "echo line $i is fifty bytes long, which makes a lot of it"
    script = f"i=0; while [ $i -lt 3000 ]; do {line}; i=$((i+1)); done >&2"
    stderr = command("sh", "-c", script).run().stages[0].stderr
    assert stderr.startswith(b"line 0 is")
    assert b"line 2999 is" in stderr[-100:]
    assert b"omitted" in stderr
    assert len(stderr) < 66_000


def test_elapsed_is_the_time_from_start_to_end() -> None:
    """In seconds."""
    began = time.monotonic()
    result = command("sleep", "0.1").run()
    assert 0.1 <= result.elapsed <= time.monotonic() - began
    with contextlib.suppress(PipelineError):
        assert command("/no/such").run(check=False).elapsed >= 0

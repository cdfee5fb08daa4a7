"""Writes to `run.stdin`: each arrives without a flush, and many fast ones cost few system calls."""

from __future__ import annotations

import io
import os
import threading
from concurrent.futures import wait
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import write_calls
from tests.support.waiting import DEADLINE, until

from penstock import (
    CAPTURE,
    DEVNULL,
    PIPE,
    ExitError,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    command,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    from tests.support.hosts import Host

    from penstock import Run

MANY = 20_000
BURST = b"".join(b"%d\n" % number for number in range(1000))


def stdin_of(run: Run) -> io.BufferedWriter:
    """Return the pipe that was asked for."""
    assert run.stdin is not None
    return run.stdin


def stdout_of(run: Run) -> io.BufferedReader:
    """Return the pipe that was asked for."""
    assert run.stdout is not None
    return run.stdout


def write_lines(stream: io.BufferedWriter, data: bytes = BURST) -> None:
    """Write each line of `data` by itself, as fast as possible."""
    write = stream.write
    for line in data.splitlines(keepends=True):
        write(line)


def _holds(path: Path, wanted: bytes) -> bool:
    return path.read_bytes() == wanted


def test_every_request_of_a_dialogue_gets_its_answer_without_a_flush() -> None:
    with command("cat").start(stdin=PIPE, stdout=PIPE) as run:
        for number in range(2000):
            stdin_of(run).write(b"%d\n" % number)
            assert stdout_of(run).readline() == b"%d\n" % number


@pytest.mark.parametrize("read", ["readline", "next", "read1", "readinto", "raw", "os.read"])
def test_a_request_of_many_fast_writes_gets_its_answer_without_a_flush(read: str) -> None:
    with command("cat").start(stdin=PIPE, stdout=PIPE) as run:
        stdout = stdout_of(run)
        buffer = bytearray(500)
        raw: Any = stdout.raw
        ways: dict[str, Callable[[], bytes]] = {
            "readline": stdout.readline,
            "next": lambda: next(stdout),
            "read1": lambda: stdout.read1(500),
            "readinto": lambda: bytes(buffer[: stdout.readinto1(buffer)]),
            "raw": lambda: bytes(buffer[: raw.readinto(buffer) or 0]),
            "os.read": lambda: os.read(stdout.fileno(), 500),
        }
        for _ in range(20):
            write_lines(stdin_of(run))
            seen = b""
            while len(seen) < len(BURST):
                seen += ways[read]()
            assert seen == BURST


def test_fast_writes_arrive_if_nothing_is_written_or_read_any_more(tmp_path: Path) -> None:
    target = tmp_path / "seen"
    with command("cat").start(stdin=PIPE, stdout=target) as run:
        for wanted in (BURST, BURST * 2, BURST * 3):
            write_lines(stdin_of(run))
            until(partial(_holds, target, wanted))


def test_fast_writes_share_system_calls() -> None:
    with command("cat").start(stdin=PIPE, stdout=DEVNULL) as run:
        before = write_calls()
        for _ in range(MANY):
            stdin_of(run).write(b"0123456789\n")
        calls = write_calls() - before
    assert calls < MANY / 4


def test_writes_between_reads_keep_their_own_system_calls() -> None:
    with command("cat").start(stdin=PIPE, stdout=PIPE) as run:
        before = write_calls()
        for _ in range(100):
            stdin_of(run).write(b"question\n")
            stdout_of(run).readline()
        assert write_calls() - before >= 100


def test_a_caller_that_reads_the_descriptor_itself_has_each_write_sent_at_once() -> None:
    with command("cat").start(stdin=PIPE, stdout=PIPE) as run:
        write_lines(stdin_of(run))
        number = stdout_of(run).fileno()
        seen = 0
        while seen < len(BURST):
            seen += len(os.read(number, 65536))
        before = write_calls()
        write_lines(stdin_of(run))
        assert write_calls() - before >= 1000
        while seen < 2 * len(BURST):
            seen += len(os.read(number, 65536))


def test_all_kinds_of_buffers_arrive_in_order_among_fast_writes() -> None:
    with command("cat").start(stdin=PIPE, stdout=CAPTURE) as run:
        stdin = stdin_of(run)
        reused = bytearray(b"ab\n")
        expected = b""
        for number in range(500):
            write_lines(stdin, BURST[:200])
            assert stdin.write(reused) == 3
            expected += BURST[:200] + bytes(reused)
            reused[:2] = b"%02d" % (number % 100)
            if number % 50 == 0:
                assert stdin.write(memoryview(b"x" * 20_000)) == 20_000
                assert stdin.write(b"y" * 5000) == 5000
                expected += b"x" * 20_000 + b"y" * 5000
        with pytest.raises(TypeError, match="str"):
            stdin.write("text")  # type: ignore[arg-type]
    assert run.wait().stdout == expected


def test_a_full_pipe_holds_back_fast_writes_until_the_run_is_cancelled(threads: ThreadPoolExecutor) -> None:
    run = command("sleep", "1000").start(stdin=PIPE)
    written = 0

    def write() -> None:
        nonlocal written
        while True:
            written += stdin_of(run).write(b"0123456789\n")

    future = threads.submit(write)
    last = -1

    def stalled() -> bool:
        nonlocal last
        before, last = last, written
        return before == last > 0

    until(stalled)
    assert written < 1 << 18
    run.cancel()
    with pytest.raises(BrokenPipeError):
        future.result(DEADLINE)
    with pytest.raises(PipelineCancelled):
        run.wait()


def test_a_pipe_with_little_room_gets_the_rest_of_a_burst_once_it_is_read(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    waiting = "while ! test -e go; do sleep 0.01; done; exec cat"
    data = b"x" * ((1 << 16) - (1 << 13))
    with command("sh", "-c", waiting, cwd=tmp_path).start(stdin=PIPE, stdout=CAPTURE) as run:
        stdin_of(run).write(data)
        future = threads.submit(write_lines, stdin_of(run), BURST * 4)
        wait([future], 1)  # it may take all that is missing, or be blocked as any write to a full pipe is
        (tmp_path / "go").touch()
        future.result(DEADLINE)
        stdin_of(run).write(b"end\n")
    assert run.wait().stdout == data + BURST * 4 + b"end\n"


def test_each_line_of_several_threads_is_whole_and_in_its_order(threads: ThreadPoolExecutor) -> None:
    with command("cat").start(stdin=PIPE, stdout=CAPTURE) as run:

        def write(name: bytes) -> None:
            for number in range(5000):
                stdin_of(run).write(b"%s %d\n" % (name, number))
                if number % 1000 == 0:
                    stdin_of(run).write(b"%s " % name + b"-" * 9000 + b"\n")

        for future in [threads.submit(write, name) for name in (b"a", b"b", b"c")]:
            future.result(DEADLINE)
    lines = (run.wait().stdout or b"").splitlines()
    assert len(lines) == 3 * 5005
    for name in (b"a", b"b", b"c"):
        mine = [line.split()[1] for line in lines if line.split()[0] == name]
        assert [text for text in mine if text[:1] != b"-"] == [b"%d" % number for number in range(5000)]


def test_a_write_to_the_descriptor_comes_after_all_earlier_ones() -> None:
    with command("cat").start(stdin=PIPE, stdout=CAPTURE) as run:
        for _ in range(20):
            write_lines(stdin_of(run))
            os.write(stdin_of(run).fileno(), b"mine\n")
    assert run.wait().stdout == (BURST + b"mine\n") * 20


def test_a_text_layer_over_it_works_line_by_line() -> None:
    with command("cat").start(stdin=PIPE, stdout=PIPE) as run:
        text = io.TextIOWrapper(stdin_of(run), write_through=True)
        for number in range(1000):
            print(number, file=text)
        assert [stdout_of(run).readline() for _ in range(1000)] == BURST.splitlines(keepends=True)
        text.close()


@pytest.mark.parametrize("late", ["write", "flush"])
def test_fast_writes_to_a_run_that_has_failed_report_its_failure(late: str) -> None:
    def write() -> None:
        with command("sh", "-c", "read first; exit 3").start(stdin=PIPE) as run:
            while True:
                write_lines(stdin_of(run))
                if late == "flush":
                    stdin_of(run).flush()

    with pytest.raises(PipelineError) as caught:
        write()
    assert isinstance(caught.value.cause, ExitError)
    assert caught.value.cause.returncode == 3


def test_a_write_after_the_close_is_refused_and_a_second_close_does_nothing() -> None:
    with command("cat").start(stdin=PIPE, stdout=CAPTURE) as run:
        write_lines(stdin_of(run))
        stdin_of(run).close()
        stdin_of(run).close()
        with pytest.raises(ValueError, match="closed"):
            stdin_of(run).write(b"x")
    assert run.wait().stdout == BURST


def test_many_runs_with_something_held_need_no_threads() -> None:
    before = threading.active_count()
    runs = [command("cat").start(stdin=PIPE, stdout=CAPTURE) for _ in range(20)]
    for run in runs:
        write_lines(stdin_of(run))
    assert threading.active_count() <= before + 1  # the supervisor
    for run in runs:
        stdin_of(run).close()
        assert run.wait().stdout == BURST


def test_interrupts_lose_no_byte_and_double_none(host: Host) -> None:
    """A line whose write was interrupted may come or not; each other line comes once, in its order."""
    ended = host.run("""
        class Interrupt(Exception):
            pass

        def interrupt(signum, frame):
            signal.setitimer(signal.ITIMER_REAL, 2e-4)
            if frame.f_code in inside:
                raise Interrupt

        inside = set()
        unsure = set()

        def write(stdin):
            for number in range(100_000):
                try:
                    stdin.write(b"%d\\n" % number)
                except Interrupt:
                    unsure.add(number)

        with command("cat").start(stdin=PIPE, stdout=CAPTURE) as run:
            methods = vars(type(run.stdin)).values()
            inside = {method.__code__ for method in methods if hasattr(method, "__code__")}
            signal.signal(signal.SIGALRM, interrupt)
            signal.setitimer(signal.ITIMER_REAL, 2e-4)
            try:
                write(run.stdin)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, signal.SIG_IGN)
        got = [int(line) for line in run.wait().stdout.splitlines()]
        assert got == sorted(set(got)), "doubled, or out of order"
        assert set(range(100_000)) - set(got) <= unsure, "lost"
        say(len(unsure) > 0)
        """)
    assert (ended.err, ended.out, ended.returncode) == ("", "True\n", 0)


def test_a_signal_handler_may_write_in_the_middle_of_a_write(host: Host) -> None:
    ended = host.run("""
        handled = 0

        def tick(signum, frame):
            global handled
            run.stdin.write(b"tick\\n")
            handled += 1

        with command("cat").start(stdin=PIPE, stdout=CAPTURE) as run:
            signal.signal(signal.SIGALRM, tick)
            signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)
            for number in range(100_000):
                run.stdin.write(b"%d\\n" % number)
            signal.setitimer(signal.ITIMER_REAL, 0)
        lines = run.wait().stdout.splitlines()
        assert lines.count(b"tick") == handled > 0
        assert [int(line) for line in lines if line != b"tick"] == list(range(100_000))
        say("whole")
        """)
    assert (ended.err, ended.out, ended.returncode) == ("", "whole\n", 0)


@pytest.mark.parametrize(
    "leave", ["sys.exit()", "run.stdin.close(); os._exit(0)", "del run; gc.collect(); os._exit(0)"]
)
def test_a_forked_copy_writes_nothing_of_what_its_parent_holds(host: Host, leave: str) -> None:
    ended = host.run(f"""
        import gc

        run = command("cat").start(stdin=PIPE, stdout=CAPTURE)
        for step in range(10):
            for number in range(1000):
                run.stdin.write(b"%d\\n" % number)
            if os.fork() == 0:
                signal.alarm(20)
                {leave}
            assert os.wait()[1] == 0
        run.stdin.close()
        assert run.wait().stdout == b"".join(b"%d\\n" % number for number in range(1000)) * 10
        say("once")
        """)
    assert (ended.err, ended.out, ended.returncode) == ("", "once\n", 0)


@pytest.mark.parametrize("_turn", range(30))
def test_a_close_in_another_thread_loses_no_write_that_has_returned(
    _turn: int, threads: ThreadPoolExecutor
) -> None:
    taken = 0

    def write() -> None:
        nonlocal taken
        while True:
            stdin_of(run).write(b"%d\n" % taken)
            taken += 1

    with command("cat").start(stdin=PIPE, stdout=CAPTURE) as run:
        future = threads.submit(write)
        until(lambda: taken > 100)
        stdin_of(run).close()
        with pytest.raises(ValueError, match="closed"):
            future.result(DEADLINE)
    lines = (run.wait().stdout or b"").splitlines()
    assert lines[:taken] == [b"%d" % number for number in range(taken)]
    assert len(lines) - taken in (0, 1)  # the last one may have been written, and its flush refused


def test_a_deadline_ends_a_fast_writer_and_is_its_error() -> None:
    def write() -> None:
        with command("sleep", "1000").start(stdin=PIPE, timeout=0.2) as run:
            while True:
                stdin_of(run).write(b"0123456789\n")

    with pytest.raises(PipelineTimeout):
        write()

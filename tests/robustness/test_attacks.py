"""Inputs, timings and orders that once broke a promise of the design, each as it was found."""

from __future__ import annotations

import gc
import io
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from penstock import (
    CAPTURE,
    DEVNULL,
    PIPE,
    FinishEarly,
    Pipeline,
    PipelineError,
    StartError,
    closing,
    command,
    echo,
    filter_error,
    function,
    map_lines,
    source,
    transform,
    transform_lines,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(20)]


class MuteError(Exception):
    """An exception that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class AlarmError(Exception):
    """What a signal handler raises."""


def raises(error: BaseException) -> penstock.Pipeline:
    """A stage that fails."""

    def fail(_ctx: object, _stdin: object, _stdout: object) -> None:
        raise error

    return Pipeline(function(fail))


@pytest.mark.parametrize("answer", ["oops", True, ValueError])
def test_a_filter_that_returns_no_exception_is_a_type_error(answer: Any) -> None:
    """attack-1: such a run never ended."""
    error = filter_error(command("true"), lambda _error: answer).run(check=False).error
    assert isinstance(error, PipelineError)
    assert isinstance(error.cause, TypeError)


def test_an_exception_handler_that_returns_no_exception_is_a_type_error() -> None:
    """attack-1."""
    handler: Any = lambda _stage, _error: "oops"  # noqa: E731
    error = raises(ValueError("x")).run(check=False, on_exception=handler).error
    assert isinstance(error, PipelineError)
    assert isinstance(error.cause, TypeError)
    assert "on_exception" in str(error.cause)


def test_an_exception_without_a_text_is_told_by_its_type() -> None:
    """attack-2: with on_event such a run never ended."""
    events: list[penstock.Event] = []
    result = raises(MuteError()).run(check=False, on_event=events.append)
    assert isinstance(result.error, PipelineError)
    assert isinstance(result.error.cause, MuteError)
    assert [event.message for event in events if event.kind == "failed"] == ["ended: MuteError"]


@pytest.mark.parametrize(
    "stage", [transform(lambda chunks: chunks), transform_lines(lambda lines: lines), map_lines(bytes)]
)
def test_a_thousand_fused_stages(stage: penstock.Pipeline) -> None:
    """attack-3: their chain was deeper than the interpreter's stack."""
    assert Pipeline(*[stage] * 1000).output(input="a\nb\n") == b"a\nb\n"


def test_an_object_in_closing_may_raise_anything_while_it_is_closed() -> None:
    """attack-4: such a run never ended."""

    class Sink(io.BytesIO):
        def close(self) -> None:
            super().close()
            raise SystemExit(1)

    error = echo("x").run(stdout=closing(Sink()), check=False).error
    assert isinstance(error, PipelineError)
    assert isinstance(error.cause, SystemExit)


def test_a_cancellation_is_not_a_success() -> None:
    """attack-5: cancelled with FinishEarly, a run passed for a success."""
    with command("cat").start(stdin=PIPE, stdout=DEVNULL) as run, pytest.raises(TypeError, match="reason"):
        run.cancel(FinishEarly())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_collector_may_close_an_iterator_in_the_supervisors_thread() -> None:
    """attack-6: it waited there for itself, and no run of the process ever ended again."""
    gc.collect()
    gc.disable()
    try:
        chunks = command("yes").iter_bytes()
        next(chunks)
        circle: list[Any] = [chunks]
        circle.append(circle)
        del chunks, circle
        collected = threading.Event()

        def collect() -> None:
            gc.collect()
            collected.set()

        from penstock.runtime.supervisor import supervisor

        supervisor().post(collect)
        assert collected.wait(5)
        assert command("true").start().wait(5).ok
    finally:
        gc.enable()


@pytest.mark.parametrize("method", ["run", "output"])
def test_any_exception_of_a_signal_handler_ends_the_run_that_is_waited_for(method: str) -> None:
    """attack-7: only after a KeyboardInterrupt the children were ended; the leak check sees the others."""

    def ring(_signum: int, _frame: object) -> None:
        raise AlarmError

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(AlarmError):
            getattr(command("sleep", "1000"), method)()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_nested_pipeline_has_pipes_of_the_size_that_it_asks_for() -> None:
    """attack-13: the outermost pipeline's option held for all."""
    script = "import fcntl; print(fcntl.fcntl(0, fcntl.F_GETPIPE_SZ))"
    nested = Pipeline(command("true"), command(sys.executable, "-c", script), pipe_size=1 << 18)
    assert (command("true") | nested).output() == b"%d\n" % (1 << 18)


def test_a_program_that_is_missing_is_told_at_once(within: Any) -> None:
    """attack-9: with stdout captured it took a second."""
    with within(0.9):
        for _ in range(3):
            with pytest.raises(StartError):
                command("no-such-program-anywhere").output()


def test_no_thread_for_what_is_held_back_does_not_fail_the_run() -> None:
    """attack-11: it raised a RuntimeError out of the middle of the engine."""
    script = """
import threading, time
from penstock import CAPTURE, map_lines
start, left = threading.Thread.start, [1]
def limited(self):
    if not left[0]:
        raise RuntimeError("can't start new thread")
    left[0] -= 1
    start(self)
threading.Thread.start = limited
def slow(line):
    time.sleep(0.03)
    return line
print(map_lines(slow).run(input="a\\n" * 6, stdout=CAPTURE).stdout.count(b"a"))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.stdout, done.stderr) == ("6\n", "")


def test_a_reader_that_left_is_not_eof_of_the_input() -> None:
    """attack-12: a function over lines took the input that was cut for complete."""
    complete: list[int] = []

    def count(lines: Iterator[bytes]) -> Iterator[bytes]:
        number = 0
        for line in lines:
            number += 1
            yield line
        complete.append(number)

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x\n" * 2000

    def leave(_ctx: object, stdin: Any, _stdout: object) -> None:
        stdin.read1()

    tails: list[Callable[[], Any]] = [lambda: function(leave), lambda: map_lines(bytes) | function(leave)]
    for tail in tails:
        pipeline = source(endless()) | transform_lines(count) | tail()
        assert pipeline.run(stdout=DEVNULL).ok
    full = (source(endless()) | transform_lines(count) | map_lines(bytes)).run(
        stdout="/dev/full", check=False
    )
    assert isinstance(full.error, PipelineError)
    assert full.error.index == 2
    assert not complete
    assert (command("seq", "9") | transform_lines(count)).run(stdout=CAPTURE).ok
    assert complete == [9]


def test_a_run_in_the_last_moment_of_the_interpreter_is_refused() -> None:
    """attack-14: it hung there for ever, as in a `__del__`, or an exit handler older than the import."""
    script = """
import atexit
def late():
    try:
        penstock.command("echo", "late").output()
    except RuntimeError as error:
        print(error)
atexit.register(late)
import penstock
penstock.command("true").run()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=15, check=False
    )
    assert "the interpreter is shutting down" in done.stdout


def test_a_forked_copy_closes_an_iterator_at_once() -> None:
    """attack-15: it waited there for the end of a run that is not its own."""
    script = """
import os, time
from penstock import command
chunks = command("yes").iter_bytes()
next(chunks)
pid = os.fork()
if pid == 0:
    began = time.monotonic()
    chunks.close()
    os._exit(time.monotonic() - began > 1)
print(os.waitpid(pid, 0)[1], bool(next(chunks)))
chunks.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=15, check=False
    )
    assert done.stdout == "0 True\n"

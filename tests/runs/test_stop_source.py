"""`stop_source`: the first stage ends on purpose, the others finish, and only true failures count."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.isolation import stage_functions
from tests.support.processes import gone, sh
from tests.support.waiting import DEADLINE, asleep, until

from penstock import (
    CAPTURE,
    PIPE,
    Event,
    FinishEarly,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    Requirements,
    Run,
    command,
    concat,
    echo,
    function,
    ignore_error,
    map_lines,
    merge,
    reading,
    source,
    transform,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.processes import Strays

ENDLESS = sh("echo begun; while :; do echo more; sleep 0.01; done")
CAT = command("cat")


def begun(pipeline: Pipeline, **options: Any) -> Run:
    """Start it with stdout=PIPE, and wait for its first line."""
    run = pipeline.start(stdout=PIPE, **options)
    assert run.stdout is not None
    assert run.stdout.readline() == b"begun\n"
    return run


def rest(run: Run) -> bytes:
    """Read the output to its end, and close it."""
    assert run.stdout is not None
    with run.stdout:
        return run.stdout.read()


def _begin(_ctx: object, _stdin: Any, stdout: Any) -> None:
    stdout.write(b"begun\n")
    while True:
        stdout.write(b"more\n")


def _block(_ctx: object, stdin: Any, stdout: Any) -> None:
    stdout.write(b"begun\n")
    stdin.read()


def _lines(_chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield b"begun\n"
    while True:
        yield b"more\n"


def _endless_lines() -> Iterator[bytes]:
    return _lines(iter(()))


# The first stage, of each kind.


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(lambda: ENDLESS, id="command"),
        pytest.param(lambda: function(_begin), id="function"),
        pytest.param(lambda: source(_endless_lines()), id="source"),
        pytest.param(lambda: transform(_lines), id="transform"),
        pytest.param(lambda: transform(_lines) | map_lines(bytes), id="fused"),
        pytest.param(lambda: Pipeline(ENDLESS, CAT, name="nested", grace=5), id="nested"),
        pytest.param(lambda: ignore_error(ENDLESS, lambda _: False), id="filtered"),
        pytest.param(lambda: function(stage_functions.begin_and_write, isolate="process"), id="isolated"),
        pytest.param(
            lambda: transform(stage_functions.begin_and_yield, isolate="process"), id="isolated transform"
        ),
    ],
)
@pytest.mark.parametrize("pipe_errors", ["forgive", "report"])
def test_the_run_is_a_success(first: Callable[[], Pipeline], pipe_errors: str) -> None:
    """And its result shows no error for any stage."""
    run = begun(first() | sh("cat; echo; echo last"), pipe_errors=pipe_errors)
    run.stop_source()
    assert rest(run).endswith(b"\nlast\n")
    result = run.wait(DEADLINE)
    assert result.ok
    assert [stage.error for stage in result.stages] == [None] * len(result.stages)


@pytest.mark.parametrize("first", [ENDLESS, function(_begin), transform(_lines)])
def test_it_may_be_the_only_stage(first: Pipeline) -> None:
    """There is nothing to finish then."""
    run = begun(first)
    run.stop_source(0.1)
    rest(run)
    assert run.wait(DEADLINE).ok


def test_a_command_gets_its_stop_signal_with_its_tree(strays: Strays) -> None:
    """As when it is cancelled."""
    script = (
        "trap 'echo INT; exit 7' INT; sleep 1000 & echo $! >>$PIDS; echo begun; while :; do sleep 0.01; done"
    )
    run = begun(sh(script, strays, stop_signal=signal.SIGINT) | CAT, grace=DEADLINE)
    (pid,) = strays.pids()
    # A shell starts its background processes with SIGINT ignored, so what ends this one is the grace time.
    run.stop_source(0.3)
    assert rest(run) == b"INT\n"
    assert gone(pid)
    assert run.wait(DEADLINE).returncodes == (7, 0)


def test_sigkill_follows_after_the_grace_time() -> None:
    """That is no failure either."""
    run = begun(sh("trap '' TERM; echo begun; while :; do sleep 0.01; done") | CAT, grace=1000)
    run.stop_source(0.1)
    rest(run)
    assert run.wait(DEADLINE).returncodes == (-signal.SIGKILL, 0)


def test_the_grace_time_is_by_default_that_of_its_pipeline() -> None:
    """Of the innermost one."""
    deaf = sh("trap '' TERM; echo begun; while :; do sleep 0.01; done")
    run = begun(Pipeline(deaf, grace=0.1) | CAT, grace=1000)
    run.stop_source()
    rest(run)
    assert run.wait(DEADLINE).ok


def test_a_further_call_can_shorten_the_grace_time() -> None:
    """And cannot lengthen it."""
    run = begun(sh("trap '' TERM; echo begun; while :; do sleep 0.01; done") | CAT)
    run.stop_source(1000)
    run.stop_source(0.1)
    run.stop_source(1000)
    rest(run)
    assert run.wait(DEADLINE).ok


@pytest.mark.parametrize("grace", [-1, float("nan"), "1", True])
def test_an_invalid_grace_time_is_named(grace: Any) -> None:
    """Before anything is stopped."""
    with (
        begun(ENDLESS | command("head", "-n", "2")) as run,
        pytest.raises((TypeError, ValueError), match="grace"),
    ):
        run.stop_source(grace)


def test_a_function_that_is_blocked_in_a_read_wakes() -> None:
    """With FinishEarly, which it need not catch."""
    run = begun(function(_block) | CAT, stdin=PIPE)
    run.stop_source()
    assert rest(run) == b""
    assert run.wait(DEADLINE).ok


def test_a_function_that_is_blocked_in_a_write_wakes() -> None:
    """Its reader finishes on what it got."""
    go = threading.Event()
    writer = threading.Event()
    ident: list[int] = []

    def write(_ctx: object, _stdin: Any, stdout: Any) -> None:
        ident.append(threading.get_ident())
        writer.set()
        while True:
            stdout.write(bytes(65536))

    def read_later(_ctx: object, stdin: Any, stdout: Any) -> None:
        go.wait(DEADLINE)
        stdout.write(b"%d" % len(stdin.read()))

    run = (function(write) | function(read_later)).start(stdout=CAPTURE)
    writer.wait(DEADLINE)
    until(lambda: asleep(ident[0]))
    run.stop_source()
    until(lambda: len(run.pids) == 0 and not asleep(ident[0]))
    go.set()
    assert int(run.wait(DEADLINE).stdout or b"") > 0


def test_a_function_learns_of_it_by_its_context() -> None:
    """`cancelled` is true, and `check()` raises FinishEarly."""
    told = []

    def compute(ctx: Any, _stdin: Any, stdout: Any) -> None:
        stdout.write(b"begun\n")
        while not ctx.cancelled:
            time.sleep(0.001)
        try:
            ctx.check()
        except FinishEarly:
            told.append(True)

    run = begun(function(compute) | CAT)
    run.stop_source()
    rest(run)
    assert run.wait(DEADLINE).ok
    assert told == [True]


def test_the_generator_of_a_source_is_closed() -> None:
    """In its own thread, before the stage has ended."""
    closed = []

    def generate() -> Iterator[bytes]:
        try:
            yield from _endless_lines()
        finally:
            closed.append(True)

    run = begun(source(generate()) | map_lines(bytes.upper) | command("tr", "A-Z", "a-z"))
    run.stop_source()
    rest(run)
    assert run.wait(DEADLINE).ok
    assert closed == [True]


def test_a_transform_delivers_what_it_has_made() -> None:
    """Only its input ends: the chunks that it makes of the stop are written."""
    reading = threading.Event()

    def total(chunks: Iterator[bytes]) -> Iterator[bytes]:
        yield b"begun\n"
        reading.set()
        size = 0
        try:
            for chunk in chunks:
                size += len(chunk)
        except FinishEarly:
            yield b"%d\n" % size

    run = begun(transform(total) | map_lines(bytes) | CAT, stdin=PIPE)
    assert reading.wait(DEADLINE)
    run.stop_source()
    assert rest(run) == b"0\n"
    assert run.wait(DEADLINE).ok


def test_one_that_ignores_it_is_abandoned() -> None:
    """When the grace time is over; an event says so, and the others finish."""
    release = threading.Event()
    events: list[Event] = []

    def ignore(_ctx: object, _stdin: Any, stdout: Any) -> None:
        stdout.write(b"begun\n")
        release.wait(DEADLINE)

    try:
        run = begun(function(ignore) | CAT, on_event=events.append)
        run.stop_source(0.05)
        assert rest(run) == b""
        assert run.wait(DEADLINE).ok
        assert [(event.stage, event.message) for event in events if event.kind == "abandoned"] == [
            ("ignore", "did not end within 0.05 s of being stopped")
        ]
    finally:
        release.set()


@pytest.mark.parametrize("first", [function(_begin), transform(_lines)])
def test_one_whose_output_nobody_takes_is_abandoned_too(first: Pipeline) -> None:
    """It is blocked in a write, and the end of its streams is not a failure of the stage."""
    for _ in range(50):
        run = begun(first, pipe_size=4096)
        run.stop_source(0.005)
        assert run.wait(DEADLINE).ok
        rest(run)


def test_stages_that_share_the_thread_of_an_abandoned_one_fail() -> None:
    """They could not finish, and what they held is lost: that must not pass for a success."""
    deaf, release = threading.Event(), threading.Event()

    def ignore(_chunks: Iterator[bytes]) -> Iterator[bytes]:
        yield b"begun\n"
        deaf.set()
        release.wait(DEADLINE)

    try:
        run = begun(transform(ignore) | map_lines(bytes) | CAT)
        assert deaf.wait(DEADLINE)  # a generator that is stopped at its `yield` is closed there
        run.stop_source(0.05)
        rest(run)
        with pytest.raises(PipelineError, match="'ignore' did not end when it was stopped"):
            run.wait(DEADLINE)
    finally:
        release.set()


def test_a_later_stage_of_the_same_thread_takes_its_time() -> None:
    """The grace time is for the first stage."""

    def slow(line: bytes) -> bytes:
        time.sleep(0.3)
        return line

    run = begun(transform(_lines) | map_lines(bytes) | map_lines(slow) | CAT)
    run.stop_source(0)
    rest(run)
    assert run.wait(DEADLINE).ok


@pytest.mark.parametrize("first", [transform(_lines), function(_begin), ENDLESS, source(_endless_lines())])
def test_without_any_grace_time_the_others_still_finish(first: Pipeline) -> None:
    """Even if it is stopped before it has begun."""
    for _ in range(30):
        run = (first | map_lines(bytes.upper) | map_lines(bytes.lower) | CAT).start(stdout=CAPTURE)
        run.stop_source(0)
        assert run.wait(DEADLINE).ok


# What feeds the first stage.


@pytest.mark.parametrize("first", [CAT, map_lines(bytes), command("cat") | map_lines(bytes)])
def test_an_iterable_that_feeds_it_is_left(first: Pipeline) -> None:
    """It is not read any more, and its failure from then on is nobody's."""
    stopped = threading.Event()

    def feed() -> Iterator[bytes]:
        yield b"begun\n"
        stopped.wait(DEADLINE)
        raise ValueError("its device has gone")

    run = begun(first | CAT, stdin=feed())
    run.stop_source()
    rest(run)
    stopped.set()
    assert run.wait(DEADLINE).ok


@pytest.mark.parametrize("first", [sh("echo begun; sleep 1000"), function(_block)])
def test_input_that_is_not_taken_is_dropped(first: Pipeline) -> None:
    """As if it had ended."""
    run = begun(first | CAT, input=bytes(1 << 22))
    run.stop_source()
    rest(run)
    assert run.wait(DEADLINE).ok


def test_writing_to_its_stdin_raises_once_it_has_gone() -> None:
    """As when it ends by itself."""
    run = begun(sh("echo begun; sleep 1000") | CAT, stdin=PIPE)
    run.stop_source()
    assert run.wait(DEADLINE).ok
    rest(run)
    assert run.stdin is not None
    assert run.stdin.closed  # by wait()


def test_a_with_block_may_stop_it_and_be_left() -> None:
    """Leaving it closes both pipes and waits."""
    with (CAT | CAT).start(stdin=PIPE, stdout=PIPE) as run:
        run.stop_source()
    assert run.wait().ok


# Failures that count.


def test_a_failure_of_a_later_stage_counts() -> None:
    """It had its chance to finish."""
    run = begun(ENDLESS | sh("cat; exit 3"))
    run.stop_source()
    rest(run)
    with pytest.raises(PipelineError) as caught:
        run.wait(DEADLINE)
    assert caught.value.index == 1


def test_a_failure_of_the_first_stage_before_that_counts() -> None:
    """The call does nothing then, even if nobody has noticed the end yet."""
    run = begun(sh("echo begun; exit 3") | sh("cat; read -r line || sleep 0.05"))
    assert gone(run.pids[0])
    run.stop_source()
    rest(run)
    with pytest.raises(PipelineError) as caught:
        run.wait(DEADLINE)
    assert caught.value.index == 0


@pytest.mark.parametrize(
    "first",
    [
        function(stage_functions.fail_when_stopped),
        function(stage_functions.fail_when_stopped, isolate="process"),
    ],
)
def test_an_exception_of_a_functions_own_counts(first: Pipeline) -> None:
    """One that its clean-up raises, for one: nobody has asked for that."""
    run = begun(first | CAT)
    run.stop_source()
    rest(run)
    with pytest.raises(PipelineError) as caught:
        run.wait(DEADLINE)
    assert isinstance(caught.value.cause, KeyError)


def test_on_exception_does_not_get_the_stop() -> None:
    """It is no exception of the function."""
    seen: list[object] = []
    run = begun(function(_begin) | CAT, on_exception=lambda _name, error: seen.append(error))
    run.stop_source()
    rest(run)
    assert run.wait(DEADLINE).ok
    assert seen == []


def test_fail_fast_does_not_take_it_for_a_failure() -> None:
    """The others finish."""
    run = begun(ENDLESS | sh("cat; echo last"), fail_fast=True)
    run.stop_source()
    assert rest(run).endswith(b"last\n")
    assert run.wait(DEADLINE).ok


# A cancellation on top.


@pytest.mark.parametrize(
    "first",
    [
        sh("trap '' TERM; echo begun; while :; do sleep 0.01; done"),
        function(stage_functions.begin_and_wait),
        transform(stage_functions.begin_and_pause),
        function(stage_functions.begin_and_wait, isolate="process"),
    ],
)
@pytest.mark.parametrize("by", ["cancel", "timeout"])
def test_a_cancelled_run_is_cancelled_whatever_was_stopped(first: Pipeline, by: str) -> None:
    """In its own grace time, even if the stop gave the stage more."""
    run = begun(first, grace=0.1, timeout=0.7 if by == "timeout" else None)
    run.stop_source(1000)
    if by == "cancel":
        run.cancel()
    rest(run)
    with pytest.raises(PipelineCancelled if by == "cancel" else PipelineTimeout):
        run.wait(DEADLINE)


def test_a_stop_after_a_cancellation_changes_nothing() -> None:
    """It is cancelled already."""
    run = begun(ENDLESS | CAT)
    run.cancel("enough")
    run.stop_source()
    rest(run)
    with pytest.raises(PipelineCancelled, match="enough"):
        run.wait(DEADLINE)


def test_after_the_end_of_the_run_it_does_nothing() -> None:
    """However the run has ended."""
    run = command("true").start()
    assert run.wait(DEADLINE).ok
    run.stop_source()
    assert run.wait(DEADLINE).ok
    run = command("false").start()
    run.wait(DEADLINE, check=False)
    run.stop_source()
    assert not run.wait(DEADLINE, check=False).ok


# From anywhere.


def test_a_signal_handler_may_call_it() -> None:
    """While the main thread waits for the run."""
    run = (ENDLESS | command("tail", "-n", "1")).start(stdout=CAPTURE)
    before = signal.signal(signal.SIGUSR1, lambda *_: run.stop_source())
    try:
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        assert run.wait(DEADLINE).stdout in (b"begun\n", b"more\n")
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_many_threads_may_call_it_at_once(together: Callable[[list[Callable[[], None]]], None]) -> None:
    """It is idempotent."""
    run = begun(function(_begin) | CAT)
    together([run.stop_source] * 8)
    rest(run)
    assert run.wait(DEADLINE).ok


@pytest.mark.parametrize(
    ("first", "others"),
    [
        pytest.param(lambda: echo("x"), "end", id="echo ends"),
        pytest.param(lambda: sh("sleep 0.003"), "end", id="command ends"),
        pytest.param(lambda: sh("sleep 1000"), "cancel", id="command cancelled"),
        pytest.param(lambda: function(_begin), "cancel", id="function cancelled"),
        pytest.param(lambda: transform(_lines) | map_lines(bytes), "cancel", id="fused cancelled"),
        pytest.param(lambda: sh("sleep 1000"), "timeout", id="command timed out"),
        pytest.param(lambda: function(_begin), "timeout", id="function timed out"),
        pytest.param(lambda: sh("sleep 0.003; exit 3"), "fail", id="command fails"),
    ],
)
def test_races_end_in_one_of_two_ways(first: Callable[[], Pipeline], others: str) -> None:
    """A stop at the same time as an end, a cancellation or a deadline: as if one had come first."""
    dice = random.Random(14)
    for _ in range(100):
        timeout = 0.004 if others == "timeout" else None
        run = (first() | CAT).start(stdout=CAPTURE, timeout=timeout, grace=1)
        stop = threading.Timer(dice.random() * 0.008, run.stop_source)
        stop.start()
        if others == "cancel":
            time.sleep(dice.random() * 0.008)
            run.cancel()
        result = run.wait(DEADLINE, check=False)
        stop.join()
        if others == "end":
            assert result.ok
        elif not result.ok:
            wanted = {"cancel": PipelineCancelled, "timeout": PipelineTimeout, "fail": PipelineError}[others]
            assert type(result.error) is wanted


# Custom stages.


class Holding:
    """A custom stage that holds a pipeline."""

    name = "holding"
    requirements = Requirements()

    def __init__(self, inner: Pipeline) -> None:
        self.inner = inner

    def start(self, *given: Any) -> Any:
        """Start the pipeline between the two given ends."""
        return self.inner.start(*given)


@pytest.mark.parametrize("inner", [ENDLESS | CAT, ENDLESS, Pipeline(function(_begin) | CAT, name="inner")])
def test_a_custom_stage_ends_by_its_kill(inner: Pipeline) -> None:
    """Whatever it raises then."""
    run = begun(Pipeline(Holding(inner), CAT))
    run.stop_source()
    rest(run)
    assert run.wait(DEADLINE).ok


@pytest.mark.parametrize("gather", [merge, concat])
def test_each_source_of_a_graph_is_stopped(gather: Any) -> None:
    """Those that are silent too; the stage that reads them ends then."""
    silent = sh("echo begun; exec sleep 1000")
    run = begun(gather(silent, Pipeline(silent, CAT)) | CAT)
    run.stop_source()
    assert set(rest(run).splitlines()) <= {b"begun"}
    assert run.wait(DEADLINE).ok


def test_a_source_behind_a_name_is_stopped() -> None:
    run = begun(command("cat", reading(sh("echo begun; exec sleep 1000"))))
    run.stop_source()
    assert rest(run) == b""
    assert run.wait(DEADLINE).ok

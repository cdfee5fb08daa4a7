"""Cancellation: who is told to end, by whom, how soon, and what the run says then."""

from __future__ import annotations

import datetime as dt
import io
import os
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import alive, gone, sh
from tests.support.waiting import DEADLINE, until

from penstock import (
    DEVNULL,
    PIPE,
    ExitError,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    closing,
    command,
    echo,
    function,
    source,
    transform,
    transform_lines,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from concurrent.futures import ThreadPoolExecutor

    from tests.support.hosts import Host

    from penstock import Event, Run

SLEEP = command("sleep", "1000")
CHUNK = bytes(65536)


def _ready(run: Run) -> Run:
    """Wait until the command says that it is up."""
    assert run.stdout is not None
    assert run.stdout.readline() == b"ready\n"
    return run


def _read(_ctx: Any, stdin: Any, _stdout: Any) -> None:
    stdin.read()


def _write(_ctx: Any, _stdin: Any, stdout: Any) -> None:
    while True:
        stdout.write(CHUNK)


# Short sleeps: a shell's child that has not yet become `sleep` has its trap still, and loses the signal.
TRAPS_TO_0 = sh("trap 'exit 0' TERM; echo ready; while :; do sleep 0.02; done")
TRAPS_TO_3 = sh("trap 'exit 3' TERM; echo ready; while :; do sleep 0.02; done")
IGNORES = sh("trap '' TERM; echo ready; exec sleep 1000")
HEEDS = sh("echo ready; exec sleep 1000")


# The deadline.


@pytest.mark.parametrize("timeout", [0.05, dt.timedelta(milliseconds=50)])
@pytest.mark.parametrize(
    "pipeline", [SLEEP, SLEEP | command("cat"), SLEEP | function(_read), function(_read)]
)
def test_a_deadline_ends_the_run(pipeline: Pipeline, timeout: Any, within: Any) -> None:
    read_end, write_end = os.pipe()
    began = time.monotonic()
    try:
        with within(1), pytest.raises(PipelineTimeout, match=r"timed out after 0\.05 s") as raised:
            pipeline.run(stdin=read_end, stdout=DEVNULL, timeout=timeout)
    finally:
        os.close(read_end)
        os.close(write_end)
    assert isinstance(raised.value, TimeoutError)
    assert raised.value.index is None
    assert time.monotonic() - began >= 0.05


def test_a_deadline_that_is_not_reached_changes_nothing() -> None:
    assert (echo("a") | command("cat")).output(timeout=60) == b"a\n"


def test_a_deadline_of_zero_ends_the_run_at_once(within: Any) -> None:
    with within(1), pytest.raises(PipelineTimeout):
        (SLEEP | SLEEP).run(timeout=0)


def test_a_deadline_may_pass_while_the_run_is_being_started(within: Any) -> None:
    def late() -> str:
        threading.Event().wait(0.1)
        return "x"

    with within(1), pytest.raises(PipelineTimeout):
        Pipeline(SLEEP, command("sleep", "1000", env={"X": late}), timeout=0.01).run()


def test_output_before_the_deadline_is_captured() -> None:
    with pytest.raises(PipelineTimeout) as raised:
        HEEDS.output(timeout=0.3)
    assert raised.value.result is not None
    assert raised.value.result.stdout == b"ready\n"


def test_a_deadline_blames_no_stage_and_its_result_shows_which_still_ran() -> None:
    with pytest.raises(PipelineTimeout) as raised:
        (echo("a") | sh("cat; exec sleep 1000") | command("cat")).run(stdout=DEVNULL, timeout=0.2)
    error = raised.value
    assert (error.stage, error.index) == (None, None)
    assert error.result is not None
    assert [stage.error is error.cause for stage in error.result.stages] == [False, True, True]


def test_a_failure_before_the_deadline_counts_if_its_stage_is_earlier() -> None:
    with pytest.raises(PipelineError) as raised:
        (sh("exit 3") | sh("cat; exec sleep 1000")).run(stdout=DEVNULL, timeout=0.2)
    assert isinstance(raised.value.cause, ExitError)


def test_wait_may_time_out_and_leaves_the_run_going() -> None:
    run = HEEDS.start(stdout=PIPE)
    with pytest.raises(TimeoutError):
        run.wait(0.01)
    assert not run.done()
    with pytest.raises(PipelineCancelled), _ready(run):
        run.cancel()


def test_a_nested_pipelines_deadline_ends_that_pipeline_only() -> None:
    nested = Pipeline(SLEEP, timeout=0.1, name="nested")
    run = (nested | sh("cat; echo after")).start(stdout=PIPE)
    assert run.stdout is not None
    assert run.stdout.read() == b"after\n"
    with run.stdout, pytest.raises(PipelineTimeout) as raised:
        run.wait()
    assert raised.value.index is None
    assert raised.value.result is not None
    assert raised.value.result.returncodes == (-signal.SIGTERM, 0)


# cancel().


@pytest.fixture
def cancelled(within: Any) -> Any:
    """Cancel a run; it ends promptly."""

    def cancelled_(run: Run, cancel: Callable[[], object], seconds: float = 1.0) -> PipelineCancelled:
        cancel()
        with within(seconds), pytest.raises(PipelineCancelled) as raised:
            run.wait()
        assert run.done()
        if run.stdout is not None:
            run.stdout.close()
        return raised.value

    return cancelled_


@pytest.mark.parametrize("reason", [None, "enough", KeyError("enough")])
def test_a_cancelled_run_reports_the_reason(reason: Any, cancelled: Any) -> None:
    run = _ready(HEEDS.start(stdout=PIPE))
    error = cancelled(run, lambda: run.cancel(reason))
    if isinstance(reason, KeyError):
        assert error.cause is reason
    else:
        assert str(error) == (reason or "cancelled")
    assert error.result is not None
    assert error.result.returncodes == (-signal.SIGTERM,)


def test_cancel_may_be_called_from_many_threads(threads: ThreadPoolExecutor, cancelled: Any) -> None:
    run = _ready(HEEDS.start(stdout=PIPE))
    reasons = [KeyError(number) for number in range(16)]
    error = cancelled(run, lambda: list(threads.map(run.cancel, reasons)))
    assert error.cause in reasons


def test_the_first_reason_stands(cancelled: Any) -> None:
    run = _ready(HEEDS.start(stdout=PIPE))
    run.cancel("first")
    assert str(cancelled(run, lambda: run.cancel("second")).cause) == "first"


def test_cancel_from_a_signal_handler_while_the_run_is_waited_for() -> None:
    runs: list[Run] = []

    def on_signal(_signum: int, _frame: object) -> None:
        runs[0].cancel("a signal")

    before = signal.signal(signal.SIGUSR1, on_signal)
    try:
        # The child waits for its stdin, so that it cannot be faster than `runs`.
        runs.append(sh(f"read go; kill -USR1 {os.getpid()}; exec sleep 1000").start(stdin=PIPE))
        stdin = runs[0].stdin
        assert stdin is not None
        stdin.write(b"go\n")
        with pytest.raises(PipelineCancelled, match="a signal"):
            runs[0].wait()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_cancel_from_a_signal_handler_at_any_moment(within: Any) -> None:
    """At once, also where it falls into the thread that steers the run, just before that one sleeps."""
    runs: list[Run] = []

    def on_signal(_signum: int, _frame: object) -> None:
        for run in runs:
            run.cancel("a signal")

    before = signal.signal(signal.SIGALRM, on_signal)
    try:
        with within(10):
            for step in range(30):
                runs.clear()
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + 0.0003 * step, 0.001)
                runs.append((SLEEP | function(_read)).start(stdout=DEVNULL))
                with pytest.raises(PipelineCancelled, match="a signal"):
                    runs[0].wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_cancel_right_after_the_start(cancelled: Any) -> None:
    for _ in range(20):
        run = (SLEEP | function(_read) | SLEEP).start(stdout=DEVNULL)
        cancelled(run, run.cancel)


def test_cancel_after_the_end_changes_nothing() -> None:
    run = command("true").start()
    assert run.wait().ok
    run.cancel()
    assert run.wait().ok


def test_cancel_beside_the_end_is_either_a_success_or_a_cancellation() -> None:
    for _ in range(40):
        run = (echo("a") | command("true")).start(stdout=DEVNULL)
        run.cancel()
        result = run.wait(check=False)
        assert result.error is None or isinstance(result.error, PipelineCancelled)


def test_cancel_reaches_nested_pipelines(cancelled: Any) -> None:
    nested = Pipeline(SLEEP, Pipeline(function(_read), SLEEP, name="inmost"), name="nested")
    run = (SLEEP | nested | HEEDS).start(stdout=PIPE)
    error = cancelled(_ready(run), run.cancel)
    assert error.result is not None
    assert error.result.returncodes == (-15, -15, None, -15, -15)
    assert {stage.error for stage in error.result.stages} == {error.cause}


def test_leaving_the_block_by_an_exception_cancels(within: Any) -> None:
    mine = KeyError("mine")
    with within(1):
        run = _ready(HEEDS.start(stdout=PIPE))
        with pytest.raises(KeyError) as raised, run:
            raise mine
        assert raised.value is mine
        assert run.done()
        error = run.wait(check=False).error
        assert error is not None
        assert error.cause is mine


# What the children do about it.


@pytest.mark.parametrize("pipeline", [TRAPS_TO_0, TRAPS_TO_3], ids=["exits-0", "exits-3"])
def test_a_trapped_sigterm_does_not_hide_the_deadline(pipeline: Pipeline) -> None:
    with pytest.raises(PipelineTimeout):
        pipeline.output(timeout=0.2)


def test_a_command_that_ignores_sigterm_is_killed_after_the_grace_time(cancelled: Any) -> None:
    run = _ready(IGNORES.start(stdout=PIPE, grace=0.2))
    began = time.monotonic()
    error = cancelled(run, run.cancel, seconds=1.2)
    assert time.monotonic() - began >= 0.2
    assert error.result is not None
    assert error.result.returncodes == (-signal.SIGKILL,)


def test_a_command_that_obeys_sigterm_does_not_wait_for_the_grace_time(cancelled: Any) -> None:
    run = _ready(HEEDS.start(stdout=PIPE, grace=60))
    cancelled(run, run.cancel)


def test_without_grace_the_kill_comes_at_once(cancelled: Any) -> None:
    run = _ready(IGNORES.start(stdout=PIPE, grace=0))
    cancelled(run, run.cancel)


def test_sigterm_goes_to_the_whole_group(cancelled: Any) -> None:
    run = sh("sleep 1000 & echo $!; wait").start(stdout=PIPE, grace=60)
    assert run.stdout is not None
    grandchild = int(run.stdout.readline())
    cancelled(run, run.cancel)
    assert gone(grandchild)


def test_sigkill_goes_to_the_whole_group(cancelled: Any) -> None:
    run = sh("trap '' TERM; sleep 1000 & echo $!; wait").start(stdout=PIPE, grace=0.1)
    assert run.stdout is not None
    grandchild = int(run.stdout.readline())
    cancelled(run, run.cancel)
    assert gone(grandchild)


def test_an_orphaned_grandchild_that_ignores_sigterm_is_killed(cancelled: Any) -> None:
    text = "(trap '' TERM; echo ready; exec sleep 1000) & read -r x; wait"
    run = _ready(sh("exec 3<&0; " + text).start(stdin=PIPE, stdout=PIPE, grace=0.2))
    pids = run.pids
    began = time.monotonic()
    cancelled(run, run.cancel, seconds=1.2)
    assert time.monotonic() - began >= 0.2
    assert all(gone(pid) for pid in pids)


def test_a_grandchild_in_a_session_of_its_own_does_not_keep_the_run(cancelled: Any) -> None:
    run = sh("setsid sh -c 'echo $$; exec sleep 1000' & wait").start(stdout=PIPE, grace=0.2)
    assert run.stdout is not None
    grandchild = int(run.stdout.readline())
    try:
        cancelled(run, run.cancel)
        assert gone(grandchild)
    finally:
        if alive(grandchild):
            os.kill(grandchild, signal.SIGKILL)


def test_a_command_without_a_group_of_its_own_is_ended_alone(cancelled: Any) -> None:
    pipeline = command("sh", "-c", "echo ready; exec sleep 1000", process_group=False)
    run = _ready(pipeline.start(stdout=PIPE))
    assert os.getpgid(run.pids[0]) == os.getpgid(0)
    cancelled(run, run.cancel)


def test_a_stopped_child_is_ended_too(cancelled: Any) -> None:
    run = sh("echo ready; kill -STOP $$; exec sleep 1000").start(stdout=PIPE, grace=0.2)
    cancelled(_ready(run), run.cancel, seconds=1.2)


# Functions.


def _block_reading_lines(lines: Iterator[bytes]) -> Iterator[bytes]:
    yield from lines


BLOCKED: dict[str, Pipeline] = {
    "read from a pipe": SLEEP | function(_read),
    "read from memory": SLEEP | transform(lambda chunks: chunks) | function(_read),
    "write to a pipe": function(_write) | SLEEP,
    "write to memory": function(_write) | function(lambda _ctx, _stdin, _out: None) | SLEEP,
    "chunks": SLEEP | transform(lambda chunks: chunks),
    "lines": SLEEP | transform_lines(_block_reading_lines),
    "endless source": source(iter(lambda: CHUNK, None)) | SLEEP,
    "source": source(iter(lambda: CHUNK, None)) | function(lambda _c, stdin, _o: stdin.read()),
}


@pytest.mark.parametrize("case", BLOCKED)
def test_blocked_functions_wake_at_once(case: str, cancelled: Any) -> None:
    if case == "source":
        BLOCKED[case].run(stdout=DEVNULL, timeout=0.02, check=False, grace=60)
        return
    run = BLOCKED[case].start(stdout=DEVNULL, grace=60)
    until(lambda: len(run.pids) == 1)
    cancelled(run, run.cancel)


def test_a_function_is_woken_with_the_very_reason(cancelled: Any) -> None:
    met: list[BaseException] = []
    blocked = threading.Event()

    def fn(ctx: Any, stdin: Any, stdout: Any) -> None:
        blocked.set()
        for touch in (stdin.read, lambda: _write(ctx, stdin, stdout), ctx.check):
            try:
                touch()
            except KeyError as error:
                met.append(error)
        assert ctx.cancelled

    reason = KeyError("mine")
    run = (SLEEP | function(fn)).start(stdout=DEVNULL)
    assert blocked.wait(DEADLINE)
    assert cancelled(run, lambda: run.cancel(reason)).cause is reason
    assert met == [reason, reason, reason]


def test_a_cancelled_function_that_returns_reports_the_reason(cancelled: Any) -> None:
    blocked = threading.Event()

    def fn(ctx: Any, _stdin: Any, _stdout: Any) -> None:
        blocked.set()
        while not ctx.cancelled:
            threading.Event().wait(0.001)

    run = function(fn).start(stdout=DEVNULL)
    assert blocked.wait(DEADLINE)
    cancelled(run, run.cancel)


def test_a_cancelled_function_that_fails_reports_the_reason(cancelled: Any) -> None:
    blocked = threading.Event()

    def fn(_ctx: Any, stdin: Any, _stdout: Any) -> None:
        blocked.set()
        try:
            stdin.read()
        except Exception:  # noqa: BLE001 - whatever it is
            raise OSError("while tidying up") from None

    run = (SLEEP | function(fn)).start(stdout=DEVNULL)
    assert blocked.wait(DEADLINE)
    reason = KeyError("mine")
    error = cancelled(run, lambda: run.cancel(reason))
    assert error.result is not None
    assert error.result.stages[1].error is reason


def test_a_function_that_ignores_it_is_abandoned_and_an_event_says_so(stubborn: Any, cancelled: Any) -> None:
    events: list[Event] = []
    run = function(stubborn, name="stubborn").start(stdout=DEVNULL, grace=0.2, on_event=events.append)
    assert stubborn.begun.wait(DEADLINE)
    began = time.monotonic()
    error = cancelled(run, lambda: run.cancel("mine"), seconds=1.2)
    assert time.monotonic() - began >= 0.2
    assert str(error) == "mine"
    until(lambda: any(event.kind == "abandoned" for event in events))
    abandoned = next(event for event in events if event.kind == "abandoned")
    assert abandoned.stage == "stubborn"


def test_streams_of_an_abandoned_function_are_closed(cancelled: Any) -> None:
    outcome: list[BaseException] = []
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def fn(_ctx: Any, _stdin: Any, stdout: Any) -> None:
        begun.set()
        release.wait(DEADLINE)
        try:
            stdout.write(b"too late")
        except BaseException as error:  # noqa: BLE001 - to be looked at
            outcome.append(error)
        ended.set()

    read_end, write_end = os.pipe()
    try:
        run = function(fn).start(stdout=write_end, grace=0.05)
        assert begun.wait(DEADLINE)
        cancelled(run, run.cancel)
        release.set()
        assert ended.wait(DEADLINE)
        os.close(write_end)
        assert outcome
        assert os.read(read_end, 10) == b""
    finally:
        os.close(read_end)


class Stuck:
    """An object of the caller's whose methods do not return until the test is over."""

    def __init__(self, ignore: Any) -> None:
        self.read = self.write = ignore
        self.readinto = ignore


class Unclosable(io.BytesIO):
    """One whose close() does not return until then."""

    def __init__(self, ignore: Any) -> None:
        super().__init__()
        self.close = ignore  # type: ignore[method-assign]


BOUND: dict[str, Callable[[Any], tuple[Pipeline, dict[str, Any]]]] = {
    "a child ignores SIGTERM": lambda _: (sh("trap '' TERM; sleep 1000; sleep 1000"), {}),
    "a child stops": lambda _: (sh("kill -STOP $$"), {}),
    "a grandchild keeps stdout": lambda _: (sh("setsid sleep 3 & exec sleep 1000"), {"capture": True}),
    "a function ignores it": lambda stubborn: (function(stubborn) | SLEEP, {}),
    "a transform ignores it": lambda stubborn: (SLEEP | transform(lambda _: stubborn() or []), {}),
    "stdin blocks": lambda stubborn: (SLEEP, {"stdin": Stuck(stubborn)}),
    "stdin blocks a function": lambda stubborn: (function(_read), {"stdin": Stuck(stubborn)}),
    "stdout blocks": lambda stubborn: (command("yes"), {"stdout": Stuck(stubborn)}),
    "stdout blocks a function": lambda stubborn: (function(_write), {"stdout": Stuck(stubborn)}),
    "stderr callable blocks": lambda stubborn: (sh("echo x >&2; exec sleep 1000"), {"stderr": stubborn}),
    "on_event blocks": lambda stubborn: (SLEEP, {"on_event": stubborn}),
    "on_exception blocks": lambda stubborn: (function(_raise), {"on_exception": stubborn}),
    "stdin that was handed over does not close": lambda stubborn: (
        command("true"),
        {"stdin": closing(Unclosable(stubborn))},
    ),
    "stdout that was handed over does not close": lambda stubborn: (
        echo("x"),
        {"stdout": closing(Unclosable(stubborn))},
    ),
    "stdout that was handed over does not close after a cancellation": lambda stubborn: (
        SLEEP,
        {"stdout": closing(Unclosable(stubborn))},
    ),
    "stderr that was handed over does not close": lambda stubborn: (
        command("true"),
        {"stderr": closing(Unclosable(stubborn))},
    ),
    "a child ignores SIGTERM, then stdout blocks": lambda stubborn: (
        sh("trap '' TERM; echo x; sleep 1000; sleep 1000"),
        {"stdout": Stuck(stubborn), "grace": 1.3},
    ),
    "all stages ignore it": lambda stubborn: (
        function(stubborn) | sh("trap '' TERM; sleep 1000; sleep 1000") | function(stubborn),
        {},
    ),
}


def _raise(_ctx: Any, _stdin: Any, _stdout: Any) -> None:
    raise KeyError


@pytest.mark.slow
@pytest.mark.parametrize("case", BOUND)
def test_nothing_keeps_wait_beyond_deadline_and_grace_and_a_second(
    case: str, stubborn: Any, within: Any
) -> None:
    pipeline, options = BOUND[case](stubborn)
    run = pipeline.output if options.pop("capture", False) else partial(pipeline.run, stdout=DEVNULL)
    options = {"grace": 0.1, **options}
    with within(0.1 + options["grace"] + 1), pytest.raises(PipelineTimeout):
        run(timeout=0.1, **options)


def test_a_filter_that_ignores_it_does_not_keep_the_run(stubborn: Any, within: Any) -> None:
    from penstock import filter_error

    with within(1.2), pytest.raises(PipelineTimeout):
        filter_error(command("true"), stubborn).run(stdout=DEVNULL, timeout=0.1, grace=0.1)


# Ctrl-C.

HOST = """
    import signal, sys, threading, time, traceback
    import penstock
    from penstock import command, function
    signal.signal(signal.SIGINT, signal.default_int_handler)
    def waits():
        stack = traceback.walk_stack(sys._current_frames()[threading.main_thread().ident])
        return any(frame.f_code.co_name in ("_sleep", "chunks") for frame, _ in stack)
    def note(line):
        while line == b"ready" and not waits():  # it is waiting that is to be interrupted
            time.sleep(0.001)
        print(line.decode())
    began = time.monotonic()
    try:
        {act}
    except KeyboardInterrupt as error:
        print("raised again", type(error).__name__, error.__cause__)
    print("within", int(time.monotonic() - began))
    import psutil
    print("children", len(psutil.Process().children()))
"""

ACTS = {
    "run": "command('sh', '-c', 'echo ready >&2; exec sleep 1000').run(stderr=note)",
    "output": "command('sh', '-c', 'echo ready >&2; exec sleep 1000').output(stderr=note)",
    "wait": "command('sh', '-c', 'echo ready >&2; exec sleep 1000').start(stderr=note).wait()",
    "timed wait": "command('sh', '-c', 'echo ready >&2; exec sleep 1000').start(stderr=note).wait(99)",
    "iter": "list(command('sh', '-c', 'echo ready >&2; exec sleep 1000').iter_lines(stderr=note))",
    "block": "with command('sh', '-c', 'echo ready >&2; exec sleep 1000').start(stderr=note): pass",
    "functions": "(command('sh', '-c', 'echo ready >&2; exec sleep 1000')"
    " | function(lambda c, i, o: i.read())).run(stderr=note)",
}


def _line(host: subprocess.Popen[str]) -> str:
    assert host.stdout is not None
    return host.stdout.readline().strip()


@pytest.mark.slow
@pytest.mark.parametrize("act", ACTS)
def test_a_keyboard_interrupt_cancels_and_reaps_and_is_raised_again(
    act: str, host: Host, within: Any
) -> None:
    started = host.start(HOST.format(act=ACTS[act]))
    assert _line(started) == "ready"
    with within(1.5):
        started.send_signal(signal.SIGINT)
        assert _line(started).startswith("raised again KeyboardInterrupt")
    _line(started)
    assert _line(started) == "children 0"
    assert started.wait(DEADLINE) == 0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["run({0})", "start({0}).wait()"])
def test_a_second_keyboard_interrupt_takes_the_grace_time_away(method: str, host: Host, within: Any) -> None:
    trap = "trap 'echo told >&2' TERM; echo ready >&2; while :; do sleep 1000 & wait; done"
    act = f"command('sh', '-c', {trap!r}).{method.format('stderr=note, grace=1000')}"
    started = host.start(HOST.format(act=act))
    assert _line(started) == "ready"
    started.send_signal(signal.SIGINT)
    assert _line(started) == "told"
    with within(1.5):
        started.send_signal(signal.SIGINT)
        assert _line(started).startswith("raised again KeyboardInterrupt")
    _line(started)
    assert _line(started) == "children 0"
    assert started.wait(DEADLINE) == 0


def test_a_keyboard_interrupt_while_starting_leaves_nothing() -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    events: list[Event] = []
    pipeline = SLEEP | command("sleep", "1000", env={"X": interrupted})
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(on_event=events.append)
    until(lambda: [event.kind for event in events][-1:] == ["run-end"])
    (start,) = [event for event in events if event.kind == "start"]
    assert not alive(start.context["pid"])


@pytest.mark.slow
def test_an_interrupt_in_the_middle_of_a_start_leaves_no_child(host: Host) -> None:
    """The first child sends it, so it comes while the next ones are being started, each time at
    another place.
    """
    program = """
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from penstock import command
        first = command("sh", "-c", "kill -INT $PPID; exec sleep 1000")
        try:
            (first | command("sleep", "1000") | command("sleep", "1000")).run()
        except KeyboardInterrupt:
            import psutil
            print("children", len(psutil.Process().children()))
    """
    for _ in range(8):
        started = host.start(program)
        assert _line(started) == "children 0"
        assert started.wait(DEADLINE) == 0

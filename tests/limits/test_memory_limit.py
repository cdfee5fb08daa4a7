"""`memory_limit` and `memory_observer`: who is watched, what is done and told, and that it ends."""

from __future__ import annotations

import pickle
import signal
import sys
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE, until

from penstock import (
    CAPTURE,
    DEVNULL,
    PIPE,
    ExitError,
    MemoryLimitExceeded,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    StartError,
    command,
    echo,
    filter_error,
    ignore_error,
    is_error,
    map_lines,
    memory_limit,
    memory_observer,
)
from penstock.limits import memory_sampler
from penstock.system import features

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock import Event

pytestmark = pytest.mark.slow


MB = 1_000_000

GREEDY = """
taken = []
while True:
    taken.append(b"x" * 1_000_000)
"""
"""Takes memory as fast as the machine gives it, some 1 to 2 GB/s."""

HOLD = """
import sys
data = b"x" * int(sys.argv[1])
print(flush=True)
sys.stdin.read()
"""
"""Holds memory until its stdin is closed."""
HOLD_NEXT = HOLD.replace("print", "sys.stdin.readline()\nprint", 1)
"""The same, below a stage that says by a line that it holds its own."""


def python(program: str, *args: str, **options: Any) -> Pipeline:
    """Make a stage of a Python program; without site it starts fast."""
    return command(sys.executable, "-I", "-S", "-c", program, *args, name="python", **options)


def kinds(events: list[Event]) -> list[str]:
    """The kinds of those events that tell of memory."""
    return [event.kind for event in events if event.kind.startswith("memory")]


@pytest.fixture(params=["procfs", "psutil"])
def _by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By either source, whatever the sampler was made with."""
    monkeypatch.setattr(features, "PROCFS", request.param == "procfs")
    monkeypatch.setattr(memory_sampler, "_current", None)


@pytest.mark.usefixtures("_by")
@pytest.mark.parametrize("how", ["run", "start"])
def test_a_command_past_its_limit_is_ended_and_says_so(how: str) -> None:
    """By its own error, with both figures, whoever steers the run."""
    stage = memory_limit(python(GREEDY), "50MB")
    with pytest.raises(PipelineError) as caught:
        stage.run() if how == "run" else stage.start().wait()
    error, result = caught.value.cause, caught.value.result
    assert isinstance(error, MemoryLimitExceeded)
    assert type(caught.value) is PipelineError
    assert (caught.value.stage, caught.value.index) == ("python", 0)
    assert error.limit == 50 * MB
    assert error.used > 50 * MB
    assert result is not None
    assert result.stages[0].error is error
    # SIGTERM is followed at once by SIGKILL where it is seen to have grown on until it heard it.
    assert result.stages[0].returncode in {-signal.SIGTERM, -signal.SIGKILL}
    assert result.stages[0].peak_memory is not None
    assert result.stages[0].peak_memory >= error.used
    assert result.elapsed < DEADLINE


@pytest.mark.parametrize("limit", ["60MB", "250MB"])
@pytest.mark.parametrize("rest", [0, 0.3], ids=["at once", "out of rest"])
def test_a_greedy_command_is_stopped_before_it_holds_half_as_much_again(limit: str, rest: float) -> None:
    """At the best of five tries, for the machine may be busy with something else.

    It takes a gigabyte a second, which is the rate of the promise: a machine that gives it faster has taken
    more by the next look. It says of each megabyte that it has it; `max_rss` would begin at what this
    process has.
    """
    program = f"""
import os, time
time.sleep({rest})
taken, began = [], time.monotonic()
while True:
    taken.append(b"x" * 1_000_000)
    os.write(1, b".")
    while time.monotonic() < began + len(taken) / 1000:
        pass
"""
    held = []
    for _ in range(5):
        result = memory_limit(python(program), limit).run(check=False, stdout=CAPTURE)
        error = result.stages[0].error
        assert isinstance(error, MemoryLimitExceeded)
        assert result.stdout is not None
        held.append(len(result.stdout) * MB / error.limit)
        if held[-1] < 1.5:
            break
    assert min(held) < 1.5


def test_below_its_limit_a_command_is_left_alone() -> None:
    """And its peak is known."""
    events: list[Event] = []
    with memory_limit(python(HOLD, str(40 * MB)), "200MB", on_event=events.append).start(
        stdin=PIPE, stdout=PIPE
    ) as run:
        assert run.stdout is not None
        run.stdout.readline()
        _look_again(run)
    stage = run.wait().stages[0]
    assert stage.peak_memory is not None
    assert 40 * MB < stage.peak_memory < 80 * MB
    assert events == []


def _look_again(run: Any) -> None:
    """Wait until the watches of a run have looked once more."""
    (watch,) = [entry.watch for entry in run._run.execution._watches._entries]
    before = watch.samples
    until(lambda: watch.samples > before)


@pytest.mark.gotcha(22)
def test_the_whole_tree_counts() -> None:
    """Three processes of 30 MB, none of which is past the limit, are."""
    parent = """
import subprocess, sys
for _ in range(2):
    child = "d = b'x' * 30_000_000; input()"
    subprocess.Popen([sys.executable, "-I", "-S", "-c", child], stdin=subprocess.PIPE)
data = b"x" * 30_000_000
sys.stdin.read()
"""
    with (
        pytest.raises(PipelineError) as caught,
        memory_limit(python(parent), "80MB").start(stdin=PIPE, stdout=DEVNULL) as run,
    ):
        run.wait(DEADLINE)
    assert isinstance(caught.value.cause, MemoryLimitExceeded)


def test_a_nested_pipeline_has_one_limit_for_all_its_commands() -> None:
    """Their sum is past it; all of them are ended, and what stands around them goes on to its end."""
    events: list[Event] = []
    limited = threading.Event()

    def note(_event: Event) -> None:
        limited.set()

    inner = memory_limit(python(HOLD, str(30 * MB)) | python(HOLD, str(30 * MB)), "50MB", on_event=note)
    pipeline = command("cat", name="before") | inner | command("cat", name="after")
    run = pipeline.start(stdin=PIPE, stdout=DEVNULL, on_event=events.append)
    assert run.stdin is not None
    assert limited.wait(DEADLINE)
    run.stdin.close()
    with pytest.raises(PipelineError) as caught:
        run.wait(DEADLINE)
    result = caught.value.result
    assert result is not None
    assert isinstance(caught.value.cause, MemoryLimitExceeded)
    assert (caught.value.stage, caught.value.index) == ("python", 1)
    assert [type(stage.error) for stage in result.stages[1:3]] == [MemoryLimitExceeded] * 2
    assert result.returncodes[3] == 0
    (event,) = [event for event in events if event.kind == "memory-limit"]
    assert event.stage == "python | python"


def test_each_command_of_a_nested_pipeline_has_a_peak_of_its_own() -> None:
    """The observer's event has that of their sum."""
    events: list[Event] = []
    pipeline = memory_observer(
        python(HOLD, str(50 * MB)) | python(HOLD_NEXT, str(20 * MB)), on_event=events.append, interval=0.01
    )
    with pipeline.start(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdout is not None
        run.stdout.readline()
        _look_again(run)
        _look_again(run)
    first, second = (stage.peak_memory or 0 for stage in run.wait().stages)
    assert 50 * MB < first < 70 * MB
    assert 20 * MB < second < 40 * MB
    (event,) = events
    assert event.context["peak"] > 50 * MB


@pytest.mark.gotcha(29)
@pytest.mark.parametrize("status", [0, 3])
def test_the_observer_reports_however_its_stage_ends(status: int) -> None:
    """Peak, samples and errors, to its own handler and to the pipeline's."""
    own: list[Event] = []
    pipelines: list[Event] = []
    program = f"data = b'x' * 30_000_000\nprint(flush=True)\nimport sys\nsys.stdin.read()\nsys.exit({status})"
    stage = memory_observer(python(program), on_event=own.append, interval=timedelta(seconds=0.01))
    run = stage.start(stdin=PIPE, stdout=PIPE, on_event=pipelines.append)
    assert run.stdout is not None
    with run.stdout:
        run.stdout.readline()
        _look_again(run)
    assert run.stdin is not None
    run.stdin.close()
    result = run.wait(check=False)
    assert result.returncodes == (status,)
    (event,) = own
    assert event in pipelines
    assert kinds(pipelines) == ["memory-peak"]
    assert (event.kind, event.stage) == ("memory-peak", "python")
    peak = result.stages[0].peak_memory
    assert peak is not None
    assert peak > 30 * MB
    assert event.context["peak"] == event.context["used"] == peak
    assert event.context["samples"] > 1
    assert event.context["errors"] == 0
    assert event.context["limit"] is None


@pytest.mark.gotcha(29)
@pytest.mark.parametrize("end", ["timeout", "cancel", "leave", "fail-fast"])
def test_the_watch_ends_with_its_stage_however_that_ends(end: str) -> None:
    """One report, and afterwards nobody looks any more."""
    events: list[Event] = []
    stage = memory_observer(command("sleep", "100"), on_event=events.append)
    if end == "timeout":
        with pytest.raises(PipelineTimeout):
            stage.run(timeout=0.1)
    elif end == "cancel":
        run = stage.start()
        run.cancel()
        with pytest.raises(PipelineCancelled):
            run.wait(DEADLINE)
    elif end == "leave":
        lines = memory_observer(command("yes"), on_event=events.append).iter_lines()
        next(lines)
        lines.close()
    else:
        with pytest.raises(PipelineError):
            (stage | command("false")).run(fail_fast=True)
    current = memory_sampler._current
    assert current is not None
    settled = threading.Event()
    current.reactor.post(settled.set)
    assert settled.wait(DEADLINE)
    assert current._watches == set()
    assert current._timer is None
    assert current._roots == {}
    assert kinds(events) in (["memory-peak"], [])  # nothing, where it was over before the first look


def test_a_run_that_does_not_start_has_no_watch_left() -> None:
    """The command that was started before is watched no more."""
    stage = memory_limit(command("sleep", "100"), "1GB")
    with pytest.raises(StartError):
        (stage | command("no-such-program")).run()
    assert (
        memory_sampler._current is None
        or not memory_sampler._current._roots
        or command("true").start().wait().ok
    )


def test_the_event_of_a_limit_has_the_facts_and_comes_once() -> None:
    """To both handlers, before the stage's end."""
    own: list[Event] = []
    pipelines: list[Event] = []
    with pytest.raises(PipelineError) as caught:
        memory_limit(python(GREEDY), "40MB", on_event=own.append).run(on_event=pipelines.append)
    (event,) = own
    assert kinds(pipelines) == ["memory-limit"]
    assert event.error is caught.value.cause
    assert event.stage == "python"
    assert event.context["limit"] == 40 * MB
    assert event.context["used"] > 40 * MB
    names = [each.kind for each in pipelines]
    assert names.index("memory-limit") < names.index("exit")
    assert caught.value.result is not None
    assert event.context["pids"] == [caught.value.result.stages[0].pid]


def test_a_handler_that_raises_breaks_nothing() -> None:
    """As with any other handler, it is logged."""

    def handler(_event: Event) -> None:
        raise RuntimeError("no")

    result = memory_limit(python(GREEDY), "40MB", on_event=handler).run(check=False)
    assert isinstance(result.stages[0].error, MemoryLimitExceeded)


STUBBORN = f"""
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
{GREEDY}
"""
WELL_BEHAVED = """
import signal, sys, time
def end(*_):
    print("goodbye", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
data = b"x" * 60_000_000
while True:
    time.sleep(0.05)
"""


@pytest.mark.gotcha(29)
def test_a_command_that_ignores_sigterm_and_keeps_growing_is_killed_without_grace() -> None:
    """Long before the grace time is over, and before it holds all memory there is."""
    result = memory_limit(python(STUBBORN), "100MB").run(check=False, grace=30)
    stage = result.stages[0]
    assert isinstance(stage.error, MemoryLimitExceeded)
    assert stage.returncode == -signal.SIGKILL
    assert result.elapsed < DEADLINE


def test_a_command_that_stops_growing_has_its_grace_time() -> None:
    """To say goodbye; the reason stands, although it exits 0."""
    result = memory_limit(python(WELL_BEHAVED), "55MB").run(check=False, grace=DEADLINE, stdout="/dev/null")
    stage = result.stages[0]
    assert isinstance(stage.error, MemoryLimitExceeded)
    assert stage.returncode == 0


def test_a_filter_around_the_limit_may_ignore_it_one_within_is_not_asked() -> None:
    """A limit is the stage's own failure, so what stands around it decides."""
    greedy = python(GREEDY)
    assert ignore_error(memory_limit(greedy, "40MB"), is_error(MemoryLimitExceeded)).run().ok
    seen: list[BaseException | None] = []

    def note(error: BaseException | None) -> None:
        seen.append(error)

    with pytest.raises(PipelineError) as caught:
        memory_limit(filter_error(greedy, note), "40MB").run()
    assert isinstance(caught.value.cause, MemoryLimitExceeded)
    assert seen == []


def test_a_failure_of_its_own_is_reported_as_that() -> None:
    """The watch changes nothing where the limit is not passed."""
    with pytest.raises(PipelineError) as caught:
        memory_limit(command("sh", "-c", "exit 3"), "1GB").run()
    assert isinstance(caught.value.cause, ExitError)
    assert memory_limit(command("cat"), "1GB").output(input="through") == b"through"


def test_watches_may_be_put_around_each_other() -> None:
    """The lower limit ends it, and the observer around it reports."""
    events: list[Event] = []
    stage = memory_observer(memory_limit(memory_limit(python(GREEDY), "60MB"), "2GB"), on_event=events.append)
    result = stage.run(check=False)
    error = result.stages[0].error
    assert isinstance(error, MemoryLimitExceeded)
    assert error.limit == 60 * MB
    (event,) = events
    assert 60 * MB < event.context["peak"] <= (result.stages[0].peak_memory or 0)


def test_a_stage_joined_to_a_limited_one_is_not_limited() -> None:
    """`then` and `|` add outside of it, Python stages too."""
    limited = memory_limit(command("cat"), "100MB")
    assert limited.then(map_lines(bytes.upper)).output(input="a\n") == b"A\n"
    assert (limited | map_lines(bytes.upper)).output(input="a\n") == b"A\n"
    assert (echo("b") | limited).output() == b"b\n"


@pytest.mark.parametrize("wrap", [memory_observer, lambda stage: memory_limit(stage, "1GB")])
@pytest.mark.parametrize(
    "stage",
    [
        map_lines(bytes.upper),
        command("cat") | map_lines(bytes.upper),
        Pipeline(command("cat"), ignore_error(echo("x"), is_error(ValueError)), name="nested"),
        Pipeline(),
    ],
)
def test_a_stage_in_python_is_refused_when_the_stage_is_made(wrap: Any, stage: Pipeline) -> None:
    """It has no process of its own whose memory could be told from the host's."""
    with pytest.raises(TypeError, match="needs a command or a pipeline of commands, but"):
        wrap(stage)


@pytest.mark.parametrize(
    ("error", "match", "make"),
    [
        (TypeError, "not a stage", lambda: memory_limit("cat", "1GB")),  # type: ignore[arg-type]
        (TypeError, "limit", lambda: memory_limit(command("cat"), 1.5)),  # type: ignore[arg-type]
        (ValueError, "limit", lambda: memory_limit(command("cat"), 0)),
        (ValueError, "limit", lambda: memory_limit(command("cat"), "much")),
        (TypeError, "on_event", lambda: memory_observer(command("cat"), on_event=1)),  # type: ignore[arg-type]
        (TypeError, "interval", lambda: memory_observer(command("cat"), interval="1")),  # type: ignore[arg-type]
        (ValueError, "interval", lambda: memory_observer(command("cat"), interval=0)),
        (ValueError, "interval", lambda: memory_limit(command("cat"), 1, interval=-1)),
        (ValueError, "stdin", lambda: memory_limit(Pipeline(command("cat"), stdin=DEVNULL), 1)),
    ],
)
def test_mistakes_are_found_when_the_stage_is_made(
    error: type[Exception], match: str, make: Callable[[], object]
) -> None:
    """Each is named."""
    with pytest.raises(error, match=match):
        make()


def test_it_can_be_pickled_printed_and_run_again() -> None:
    """As any other pipeline of what can be."""
    stage = memory_limit(command("cat"), "1MB") | command("cat")
    again = pickle.loads(pickle.dumps(stage))
    assert again.output(input="x") == b"x"
    assert repr(again) == repr(stage) == "Pipeline(memory_limit(command('cat'), 1000000), command('cat'))"
    assert repr(memory_observer(command("a"))) == "memory_observer(command('a'))"
    assert memory_limit(command("a") | command("b"), 1).name == "a | b"
    assert [edge.kind for edge in stage.explain(input="x", stdout=PIPE).edges] == [
        "pooled",
        "os-pipe",
        "os-pipe",
    ]


@pytest.mark.gotcha(30)
def test_fifty_at_once_are_watched_by_one_thread() -> None:
    """None of them has one of its own."""
    before = threading.active_count()
    runs = [memory_limit(command("sleep", "100"), "100MB").start() for _ in range(50)]
    try:
        assert threading.active_count() <= before + 1
    finally:
        for run in runs:
            run.cancel()
        for run in runs:
            run.wait(check=False)

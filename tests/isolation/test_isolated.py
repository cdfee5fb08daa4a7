"""Stages that run in a process of their own behave as they do in a thread, and leave nothing behind."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from tests.isolation import stage_functions as fns
from tests.support.processes import gone, reaped
from tests.support.waiting import DEADLINE

import penstock
from penstock import (
    CAPTURE,
    DEVNULL,
    PIPE,
    Event,
    PipelineError,
    RemoteError,
    StartError,
    WorkerDied,
    command,
    each_line,
    echo,
    filter_lines,
    function,
    map_line_batches,
    map_lines,
    scan,
    source,
    transform,
    transform_lines,
)
from penstock.isolation import worker_pool
from penstock.system import features
from penstock.testing import check_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.fixtures import SetTiming

    from penstock import Pipeline

# Each constructor, as it is and isolated.
KINDS: dict[str, Callable[..., Pipeline]] = {
    "function": partial(function, fns.copy),
    "transform": partial(transform, fns.upper),
    "transform_lines": partial(transform_lines, sorted),
    "map_lines": partial(map_lines, bytes.upper),
    "filter_lines": partial(filter_lines, bytes.isdigit),
    "map_line_batches": partial(map_line_batches, fns.twice),
    "each_line": partial(each_line, fns.write_line),
    "scan": partial(scan, fns.lines, fns.write_line),
}
TEXT = b"".join(b"%d\nline %d\n" % (n, n) for n in range(20000))


def isolated(fn: Callable[..., object], *args: object) -> Pipeline:
    """A function in a process."""
    return function(partial(fn, *args) if args else fn, isolate="process")


class Recorder:
    """Collects events, and lets a test wait for one."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._arrived = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._arrived:
            self.events.append(event)
            self._arrived.notify_all()

    def wait_for(self, message: str) -> Event:
        with self._arrived:
            assert self._arrived.wait_for(lambda: self.of(message), timeout=DEADLINE)
            return self.of(message)[0]

    def of(self, message: str) -> list[Event]:
        return [event for event in self.events if event.message == message]


@pytest.fixture
def no_idle() -> Iterator[None]:
    """Start without any idle worker, and end the test's own."""
    worker_pool.shutdown()
    yield
    worker_pool.shutdown()


# What it does.


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_it_makes_the_same_of_its_input_as_in_a_thread(kind: str) -> None:
    """Where a stage runs is no matter of what it does."""
    make = KINDS[kind]
    assert make(isolate="process").output(input=TEXT) == make().output(input=TEXT)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_it_passes_the_conformance_suite(kind: str) -> None:
    """An isolated stage keeps the contract that all stages are held to."""
    check_stage(lambda: KINDS[kind](isolate="process"), input=TEXT)


def test_neighbours_are_processes_of_their_own_joined_by_pipes() -> None:
    """Isolated stages are not fused; each has a pid that the result tells, and no exit status."""
    pipeline = map_lines(bytes.upper, isolate="process") | transform(fns.upper, isolate="process")
    plan = (echo("a") | pipeline | command("cat")).explain(stdout=CAPTURE)
    result = (echo("a") | pipeline | command("cat")).run(stdout=CAPTURE)
    assert [edge.kind for edge in result.edges] == [edge.kind for edge in plan.edges]
    assert [edge.kind for edge in result.edges] == ["discard", "os-pipe", "os-pipe", "os-pipe", "capture"]
    assert [edge.bytes for edge in result.edges][1:] == [2, 2, 2, 2]
    pids = [stage.pid for stage in result.stages[1:]]
    assert len({os.getpid(), *pids}) == 4
    assert result.returncodes == (None, None, None, 0)
    assert [stage.kind for stage in result.stages] == ["echo", "map-lines", "transform", "command"]


def test_a_path_and_an_open_file_are_passed_to_it(tmp_path: Path) -> None:
    """A real descriptor at an end of the pipeline goes to the process as it is."""
    given, made = tmp_path / "given", tmp_path / "made"
    given.write_bytes(TEXT)
    with given.open("rb") as file:
        header = file.readline()
        pipeline = isolated(fns.copy)
        assert [edge.kind for edge in pipeline.explain(stdin=given, stdout=made).edges] == ["pass-fd"] * 2
        pipeline.run(stdin=file, stdout=made)
    assert header + made.read_bytes() == TEXT


@pytest.mark.slow
@pytest.mark.usefixtures("no_idle")
def test_times_and_memory_are_those_of_the_stage_alone() -> None:
    """A worker that is used again does not charge a stage for what its predecessor used."""
    first = (isolated(fns.burn, 0.2) | isolated(fns.hog, 64 << 20)).run(stdout=DEVNULL)
    assert (first.stages[0].user_time or 0) + (first.stages[0].system_time or 0) > 0.15
    assert (first.stages[1].max_rss or 0) > 64 << 20
    second = [isolated(fns.pid).run(stdout=DEVNULL).stages[0] for _ in range(2)]
    assert {stage.pid for stage in second} <= {stage.pid for stage in first.stages}
    assert all((stage.user_time or 0) + (stage.system_time or 0) < 0.15 for stage in second)


@pytest.mark.slow
def test_many_at_once_each_have_their_own_output() -> None:
    """Runs from several threads share the pool and nothing else."""
    outputs: dict[int, bytes] = {}

    def one(number: int) -> None:
        text = b"%d" % number * 50000
        outputs[number] = (source([text]) | isolated(fns.copy) | isolated(fns.copy)).output()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == {number: b"%d" % number * 50000 for number in range(6)}


def test_its_pipeline_can_be_pickled_and_nested() -> None:
    """An isolated stage is a value like any other."""
    pipeline = penstock.Pipeline(echo("a"), map_lines(bytes.upper, isolate="process"), timeout=60)
    copied = pickle.loads(pickle.dumps(pipeline))
    assert (copied | command("cat")).output() == b"A\n"


def test_a_function_in_a_worker_may_fork_start_programs_and_run_pipelines() -> None:
    """The worker's own socket is in nobody's way."""
    assert isolated(fns.child_reads_stdin).output() == b"[]"
    assert isolated(fns.fork_within).output() == b"7"
    inner, _, rest = isolated(fns.pipeline_within).output(input=b"rest").partition(b"\n")
    assert (int(inner) > 0, rest) == (True, b"rest")


def test_its_prints_go_to_the_same_place_as_the_hosts(capfd: pytest.CaptureFixture[str]) -> None:
    """A warm worker has no stdout of its own either."""
    for text in ("one", "two"):
        isolated(fns.say, text).run(stdout=DEVNULL)
    assert capfd.readouterr().out == "one\ntwo\n"


@pytest.mark.usefixtures("no_idle")
def test_a_warm_worker_knows_what_has_changed_in_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sys.path, environment and working directory are those of the host at the start of the stage."""
    before = isolated(fns.pid).output()
    (tmp_path / "penstock_test_word.py").write_text("WORD = 'found'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("FLAVOUR", "sweet")
    monkeypatch.chdir(tmp_path)
    assert isolated(fns.look_up, "penstock_test_word").output() == b"found"
    assert repr(("describe", None, "sweet", None, False, str(tmp_path), "sweet")).encode() == (
        function(fns.describe, isolate="process").output()
    )
    assert isolated(fns.pid).output() == before


# What it is told, and tells.


def test_its_context_says_what_a_thread_would_be_told(tmp_path: Path) -> None:
    """Name, cwd, environment and deadline; the process itself has that folder and that environment."""
    begun = time.monotonic()
    output = function(fns.describe, isolate="process", name="teller").output(
        cwd=tmp_path, env={"FLAVOUR": "salty"}, timeout=100
    )
    name, cwd, flavour, deadline, cancelled, here, own = eval(output)
    assert (name, cwd, flavour, cancelled) == ("teller", str(tmp_path), "salty", False)
    assert (here, own) == (str(tmp_path), "salty")
    assert begun + 99 < deadline < time.monotonic() + 101


def test_a_missing_folder_is_named_before_anything_starts(tmp_path: Path) -> None:
    """As with a command."""
    with pytest.raises(StartError, match="no such working directory"):
        isolated(fns.pid).run(cwd=tmp_path / "missing")


def test_events_arrive_in_order_and_before_the_end() -> None:
    """What cannot be sent is told by its repr."""
    recorder = Recorder()
    isolated(fns.emit_many).run(on_event=recorder)
    messages = [event.message for event in recorder.events if event.kind == "message"]
    assert messages == [*(f"step {number}" for number in range(200)), "odd"]
    assert recorder.of("step 2")[0].context == {"number": 2}
    assert "lock" in recorder.of("odd")[0].context["lock"]
    assert [event.kind for event in recorder.events if event.stage == "emit_many"][-1] == "exit"


# How it fails.


def test_an_exception_comes_back_with_type_text_causes_and_traceback() -> None:
    """Matchers work on it; what was written before it has arrived."""
    with pytest.raises(PipelineError, match=r"^fail: KnownError: 7$") as caught:
        (isolated(fns.fail, "known") | command("cat")).output()
    cause = caught.value.cause
    assert isinstance(cause, fns.KnownError)
    assert cause.code == 7
    assert isinstance(cause.__cause__, OSError)
    assert penstock.is_error(OSError)(cause)
    (note,) = cause.__notes__
    assert "raised in worker process" in note
    assert 'raise KnownError(7) from OSError(errno.ENOSPC, "no room")' in note
    assert (isolated(fns.fail, "known") | command("cat")).run(
        check=False, stdout=CAPTURE
    ).stdout == b"before\n"


@pytest.mark.parametrize(("kind", "text"), [("two-part", "this and that"), ("locked", "locked")])
def test_an_exception_that_cannot_travel_has_a_stand_in(kind: str, text: str) -> None:
    """It says what it stands for."""
    with pytest.raises(PipelineError) as caught:
        isolated(fns.fail, kind).run(stdout=DEVNULL)
    cause = caught.value.cause
    assert isinstance(cause, RemoteError)
    assert cause.type_name.startswith("tests.isolation.stage_functions.")
    assert str(cause) == f"{cause.type_name}: {text}"
    assert "Traceback" in cause.__notes__[0]


def test_sys_exit_is_the_stages_error_as_in_a_thread() -> None:
    """It ends the stage, not the worker."""
    with pytest.raises(PipelineError) as caught:
        isolated(fns.fail, "exit").run(stdout=DEVNULL)
    assert isinstance(caught.value.cause, SystemExit)


def test_finish_early_is_a_success_and_forgives_upstream() -> None:
    """`yes` dies of a closed pipe, which is no failure."""
    assert (command("yes") | isolated(fns.take_two)).output() == b"y\ny\n"


def test_a_reader_that_leaves_is_a_closed_pipe_for_it() -> None:
    """And so forgiven where the reader finished early."""
    result = (source([TEXT] * 10) | isolated(fns.copy) | command("head", "-n", "1")).run(stdout=CAPTURE)
    assert result.stdout == b"0\n"
    assert isinstance(result.stages[1].error, BrokenPipeError)


def test_on_exception_is_asked_in_the_host() -> None:
    """It sees the exception as it came back, and what it returns is the stage's error."""
    seen: list[tuple[str, BaseException, int]] = []

    def handler(stage: str, error: BaseException) -> BaseException:
        seen.append((stage, error, os.getpid()))
        return LookupError("instead")

    with pytest.raises(PipelineError, match="instead"):
        isolated(fns.fail, "known").run(stdout=DEVNULL, on_exception=handler)
    ((stage, error, pid),) = seen
    assert (stage, type(error), pid) == ("fail", fns.KnownError, os.getpid())


@pytest.mark.parametrize(
    ("how", "text"),
    [("_exit", "exit status 3"), ("SIGKILL", "signal: killed"), ("SIGSEGV", "signal: segmentation fault")],
)
def test_a_worker_that_dies_is_an_error_that_says_how(how: str, text: str) -> None:
    """It names the stage, and the run ends; the next one gets another worker."""
    with pytest.raises(PipelineError) as caught:
        (isolated(fns.die, how) | command("cat")).run(stdout=DEVNULL, on_exception=lambda *_: None)
    cause = caught.value.cause
    assert isinstance(cause, WorkerDied)
    assert caught.value.stage == "die"
    assert str(cause) == f"its worker process died: {text}"
    if how != "_exit":
        assert penstock.is_signal(getattr(signal, how))(cause)
    assert cause.pid == caught.value.result.stages[0].pid  # type: ignore[union-attr]
    copied = pickle.loads(pickle.dumps(cause))
    assert (str(copied), copied.pid) == (str(cause), cause.pid)
    assert isolated(fns.copy).output(input=b"on") == b"on"


@pytest.mark.parametrize("what", ["lambda", "closure", "open file"])
def test_stages_that_cannot_be_sent_are_refused_when_they_are_made(what: str, tmp_path: Path) -> None:
    """With the stage's name, and what to do about it."""
    with (tmp_path / "file").open("w") as file:
        functions: dict[str, Any] = {
            "lambda": lambda _ctx, _stdin, _stdout: None,
            "closure": Recorder.wait_for.__get__(Recorder()),
            "open file": partial(fns.copy, file),
        }
        with pytest.raises(TypeError, match=r"stage 'named' cannot be sent .*top level of a module"):
            function(functions[what], isolate="process", name="named")


def test_an_unknown_way_to_isolate_is_refused() -> None:
    """There is one."""
    with pytest.raises(ValueError, match="isolate must be None or 'process', not 'thread'"):
        map_lines(bytes.upper, isolate="thread")  # type: ignore[arg-type]


# How it is cancelled.


@pytest.mark.parametrize("mechanism", ["pidfd", "no pidfd"])
@pytest.mark.parametrize("fn", [fns.wait_for_input, fns.check_now_and_then])
def test_cancel_wakes_it_with_the_reason(
    fn: Callable[..., object], mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a read, and in `ctx.check()`; its process is not used again."""
    if mechanism == "no pidfd":
        worker_pool.shutdown()
        monkeypatch.setattr(features, "PIDFD", False)
    recorder = Recorder()
    run = isolated(fn).start(stdin=PIPE, stdout=DEVNULL, on_event=recorder, grace=60)
    pid = recorder.wait_for("ready").context["pid"]
    run.cancel("enough")
    with pytest.raises(penstock.PipelineCancelled, match="enough"):
        run.wait()
    if fn is fns.wait_for_input:
        assert recorder.of("woken")[0].context == {"error": "enough", "cancelled": True}
    assert reaped(pid)
    assert pid not in worker_pool.idle_pids()


def test_a_reason_of_a_class_of_the_users_reaches_it() -> None:
    """As far as it can be sent."""
    recorder = Recorder()
    run = isolated(fns.wait_for_input).start(stdin=PIPE, stdout=DEVNULL, on_event=recorder)
    recorder.wait_for("ready")
    reason = fns.KnownError(12)
    run.cancel(reason)
    with pytest.raises(penstock.PipelineCancelled) as caught:
        run.wait()
    assert caught.value.cause is reason
    assert recorder.of("woken")[0].context["error"] == "12"


@pytest.mark.slow
@pytest.mark.parametrize("fn", [fns.heed_nothing, fns.stop_itself])
def test_a_stage_that_ignores_its_cancellation_is_killed_with_its_children(fn: Callable[..., object]) -> None:
    """Once the grace time is over, whatever state it is in."""
    recorder = Recorder()
    begun = time.monotonic()
    with pytest.raises(penstock.PipelineTimeout):
        isolated(fn).run(timeout=1.0, grace=0.1, on_event=recorder)
    assert time.monotonic() - begun < 1.0 + 0.1 + 1.0
    context = recorder.wait_for("ready").context
    assert all(gone(pid) for pid in context.values())


@pytest.mark.usefixtures("no_idle")
def test_a_stage_that_was_never_begun_gives_its_worker_back() -> None:
    """Where a later stage cannot be started, its function is not called, and its process stays as it was."""
    with pytest.raises(StartError):
        (isolated(fns.say, "no") | command("/no/such/program")).run()
    (idle,) = worker_pool.idle_pids()
    assert isolated(fns.pid).output() == b"%d\n" % idle


# Whose the processes are.


@pytest.mark.usefixtures("no_idle")
def test_workers_are_used_again_and_few_stay() -> None:
    """One after the other use one process; no more than the bound stay of many at once."""
    assert len({isolated(fns.pid).output() for _ in range(3)}) == 1
    runs = [
        isolated(fns.copy).start(stdin=PIPE, stdout=DEVNULL) for _ in range(worker_pool._MAX_IDLE_WORKERS + 2)
    ]
    for run in runs:
        with run:
            pass
    assert len(worker_pool.idle_pids()) == worker_pool._MAX_IDLE_WORKERS


@pytest.mark.usefixtures("no_idle")
def test_an_idle_worker_that_was_killed_is_not_used() -> None:
    """Nor does it stay a zombie."""
    first = int(isolated(fns.pid).output())
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert int(isolated(fns.pid).output()) != first


@pytest.mark.usefixtures("no_idle")
def test_idle_workers_leave_when_their_time_is_over(set_timing: SetTiming) -> None:
    """The supervisor sends them away and reaps them."""
    set_timing(worker_idle_s=0.05)
    child = psutil.Process(int(isolated(fns.pid).output()))
    child.wait(DEADLINE)
    assert not worker_pool.idle_pids()


@pytest.mark.usefixtures("no_idle")
def test_it_starts_without_glibcs_spawn_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """By subprocess, where there is no other way."""
    monkeypatch.setattr(features, "GLIBC_SPAWN", False)
    assert isolated(fns.copy).output(input=b"x") == b"x"


@pytest.mark.usefixtures("no_idle")
def test_a_forked_copy_of_the_host_forgets_them() -> None:
    """It neither uses nor ends the workers of its parent, and may have its own."""
    pid = int(isolated(fns.pid).output())
    child = os.fork()
    if child == 0:
        status = 1
        try:
            worker_pool.shutdown()
            if not worker_pool.idle_pids() and int(isolated(fns.pid).output()) != pid:
                worker_pool.shutdown()
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert int(isolated(fns.pid).output()) == pid

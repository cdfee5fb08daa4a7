"""The fields of events, and the handlers of all runs: `penstock.on_event`."""

from __future__ import annotations

import contextlib
import contextvars
import os
import threading
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from tests.isolation import stage_functions as fns
from tests.support.interrupts import Interruption
from tests.support.processes import sh
from tests.support.waiting import DEADLINE, until

from penstock import (
    DEVNULL,
    Event,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    Secret,
    StartError,
    command,
    echo,
    function,
    ignore_error,
    is_sigpipe,
    map_lines,
    memory_observer,
    on_event,
    tee,
)
from penstock.runtime import events as runtime_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.hosts import Host

SLEEP = command("sleep", "1000")


@pytest.fixture
def heard() -> Iterator[list[Event]]:
    """The events of all runs of the process."""
    events: list[Event] = []
    stop = on_event(events.append)
    yield events
    stop()


def _run(pipeline: Pipeline, **options: Any) -> list[Event]:
    events: list[Event] = []
    defaults: dict[str, Any] = {"stdout": DEVNULL, "check": False, "on_event": events.append}
    pipeline.run(**defaults | options)
    return events


def _of(events: list[Event], kind: str) -> Event:
    (event,) = [event for event in events if event.kind == kind]
    return event


# Fields.


def test_an_event_of_a_command_says_which_process_it_is_about() -> None:
    events = _run(sh("exit 3"), name="mine")
    start, failed = _of(events, "start"), _of(events, "failed")
    assert start.argv == failed.argv == ("sh", "-c", "exit 3")
    assert start.pid == failed.pid == start.context["pid"]
    assert (start.returncode, start.elapsed) == (None, None)
    assert failed.returncode == 3
    assert failed.elapsed is not None
    assert 0 < failed.elapsed < DEADLINE


def test_the_run_has_the_first_event_and_the_last() -> None:
    first, *_, last = _run(echo("a") | command("cat"), name="mine")
    assert (first.kind, first.stage, first.message) == ("run-start", "", "started: mine")
    assert first.context == {"pipeline": "mine", "stages": 2}
    assert (last.kind, last.stage, last.message, last.error) == ("run-end", "", "ended", None)
    assert last.elapsed is not None
    assert (last.argv, last.stage_id, last.pid) == (None, None, None)


def test_the_stages_are_known_by_the_ids_of_the_plan() -> None:
    pipeline = command("cat") | command("cat") | map_lines(bytes.upper, name="cat")
    ids = [node.id for node in pipeline.explain().nodes if node.kind != "endpoint"]
    starts = [event.stage_id for event in _run(pipeline) if event.kind == "start"]
    assert starts == ids


def test_a_run_has_one_id_and_no_other_run_has_it(heard: list[Event]) -> None:
    for _ in range(3):
        (echo("a") | Pipeline(command("cat"), on_event=lambda _: None)).run(stdout=DEVNULL)
    ids = [event.run_id for event in heard if event.kind == "run-start"]
    assert len(set(ids)) == 3
    assert Counter(event.run_id for event in heard) == dict.fromkeys(ids, 6)


def test_secrets_in_arguments_are_masked() -> None:
    events = _run(command("true", Secret("hunter2"), b"--token=" + b"x"))
    assert _of(events, "start").argv == ("true", "***", "--token=x")
    assert "hunter2" not in repr(events)


def test_a_python_stage_has_no_argv_and_no_pid() -> None:
    events = _run(function(lambda _c, _i, _o: None, name="fn"))
    assert {(event.argv, event.pid, event.returncode) for event in events} == {(None, None, None)}
    assert _of(events, "exit").elapsed is not None


def test_values_of_a_message_do_not_become_fields() -> None:
    events = _run(function(lambda ctx, _i, _o: ctx.emit("text", pid="mine", returncode="mine")))
    event = _of(events, "message")
    assert (event.pid, event.returncode, event.context["pid"]) == (None, None, "mine")


# Ends.


def test_a_status_that_counts_as_success_is_an_exit() -> None:
    assert _of(_run(command("sh", "-c", "exit 3", ok_codes=(0, 3))), "exit").returncode == 3


def test_a_forgiven_failure_is_one_of_the_stage_and_not_of_the_run() -> None:
    events = _run(command("yes") | command("head", "-1"))
    failed = _of(events, "failed")
    assert (failed.stage, failed.returncode) == ("yes", -13)
    assert events[-1].error is None
    events = _run(ignore_error(command("yes"), is_sigpipe) | command("head", "-1"))
    assert events[-1].error is None


def test_a_failure_is_told_once() -> None:
    def fail(_ctx: Any, _stdin: Any, _stdout: Any) -> None:
        raise KeyError("mine")

    for pipeline in (sh("exit 3") | command("cat"), function(fail) | command("cat")):
        events = _run(pipeline)
        assert [event.kind for event in events].count("failed") == 1
        assert isinstance(events[-1].error, PipelineError)


def test_a_failure_of_an_end_names_the_end() -> None:
    class Full:
        def write(self, _data: bytes) -> int:
            raise OSError("full")

    events = _run(echo("a"), stdout=Full())
    assert _of(events, "failed").stage == "stdout"
    assert _of(events, "failed").elapsed is None
    assert str(events[-1].error) == "stdout: full"


@pytest.mark.parametrize("missing", [{"cwd": "/no/such/folder"}, {"stdin": "/no/such/file"}])
def test_a_run_that_cannot_start_has_an_end(missing: dict[str, Any]) -> None:
    events = _run(command("cat"), **missing)
    assert [event.kind for event in events] == ["run-start", "start-failed", "run-end"]
    assert isinstance(events[-1].error, StartError)
    assert isinstance(events[1].error, FileNotFoundError)


def test_a_timeout_is_the_error_of_the_run() -> None:
    events = _run(SLEEP, timeout=0.5)
    assert [event.kind for event in events] == [
        "run-start", "start", "cancelled", "exit", "failed", "run-end",
    ]  # fmt: skip
    cancelled = _of(events, "cancelled")
    assert (cancelled.returncode, cancelled.context["collateral"]) == (-15, False)
    assert isinstance(events[-1].error, PipelineTimeout)


def test_stages_that_end_for_the_sake_of_others_are_collateral() -> None:
    events = _run(SLEEP | sh("exit 3"), fail_fast=True)
    assert _of(events, "cancelled").context["collateral"] is True
    assert [event.kind for event in events].count("failed") == 1


def test_an_iterator_that_is_closed_early_is_a_success(heard: list[Event]) -> None:
    lines = command("yes").iter_lines()
    next(lines)
    lines.close()
    until(lambda: heard[-1:] and heard[-1].kind == "run-end")
    assert heard[-1].error is None


# The handlers of all runs.


def test_a_handler_hears_all_runs_until_it_is_ended() -> None:
    events: list[Event] = []
    command("true").run()
    stop = on_event(events.append)
    command("true").run()
    assert [event.kind for event in events] == ["run-start", "start", "exit", "run-end"]
    stop()
    stop()
    command("true").run()
    assert len(events) == 4


def test_a_handler_that_is_ended_hears_no_more_of_runs_that_go_on() -> None:
    events: list[Event] = []
    stop = on_event(events.append)
    run = SLEEP.start()
    until(lambda: len(events) == 2)
    stop()
    run.cancel()
    run.wait(check=False)
    assert len(events) == 2


def test_a_run_that_had_begun_is_not_heard() -> None:
    events: list[Event] = []
    run = SLEEP.start()
    stop = on_event(events.append)
    run.cancel()
    run.wait(check=False)
    stop()
    assert events == []


def test_handlers_are_called_in_their_order_and_the_runs_own_first() -> None:
    order: list[str] = []
    stops = [on_event(lambda _event, name=name: order.append(name)) for name in ("one", "two")]  # type: ignore[misc]
    command("true").run(on_event=lambda _event: order.append("own"))
    for stop in stops:
        stop()
    assert order == ["own", "one", "two"] * 4


def test_a_handler_that_raises_harms_neither_the_run_nor_the_others(
    heard: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_event: Event) -> None:
        raise KeyError("mine")

    stop = on_event(fail)
    second: list[Event] = []
    stop_second = on_event(second.append)
    assert command("true").run().ok
    stop()
    stop_second()
    assert len(heard) == len(second) == 4
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 4


def test_nested_pipelines_with_a_handler_of_their_own_are_heard_once(heard: list[Event]) -> None:
    inner: list[Event] = []
    outer: list[Event] = []
    nested = Pipeline(sh("cat; exit 3", name="inner"), on_event=inner.append)
    (echo("a") | nested).run(stdout=DEVNULL, check=False, on_event=outer.append)
    assert [event.kind for event in inner] == ["start", "failed"]
    assert [event.kind for event in outer if event.stage == "inner"] == ["failed"]
    assert [event.kind for event in heard if event.stage == "inner"] == ["start", "failed"]
    assert [heard[0].kind, heard[-1].kind] == ["run-start", "run-end"]


def test_observers_of_memory_are_heard_too(heard: list[Event]) -> None:
    own: list[Event] = []
    memory_observer(command("sleep", "1"), on_event=own.append).run()
    (peak,) = own
    assert peak.kind == "memory-peak"
    assert peak in heard
    assert peak.run_id == heard[0].run_id


def test_worker_processes_are_heard(heard: list[Event]) -> None:
    function(fns.emit_many, isolate="process").run(stdout=DEVNULL)
    assert _of(heard, "start").pid is not None
    assert heard[-1].kind == "run-end"
    assert [event.kind for event in heard].count("message") > 1
    assert len({event.run_id for event in heard}) == 1


def test_graphs_are_heard(heard: list[Event]) -> None:
    (command("echo", "a") | tee(command("cat", name="branch").to(DEVNULL)) | command("cat")).output()
    ends = Counter(event.stage_id for event in heard if event.kind == "exit")
    starts = Counter(event.stage_id for event in heard if event.kind == "start")
    assert starts == ends
    assert set(starts.values()) == {1}
    assert len(starts) == 4


def test_runs_of_many_threads_are_told_apart(heard: list[Event]) -> None:
    def work() -> None:
        for _ in range(5):
            (echo("a") | command("cat")).run(stdout=DEVNULL)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runs: defaultdict[int | None, list[str]] = defaultdict(list)
    for event in heard:
        runs[event.run_id].append(event.kind)
    assert len(runs) == 30
    for kinds in runs.values():
        assert kinds[0] == "run-start"
        assert kinds[-1] == "run-end"
        assert sorted(kinds[1:-1]) == ["exit", "exit", "start", "start"]


def test_runs_that_are_cancelled_have_an_end(heard: list[Event]) -> None:
    runs = [(SLEEP | command("cat")).start(stdout=DEVNULL) for _ in range(5)]
    for run in runs:
        run.cancel("enough")
    for run in runs:
        run.wait(check=False)
    until(lambda: [event.kind for event in heard].count("run-end") == 5)
    ends = [event for event in heard if event.kind == "run-end"]
    assert all(isinstance(event.error, PipelineCancelled) for event in ends)


CALLER: contextvars.ContextVar[str] = contextvars.ContextVar("caller", default="none")


def test_handlers_run_in_the_context_of_the_caller(heard: list[Event]) -> None:
    seen: list[str] = []
    stop = on_event(lambda _event: seen.append(CALLER.get()))
    for name in ("one", "two"):
        token = CALLER.set(name)
        command("true").run(on_event=lambda _event: CALLER.set("changed"))
        CALLER.reset(token)
    stop()
    assert CALLER.get() == "none"
    assert len(seen) == len(heard) == 8
    assert set(seen) == {"changed"}  # of the same run, whose own handler comes first
    seen.clear()
    stop = on_event(lambda _event: seen.append(CALLER.get()))
    token = CALLER.set("three")
    command("true").run()
    CALLER.reset(token)
    stop()
    assert seen == ["three"] * 4


@pytest.mark.parametrize("handler", [None, 3, "text"])
def test_a_handler_must_be_callable(handler: Any) -> None:
    with pytest.raises(TypeError, match="handler"):
        on_event(handler)


def test_a_forked_copy_keeps_the_handlers(host: Host) -> None:
    out = host.output(
        """
        import penstock
        penstock.on_event(lambda event: say(event.kind))
        pid = os.fork()
        if pid == 0:
            command("true").run()
            os._exit(0)
        os.waitpid(pid, 0)
        """
    )
    assert out.split() == ["run-start", "start", "exit", "run-end"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("first", range(3))
def test_an_interrupt_at_any_moment_loses_and_doubles_no_end(first: int) -> None:
    """A run that was told of has a first and a last event, each once."""
    pipeline = command("true") | command("cat")
    pipeline.run(stdout=DEVNULL, on_event=lambda _event: None)
    turn = 1 + first
    while True:
        events: list[Event] = []
        interruption = Interruption(turn)
        with contextlib.suppress(KeyboardInterrupt), interruption:
            pipeline.run(stdout=DEVNULL, on_event=events.append)
        if events:
            until(lambda events=events: events[-1].kind == "run-end")  # type: ignore[misc]
            kinds = [event.kind for event in events]
            assert (kinds[0], kinds.count("run-start"), kinds.count("run-end")) == ("run-start", 1, 1)
            ends = [event.stage_id for event in events if event.kind in {"exit", "failed"} and event.elapsed]
            assert len(ends) == len(set(ends)), (kinds, interruption.where)
            starts = [event.stage_id for event in events if event.kind == "start"]
            assert sorted(starts) == sorted(ends), (kinds, interruption.where)  # type: ignore[type-var]
        if interruption.left > 0:
            return
        turn += 17


# No cost where nobody listens.


def test_a_run_without_listeners_builds_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    build: Callable[..., Event] = runtime_events.new_event

    def counted(*given: Any, **named: Any) -> Event:
        made.append(given)
        return build(*given, **named)

    monkeypatch.setattr(runtime_events, "new_event", counted)

    def quiet() -> None:
        (echo("a") | command("cat")).run(stdout=DEVNULL)
        with contextlib.suppress(PipelineError):
            sh("exit 3").run()
        with contextlib.suppress(PipelineError):
            SLEEP.run(timeout=0.05)
        with contextlib.suppress(StartError):
            command("/no/such/program").run()

    quiet()
    assert made == []
    stop = on_event(lambda _event: None)
    quiet()
    stop()
    assert len(made) > 10


def test_a_run_without_listeners_loads_nothing_for_them() -> None:
    """In a process of its own, in which no test has loaded it."""
    code = """
        import sys
        from penstock import command
        command("true").run()
        print([name for name in sys.modules if "event_log" in name or "observing" in name or
            "listeners" in name or name in ("logging", "penstock.core.events", "penstock.logging")])
    """
    import subprocess
    import sys
    import textwrap

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True,
        env={**os.environ},
    )  # fmt: skip
    assert done.stdout == "[]\n"

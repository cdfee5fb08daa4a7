"""Events and handlers: what is told, in which order, and what a handler may do."""

from __future__ import annotations

import contextvars
import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import sh
from tests.support.waiting import DEADLINE

from penstock import (
    DEVNULL,
    Event,
    FinishEarly,
    Pipeline,
    PipelineError,
    StartError,
    command,
    each_line,
    echo,
    function,
    map_lines,
    source,
    transform,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLEEP = command("sleep", "1000")


def _told(pipeline: Pipeline, **options: Any) -> list[Event]:
    events: list[Event] = []
    defaults: dict[str, Any] = {"stdout": DEVNULL, "check": False, "on_event": events.append}
    pipeline.run(**defaults | options)
    return events


def _kinds(events: list[Event], stage: str) -> list[str]:
    return [event.kind for event in events if event.stage == stage]


# What is told.


def test_a_command_starts_and_exits() -> None:
    _, start, end, _ = _told(command("true"))
    assert (start.kind, start.stage) == ("start", "true")
    assert (end.kind, end.stage, end.error) == ("exit", "true", None)
    assert start.context["pid"] == end.context.get("pid", start.context["pid"])
    assert end.context["returncode"] == 0


def test_every_stage_starts_in_order_before_it_ends() -> None:
    events = _told(echo("a", name="one") | sh("cat", name="two") | map_lines(bytes.upper, name="three"))
    assert [event.stage for event in events if event.kind == "start"] == ["one", "two", "three"]
    for stage in ("one", "two", "three"):
        assert _kinds(events, stage) == ["start", "exit"]


def test_a_failed_stage_has_an_event_and_the_run_has_the_last() -> None:
    def fail(_ctx: Any, _stdin: Any, _stdout: Any) -> None:
        raise KeyError("mine")

    events = _told(sh("exit 3") | function(fail, name="fn"))
    ends = {event.stage: event for event in events if event.kind == "failed"}
    assert str(ends["sh"].error) == "exit status 3"
    assert str(ends["fn"].error) == "'mine'"
    assert (events[-1].kind, events[-1].stage, str(events[-1].error)) == ("run-end", "", "sh: exit status 3")


def test_a_stage_that_could_not_start_is_told() -> None:
    events = _told(SLEEP | command("/no/such/program", name="missing"))
    assert _kinds(events, "missing") == ["start-failed"]
    assert _kinds(events, "sleep")[0] == "start"
    assert "cancelled" in _kinds(events, "sleep")
    event = next(event for event in events if event.kind == "start-failed")
    assert isinstance(event.error, FileNotFoundError)


@pytest.mark.parametrize("options", [{"timeout": 0.05}, {"fail_fast": True}])
def test_a_stage_that_was_cancelled_is_told(options: dict[str, Any]) -> None:
    second = SLEEP if "timeout" in options else sh("exit 3")
    events = _told(SLEEP | second, **options)
    assert "cancelled" in _kinds(events, "sleep")
    event = next(event for event in events if event.kind == "cancelled" and event.stage == "sleep")
    assert event.error is not None


def test_an_early_end_is_not_a_failure() -> None:
    def early(_ctx: Any, _stdin: Any, _stdout: Any) -> None:
        raise FinishEarly

    events = _told(function(early, name="fn"))
    assert _kinds(events, "fn") == ["start", "exit"]
    assert events[-1].error is None


def test_stages_of_nested_pipelines_are_told_too() -> None:
    nested = Pipeline(sh("exit 3", name="inner"), name="nested")
    assert "failed" in _kinds(_told(nested | sh("cat", name="outer")), "inner")


def test_a_nested_pipeline_may_have_a_handler_of_its_own() -> None:
    inner: list[Event] = []
    nested = Pipeline(sh("cat", name="inner"), on_event=inner.append)
    events = _told(echo("a", name="outer") | nested)
    assert {event.stage for event in inner} == {"inner"}
    assert _kinds(inner, "inner") == ["start", "exit"]
    assert _kinds(events, "outer") == ["start", "exit"]


def test_a_stage_can_tell_something_itself() -> None:
    def fn(ctx: Any, _stdin: Any, _stdout: Any) -> None:
        ctx.emit("halfway", rows=12)

    event = next(event for event in _told(function(fn, name="fn")) if event.message == "halfway")
    assert (event.stage, dict(event.context)) == ("fn", {"rows": 12})


def test_the_kinds_are_those_of_the_contract() -> None:
    known = {"run-start", "start", "exit", "failed", "start-failed", "cancelled", "run-end"}
    events = _told(sh("exit 3") | SLEEP, fail_fast=True) + _told(command("/no/such/program"))
    assert {event.kind for event in events} == known


# What an event is.


def test_an_event_is_a_frozen_dataclass() -> None:
    event = _told(command("true"))[0]
    names = [field.name for field in dataclasses.fields(event)]
    assert names[:6] == ["kind", "stage", "message", "error", "context", "time"]
    assert names[6:] == ["argv", "stage_id", "run_id", "pid", "returncode", "elapsed"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.kind = "other"  # type: ignore[misc]
    assert isinstance(event.message, str)
    assert event.message


def test_times_are_in_order_and_since_the_epoch() -> None:
    before = time.time()
    times = [event.time for event in _told(echo("a") | command("cat"))]
    assert times == sorted(times)
    assert before - 1 <= times[0] <= times[-1] <= time.time() + 1


# Handlers.


def test_events_of_one_run_come_one_at_a_time_and_in_order() -> None:
    inside = threading.Lock()
    seen: list[str] = []

    def note(event: Event) -> None:
        assert inside.acquire(blocking=False)
        seen.append(event.message)
        inside.release()

    def fn(ctx: Any, _stdin: Any, _stdout: Any) -> None:
        for number in range(500):
            ctx.emit(str(number))

    function(fn).run(stdout=DEVNULL, on_event=note)
    assert [message for message in seen if message.isdigit()] == [str(number) for number in range(500)]


def test_events_of_a_quick_handler_are_complete_when_run_returns() -> None:
    for _ in range(50):
        assert [event.kind for event in _told(command("true"))] == ["run-start", "start", "exit", "run-end"]


def test_a_slow_handler_does_not_delay_the_run(stubborn: Any, within: Any) -> None:
    with within(1):
        assert (echo("a") | command("cat")).run(stdout=DEVNULL, on_event=stubborn).ok


def test_a_slow_handler_does_not_delay_other_runs(stubborn: Any, within: Any) -> None:
    blocked = SLEEP.start(on_event=stubborn)
    with within(1):
        other = (echo("a") | command("cat")).start(stdout=DEVNULL)
        assert other.wait(DEADLINE).ok
    blocked.cancel()
    blocked.wait(check=False)


def test_a_slow_stderr_callable_does_not_delay_other_runs(stubborn: Any, within: Any) -> None:
    blocked = sh("echo x >&2; exec sleep 1000").start(stderr=stubborn)
    with within(1):
        other = sh("echo y >&2").start(stdout=DEVNULL)
        assert other.wait(DEADLINE).ok
    blocked.cancel()
    blocked.wait(check=False)


@pytest.mark.parametrize("error", [KeyError("mine"), SystemExit(3), KeyboardInterrupt()])
def test_a_handler_that_raises_never_breaks_the_run(error: BaseException) -> None:
    seen: list[str] = []

    def note(event: Event) -> None:
        seen.append(event.kind)
        raise error

    assert (echo("a") | command("cat")).run(stdout=DEVNULL, on_event=note).ok
    assert sorted(seen) == ["exit", "exit", "run-end", "run-start", "start", "start"]


def test_handlers_do_not_run_on_the_supervisor() -> None:
    names: list[str] = []
    run = sh("echo x >&2").start(
        stdout=DEVNULL,
        on_event=lambda _event: names.append(threading.current_thread().name),
        stderr=lambda _line: names.append(threading.current_thread().name),
    )
    run.wait()
    assert len(names) == 5
    assert "penstock-supervisor" not in names
    assert "MainThread" not in names


def test_a_handler_may_start_and_wait_for_runs() -> None:
    outputs: list[bytes] = []

    def note(event: Event) -> None:
        if event.kind == "exit":
            outputs.append(command("echo", event.stage).output())

    run = command("true").start(on_event=note)
    run.wait()
    assert outputs == [b"true\n"]


def test_a_handler_may_cancel_the_run() -> None:
    runs: list[Any] = []
    ready = threading.Event()

    def note(event: Event) -> None:
        if event.kind == "start":
            ready.wait(DEADLINE)
            runs[0].cancel()

    runs.append(SLEEP.start(on_event=note))
    ready.set()
    assert str(runs[0].wait(DEADLINE, check=False).error) == "cancelled"


# on_exception.


def _raises(error: BaseException) -> dict[str, Pipeline]:
    def fail(*_given: object) -> Any:
        raise error

    def chunks() -> Iterator[bytes]:
        yield b"a"
        raise error

    return {
        "function": function(fail, name="fn"),
        "transform": transform(fail, name="fn"),
        "map_lines": map_lines(fail, name="fn"),
        "each_line": each_line(fail, name="fn"),
        "source": source(chunks(), name="fn"),
        "fused": map_lines(bytes.upper) | map_lines(fail, name="fn") | map_lines(bytes.lower),
    }


@pytest.mark.parametrize("kind", _raises(KeyError()))
def test_on_exception_sees_the_very_exception_and_the_stages_name(kind: str) -> None:
    mine = KeyError("mine")
    seen: list[tuple[str, BaseException]] = []

    def see(stage: str, error: BaseException) -> BaseException:
        seen.append((stage, error))
        return error

    with pytest.raises(PipelineError) as raised:
        _raises(mine)[kind].run(input=b"a\n", stdout=DEVNULL, on_exception=see)
    assert seen == [("fn", mine)]
    assert raised.value.cause is mine


@pytest.mark.parametrize("kind", _raises(KeyError()))
def test_on_exception_may_swallow(kind: str) -> None:
    pipeline = _raises(KeyError("mine"))[kind]
    assert pipeline.run(input=b"a\n", stdout=DEVNULL, on_exception=lambda _stage, _error: None).ok


@pytest.mark.parametrize("kind", _raises(KeyError()))
def test_on_exception_may_replace(kind: str) -> None:
    other = OSError("other")
    with pytest.raises(PipelineError) as raised:
        _raises(KeyError("mine"))[kind].run(input=b"a\n", stdout=DEVNULL, on_exception=lambda *_: other)
    assert raised.value.cause is other


def test_on_exception_may_re_raise_or_raise_another() -> None:
    mine, other = KeyError("mine"), OSError("other")

    def again(_stage: str, error: BaseException) -> BaseException:
        raise error

    def another(_stage: str, _error: BaseException) -> BaseException:
        raise other

    for handler, expected in ((again, mine), (another, other)):
        result = _raises(mine)["function"].run(stdout=DEVNULL, check=False, on_exception=handler)
        assert result.error is not None
        assert result.error.cause is expected


def test_on_exception_may_make_it_an_early_end() -> None:
    pipeline = command("yes") | _raises(KeyError("mine"))["function"]
    handler: Callable[..., BaseException] = lambda *_: FinishEarly()  # noqa: E731 - as short as what it does
    assert pipeline.run(stdout=DEVNULL, on_exception=handler, pipe_errors="report").ok


def test_on_exception_sees_no_commands_early_ends_or_cancellations() -> None:
    seen: list[object] = []

    def early(_ctx: Any, _stdin: Any, _stdout: Any) -> None:
        raise FinishEarly

    pipelines = [command("false"), function(early), SLEEP | function(lambda _c, i, _o: i.read())]
    for pipeline in pipelines:
        handler: Callable[..., None] = lambda *given: seen.append(given)  # noqa: E731 - as above
        pipeline.run(stdout=DEVNULL, timeout=0.1, check=False, on_exception=handler)
    assert seen == []


# Contextvars.

REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


def _shows_request(_ctx: Any, _stdin: Any, stdout: Any) -> None:
    stdout.write(REQUEST.get().encode())


@pytest.mark.parametrize("whose", ["command", "pipeline"])
def test_env_callables_see_the_starters_context(whose: str) -> None:
    env: dict[str, Any] = {"REQUEST": REQUEST.get}
    stage = command("printenv", "REQUEST", env=env if whose == "command" else None)
    pipeline = Pipeline(stage, env=env) if whose == "pipeline" else stage
    for value in ("one", "two"):
        token = REQUEST.set(value)
        assert pipeline.text() == f"{value}\n"
        REQUEST.reset(token)
    assert pipeline.text() == "none\n"


def test_functions_see_the_starters_context() -> None:
    token = REQUEST.set("mine")
    try:
        run = (function(_shows_request) | command("cat")).start(stdout=DEVNULL)
        assert (function(_shows_request) | command("cat")).output() == b"mine"
    finally:
        REQUEST.reset(token)
    run.wait()
    assert function(_shows_request).output() == b"none"


def test_context_variables_set_by_a_function_stay_its_own() -> None:
    def sets(_ctx: Any, stdin: Any, stdout: Any) -> None:
        stdin.read()
        REQUEST.set("changed")
        stdout.write(b"x")

    assert (function(sets) | function(_shows_request)).output() == b"none"
    assert REQUEST.get() == "none"


@pytest.mark.parametrize("make", [map_lines, transform])
def test_other_python_stages_see_it_too(make: Any) -> None:
    def fn(given: Any) -> Any:
        value = REQUEST.get().encode()
        return value if make is map_lines else [value + b"\n" for _ in given]

    token = REQUEST.set("mine")
    try:
        assert (echo("a") | make(fn) | map_lines(bytes.upper)).output() == b"MINE\n"
    finally:
        REQUEST.reset(token)


def test_a_start_error_is_raised_after_its_events() -> None:
    events: list[Event] = []
    with pytest.raises(StartError):
        command("/no/such/program").run(on_event=events.append)
    assert "start-failed" in [event.kind for event in events]

"""Spans of runs and commands, their parents, and the context of children."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import SpanKind, StatusCode
from tests.support.processes import sh

from penstock import (
    DEVNULL,
    PIPE,
    Pipeline,
    PipelineError,
    Secret,
    StartError,
    command,
    echo,
    function,
    map_lines,
    tee,
)
from penstock.otel import PenstockInstrumentor

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from tests.otel.conftest import Telemetry

SHOW = command("printenv", "TRACEPARENT")


def _parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else int(span.parent.span_id)


def _id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def _traceparent(span: ReadableSpan) -> str:
    assert span.context is not None
    flags = span.context.trace_flags
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{flags:02x}"


# What a span says.


def test_a_run_is_a_span_and_each_command_one_below_it(telemetry: Telemetry) -> None:
    (echo("b\na") | command("sort") | map_lines(bytes.upper) | command("cat")).run(stdout=DEVNULL)
    names = sorted(span.name for span in telemetry.spans)
    assert names == ["cat", "echo | sort | upper | cat", "sort"]
    run = telemetry.spans[-1]
    assert (run.kind, run.status.status_code, _parent(run)) == (SpanKind.INTERNAL, StatusCode.UNSET, None)
    assert run.attributes == {"penstock.pipeline.stages": 4}
    for name in ("sort", "cat"):
        span = telemetry.span(name)
        assert (span.kind, _parent(span)) == (SpanKind.CLIENT, _id(run))
        assert span.status.status_code is StatusCode.UNSET


def test_a_command_has_the_attributes_of_the_conventions(telemetry: Telemetry) -> None:
    result = command("/bin/sh", "-c", "exit 3").run(check=False, name="mine")
    span = telemetry.span("sh")
    assert span.attributes == {
        "process.executable.name": "sh",
        "process.executable.path": "/bin/sh",
        "process.pid": result.stages[0].pid,
        "process.exit.code": 3,
        "error.type": "3",
    }
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "exit status 3")
    run = telemetry.span("mine")
    assert run.attributes == {
        "penstock.pipeline.name": "mine", "penstock.pipeline.stages": 1, "error.type": "3",
    }  # fmt: skip
    assert (run.status.status_code, run.status.description) == (StatusCode.ERROR, "/bin/sh: exit status 3")


def test_a_span_lasts_as_long_as_the_command(telemetry: Telemetry) -> None:
    result = command("sleep", "0.2").run(name="run")
    span, run = telemetry.span("sleep"), telemetry.span("run")
    assert span.start_time is not None
    assert span.end_time is not None
    assert run.start_time is not None
    assert run.end_time is not None
    assert 0.2 <= (span.end_time - span.start_time) / 1e9 <= result.elapsed + 0.1
    assert run.start_time <= span.start_time <= span.end_time <= run.end_time


@pytest.mark.parametrize("asked", [False, True])
def test_arguments_are_recorded_only_if_asked_for(bare: Telemetry, asked: bool) -> None:  # noqa: FBT001
    bare.instrument(capture_args=asked)
    command("true", "--token", Secret("hunter2")).run()
    attributes = bare.spans[0].attributes or {}
    assert attributes.get("process.command_args") == (("true", "--token", "***") if asked else None)


def test_arguments_can_be_asked_for_by_the_environment(
    bare: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_PENSTOCK_CAPTURE_ARGS", "true")
    bare.instrument()
    command("true", "x").run()
    assert (bare.spans[0].attributes or {})["process.command_args"] == ("true", "x")


def test_text_of_stderr_is_in_no_span(telemetry: Telemetry) -> None:
    sh("echo private >&2; exit 3").run(check=False)
    assert "private" not in "".join(span.to_json() for span in telemetry.spans)


# Failures.


def test_a_forgiven_pipe_error_leaves_the_status_unset(telemetry: Telemetry) -> None:
    (command("yes") | command("head", "-1")).run(stdout=DEVNULL, name="run")
    span = telemetry.span("yes")
    assert span.status.status_code is StatusCode.UNSET
    assert (span.attributes or {})["error.type"] == "SIGPIPE"
    assert telemetry.span("run").status.status_code is StatusCode.UNSET


def test_a_deadline_is_the_error_of_command_and_run(telemetry: Telemetry) -> None:
    command("sleep", "1000").run(timeout=0.5, check=False, name="run")
    span, run = telemetry.span("sleep"), telemetry.span("run")
    assert span.attributes is not None
    assert (span.attributes["process.exit.code"], span.attributes["error.type"]) == (-15, "TimeoutError")
    assert span.status.status_code is StatusCode.ERROR
    assert (run.attributes or {})["error.type"] == "penstock.PipelineTimeout"


def test_a_stage_that_ends_for_another_one_has_no_status(telemetry: Telemetry) -> None:
    (command("sleep", "1000") | sh("exit 3")).run(fail_fast=True, check=False, name="run")
    assert telemetry.span("sleep").status.status_code is StatusCode.UNSET
    assert telemetry.span("sh").status.status_code is StatusCode.ERROR
    assert telemetry.span("run").status.status_code is StatusCode.ERROR


def test_a_command_that_cannot_start_has_a_span(telemetry: Telemetry) -> None:
    pipeline = command("sleep", "1000") | command("/no/such/program") | command("cat")
    with pytest.raises(StartError):
        pipeline.run(name="run")
    assert sorted(span.name for span in telemetry.spans) == ["program", "run", "sleep"]
    span = telemetry.span("program")
    assert (span.attributes or {})["error.type"] == "FileNotFoundError"
    assert span.status.status_code is StatusCode.ERROR
    assert (telemetry.span("run").attributes or {})["error.type"] == "penstock.StartError"


def test_an_exception_of_a_function_is_named_by_its_type(telemetry: Telemetry) -> None:
    def fail(_ctx: Any, _stdin: Any, _stdout: Any) -> None:
        raise KeyError("mine")

    function(fail).run(check=False)
    (span,) = telemetry.spans
    assert (span.attributes or {})["error.type"] == "KeyError"


# Parents.


def test_the_callers_span_is_the_parent(telemetry: Telemetry) -> None:
    with telemetry.tracer.start_as_current_span("request") as request:
        command("true").run(name="run")
        assert trace.get_current_span() is request
    assert _parent(telemetry.span("run")) == request.get_span_context().span_id


def test_a_run_that_ends_later_has_the_span_that_it_was_started_in(telemetry: Telemetry) -> None:
    with telemetry.tracer.start_as_current_span("request") as request:
        run = command("cat").start(stdin=PIPE, name="run")
    with run:
        pass
    assert _parent(telemetry.span("run")) == request.get_span_context().span_id


def test_threads_have_their_own_parents(telemetry: Telemetry) -> None:
    def work(number: int) -> None:
        with telemetry.tracer.start_as_current_span(f"request {number}"):
            for _ in range(3):
                (echo("a") | command("cat")).run(stdout=DEVNULL, name=f"run {number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(telemetry.spans) == 4 * (1 + 3 * 2)
    for number in range(4):
        request = telemetry.span(f"request {number}")
        runs = [span for span in telemetry.spans if span.name == f"run {number}"]
        assert [_parent(span) for span in runs] == [_id(request)] * 3


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_the_span_of_the_task_is_the_parent(telemetry: Telemetry, library: str) -> None:
    import anyio

    async def main() -> None:
        async def one(number: int) -> None:
            with telemetry.tracer.start_as_current_span(f"request {number}"):
                await command("cat").arun(input=b"a", stdout=DEVNULL, name=f"run {number}")
                async with command("cat").astart(input=b"a", stdout=DEVNULL, name=f"started {number}") as run:
                    await run.wait()

        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(one, number)

    anyio.run(main, backend=library)
    for number in range(3):
        request = telemetry.span(f"request {number}")
        for name in (f"run {number}", f"started {number}"):
            assert _parent(telemetry.span(name)) == _id(request)


def test_runs_of_a_function_stage_are_below_its_run(telemetry: Telemetry) -> None:
    def nest(_ctx: Any, _stdin: Any, stdout: Any) -> None:
        stdout.write(command("echo", "a").output(name="inner"))

    function(nest).run(stdout=DEVNULL, name="outer")
    assert _parent(telemetry.span("inner")) == _id(telemetry.span("outer"))


def test_spans_of_nested_pipelines_and_graphs_are_complete(telemetry: Telemetry) -> None:
    nested = Pipeline(command("cat", name="a"), on_event=lambda _event: None)
    (command("echo", "x") | nested | tee(command("wc").to(DEVNULL)) | command("head")).output(name="run")
    assert sorted(span.name for span in telemetry.spans) == ["cat", "echo", "head", "run", "wc"]
    run = telemetry.span("run")
    assert {_parent(span) for span in telemetry.spans if span is not run} == {_id(run), None} - {None}


def test_a_pipeline_without_a_current_span_continues_the_trace_of_its_environment(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer = f"00-{'1' * 32}-{'2' * 16}-01"
    monkeypatch.setenv("TRACEPARENT", outer)
    text = SHOW.text(name="run")
    run = telemetry.span("run")
    assert run.parent is not None
    assert (run.parent.trace_id, run.parent.span_id) == (int("1" * 32, 16), int("2" * 16, 16))
    assert text.strip() == _traceparent(telemetry.span("printenv"))


def test_handlers_see_the_span_of_the_run(telemetry: Telemetry) -> None:
    seen: list[int] = []
    command("true").run(
        name="run", on_event=lambda _: seen.append(trace.get_current_span().get_span_context().span_id)
    )
    assert set(seen) == {_id(telemetry.span("run"))}


# The context of children.


def test_children_get_the_context_of_their_command(telemetry: Telemetry) -> None:
    assert SHOW.text(name="run").strip() == _traceparent(telemetry.span("printenv"))


def test_the_users_variables_are_kept(telemetry: Telemetry) -> None:
    mine = {"TRACEPARENT": "mine"}
    assert command("printenv", "TRACEPARENT", env=mine).text() == "mine\n"
    assert Pipeline(SHOW, env=mine).text() == "mine\n"
    assert Pipeline(Pipeline(SHOW), env=mine).text() == "mine\n"
    assert command("printenv", "A", env={"A": "b"}).text() == "b\n"
    assert telemetry.spans


def test_an_environment_of_its_own_has_the_context_too(telemetry: Telemetry) -> None:
    text = command("/usr/bin/env").text(inherit_env=False, env={"A": "b"}, name="run")
    assert sorted(text.split()) == ["A=b", f"TRACEPARENT={_traceparent(telemetry.span('env'))}"]


def test_env_callables_are_called_once_a_run(telemetry: Telemetry) -> None:
    calls: list[int] = []

    def value() -> str:
        calls.append(trace.get_current_span().get_span_context().span_id)
        return "x"

    (command("true") | command("true")).run(env={"A": value}, name="run")
    assert calls == [_id(telemetry.span("run"))]


def test_baggage_reaches_children_and_stale_state_does_not(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACESTATE", "other=1")
    token = context.attach(baggage.set_baggage("user", "me"))
    try:
        with telemetry.tracer.start_as_current_span("request"):
            text = command("env").text()
    finally:
        context.detach(token)
    assert "BAGGAGE=user=me\n" in text
    assert "TRACESTATE" not in text


def test_a_python_stage_sees_the_context_of_the_run(telemetry: Telemetry) -> None:
    seen: list[str] = []
    function(lambda ctx, _i, _o: seen.append(ctx.environ["TRACEPARENT"])).run(name="run")
    assert seen == [_traceparent(telemetry.span("run"))]


def test_a_child_that_uses_penstock_continues_the_trace(telemetry: Telemetry) -> None:
    text = command(sys.executable, "-c", "import os; print(os.environ['TRACEPARENT'])").text().strip()
    found = propagate.extract({"traceparent": text})
    (span, _) = telemetry.spans
    assert trace.get_current_span(found).get_span_context().span_id == _id(span)


# On and off.


def test_no_span_is_made_once_it_is_off(bare: Telemetry) -> None:
    bare.instrument()
    run = command("cat").start(stdin=PIPE)
    PenstockInstrumentor().uninstrument()
    command("true").run()
    with run:
        pass
    assert sorted(span.name for span in bare.spans) == ["cat", "cat"]
    assert command("sh", "-c", "echo $TRACEPARENT").text() == "\n"


def test_instrumentation_can_be_suppressed(telemetry: Telemetry) -> None:
    with suppress_instrumentation():
        command("true").run()
    assert telemetry.spans == []


def test_an_observer_that_raises_harms_no_run(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_given: object, **_named: object) -> None:
        raise KeyError("mine")

    monkeypatch.setattr(propagate, "inject", fail)
    assert (echo("a") | command("cat")).text() == "a\n"
    monkeypatch.setattr(telemetry.spans_provider.sampler, "should_sample", fail)
    assert (echo("a") | command("cat")).text() == "a\n"
    with pytest.raises(PipelineError):
        sh("exit 3").run()
    assert {record.levelname for record in caplog.records if record.name == "penstock"} == {"ERROR"}


def test_runs_that_are_cancelled_leave_no_span_open(telemetry: Telemetry) -> None:
    for _ in range(5):
        run = (command("sleep", "1000") | command("cat")).start(stdout=DEVNULL)
        run.cancel()
        run.wait(check=False)
    assert len(telemetry.spans) == 15
    assert all(span.end_time is not None for span in telemetry.spans)

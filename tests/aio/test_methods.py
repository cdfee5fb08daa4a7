"""The async methods are the sync ones: the same names, parameters, results and errors."""

from __future__ import annotations

import contextvars
import inspect
import os
import subprocess
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from penstock import (
    CAPTURE,
    DEVNULL,
    PIPE,
    Event,
    FinishEarly,
    Pipeline,
    PipelineError,
    Result,
    command,
    echo,
    filter_lines,
    function,
    ignore_error,
    is_error,
    map_lines,
    source,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from penstock import StageContext


def _raise(_line: bytes) -> bytes:
    raise ValueError("wrong line")


def _early(_ctx: StageContext, stdin: Any, stdout: Any) -> None:
    stdout.write(stdin.readline())
    raise FinishEarly


SLEEP = command("sleep", "60")
PIPELINES: dict[str, tuple[Pipeline, dict[str, Any]]] = {
    "command": (command("echo", "a"), {}),
    "commands": (command("printf", "b\na\n") | command("sort"), {}),
    "function": (map_lines(bytes.upper), {"input": b"a\nb"}),
    "mixed": (source([b"1\n", b"x\n"]) | command("cat") | filter_lines(bytes.isdigit), {}),
    "nothing": (command("true"), {}),
    "empty": (Pipeline(), {"input": "text"}),
    "options": (Pipeline(command("pwd"), cwd="/"), {}),
    "env": (command("sh", "-c", "echo $X"), {"env": {"X": lambda: "called"}}),
    "nested": (Pipeline(Pipeline(command("cat"), name="inner"), command("cat")), {"input": b"x"}),
    "status": (command("sh", "-c", "echo out; echo err >&2; exit 3") | command("cat"), {}),
    "signal": (command("sh", "-c", "kill -KILL $$"), {}),
    "raises": (echo("a") | map_lines(_raise), {}),
    "missing": (SLEEP | command("/no/such"), {}),
    "cwd": (command("true"), {"cwd": "/no/such"}),
    "early": (command("yes") | function(_early), {}),
    "forgiven": (command("yes") | command("head", "-n", "1"), {}),
    "reported": (command("yes") | command("head", "-n", "1"), {"pipe_errors": "report"}),
    "ignored": (ignore_error(command("false"), is_error(PipelineError)), {}),
    "timeout": (SLEEP, {"timeout": 0.05}),
    "fail-fast": (SLEEP | command("false"), {"fail_fast": True}),
    "stdin": (command("cat"), {"stdin": iter([b"one", b"two"])}),
}


def _verdict(call: Callable[[], Any]) -> tuple[Any, ...]:
    """What a call returned or raised, as far as two runs of the same pipeline have it in common."""
    try:
        return ("returned", _comparable(call()))
    except Exception as error:  # noqa: BLE001 - the error is what is compared
        return ("raised", *_error(error))


async def _averdict(call: Callable[[], Any]) -> tuple[Any, ...]:
    try:
        return ("returned", _comparable(await call()))
    except Exception as error:  # noqa: BLE001 - as above
        return ("raised", *_error(error))


def _error(error: BaseException | None) -> tuple[Any, ...]:
    parts: tuple[Any, ...] = (type(error), str(error))
    if isinstance(error, PipelineError):
        parts += (error.stage, error.index, type(error.cause), getattr(error, "__notes__", None))
        assert error.result is not None
        parts += (_comparable(error.result, nested=True),)
    return parts


def _comparable(value: Any, *, nested: bool = False) -> Any:
    if not isinstance(value, Result):
        return value
    stages = [(each.name, each.kind, each.returncode, str(each.error), each.stderr) for each in value.stages]
    return (value.ok, value.stdout, stages, None if nested else _error(value.error))


async def _collect(chunks: AsyncIterator[bytes]) -> list[bytes]:
    return [chunk async for chunk in chunks]


def _pipeline(name: str) -> tuple[Pipeline, dict[str, Any]]:
    pipeline, options = PIPELINES[name]
    if "stdin" in options:  # an iterator is used up by a run
        options = {**options, "stdin": iter([b"one", b"two"])}
    return pipeline, options


async def _in_block(pipeline: Pipeline, **options: Any) -> Result:
    async with pipeline.astart(**options) as run:
        pass
    return await run.wait(check=False)


def _in_sync_block(pipeline: Pipeline, **options: Any) -> Result:
    with pipeline.start(**options) as run:
        pass
    return run.wait(check=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", PIPELINES)
async def test_each_method_gives_what_its_sync_twin_gives(name: str) -> None:
    """The same values, the same errors with the same results, over all kinds of pipelines."""

    def pair(sync: Callable[..., Any], other: Callable[..., Any], **more: Any) -> tuple[Any, Any]:
        def one() -> Any:
            options = _pipeline(name)[1]
            return sync(**options, **more)

        def two() -> Any:
            options = _pipeline(name)[1]
            return other(**options, **more)

        return one, two

    pipeline = PIPELINES[name][0]
    calls = [
        pair(pipeline.run, pipeline.arun, stdout=CAPTURE),
        pair(pipeline.run, pipeline.arun, stdout=CAPTURE, check=False),
        pair(pipeline.output, pipeline.aoutput),
        pair(pipeline.text, pipeline.atext),
        pair(
            lambda **options: b"".join(pipeline.iter_bytes(**options)),
            lambda **options: _joined(pipeline.aiter_bytes(**options)),
        ),
        pair(
            lambda **options: list(pipeline.iter_lines(**options)),
            lambda **options: _collect(pipeline.aiter_lines(**options)),
        ),
        pair(partial(_in_sync_block, pipeline), partial(_in_block, pipeline), stdout=CAPTURE),
    ]
    for sync, other in calls:
        expected = _verdict(sync)
        assert await _averdict(other) == expected


async def _joined(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join(await _collect(chunks))


@pytest.mark.parametrize("name", ["run", "output", "text", "iter_bytes", "iter_lines", "start"])
def test_each_method_has_the_parameters_of_its_sync_twin(name: str) -> None:
    """Names, kinds and defaults; `start`'s other call, as a stage, is its own."""
    sync = inspect.signature(getattr(Pipeline, name)).parameters
    other = inspect.signature(getattr(Pipeline, f"a{name}")).parameters
    if name == "start":
        assert [each.kind for each in other.values()] == [
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.VAR_KEYWORD,
        ]
        return
    assert [(each.name, each.kind, each.default) for each in other.values()] == [
        (each.name, each.kind, each.default) for each in sync.values()
    ]


def test_an_async_run_has_what_a_run_has() -> None:
    """The same public names, and `wait` and `cancel` take the same."""
    from penstock import Run
    from penstock.api.async_run import AsyncRun

    for name in ("wait", "cancel", "stop_source"):
        sync = inspect.signature(getattr(Run, name)).parameters
        other = inspect.signature(getattr(AsyncRun, name)).parameters
        assert [(each.name, each.kind, each.default) for each in other.values()] == [
            (each.name, each.kind, each.default) for each in sync.values()
        ]
    promised = {"wait", "cancel", "done", "pids", "send_signal", "snapshot", "stdin", "stdout", "stop_source"}
    own = {name for name in {*dir(AsyncRun), *AsyncRun.__annotations__} if not name.startswith("_")}
    assert own == promised


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"no_such": 1}, "no_such"),
    "type": ({"timeout": "1"}, "timeout"),
    "value": ({"timeout": -1}, "timeout"),
    "together": ({"input": b"", "stdin": "/dev/null"}, "input and stdin"),
    "closed": ({"stdin": 987654}, "stdin"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_in_an_option_is_the_same_error(mistake: str) -> None:
    """Before anything starts, naming the option; from what returns an iterator, when it is called."""
    options, named = MISTAKES[mistake]
    pipeline = command("cat")
    with pytest.raises((TypeError, ValueError), match=named) as caught:
        pipeline.run(**options)
    for call in (pipeline.arun, pipeline.aoutput, pipeline.atext):
        with pytest.raises(caught.type, match=named):
            await call(**options)
    for make in (pipeline.aiter_bytes, pipeline.aiter_lines, pipeline.astart):
        with pytest.raises(caught.type, match=named):
            make(**options)


@pytest.mark.parametrize("method", ["aiter_bytes", "astart"])
async def test_a_descriptor_that_was_closed_before_the_start_is_an_error_that_names_stdin(
    method: str,
) -> None:
    """The run is planned when it starts; a number may be that of another descriptor by then."""
    read_end, write_end = os.pipe()
    pending = getattr(command("cat"), method)(stdin=read_end)
    os.close(read_end)
    os.close(write_end)
    with pytest.raises(ValueError, match="stdin"):
        await (pending.__anext__() if method == "aiter_bytes" else pending.__aenter__())


async def test_options_that_a_method_sets_itself_are_refused() -> None:
    """The message names the async method, and the one to use."""
    with pytest.raises(TypeError, match=r"aoutput\(\).*astart\(\)"):
        await command("cat").aoutput(stdout=DEVNULL)
    with pytest.raises(ValueError, match=r"stdout=PIPE needs astart\(\): arun\(\)"):
        await command("cat").arun(stdout=PIPE)
    with pytest.raises(TypeError, match=r"aiter_bytes\(\) sets stdout itself"):
        command("cat").aiter_bytes(stdout=DEVNULL)
    with pytest.raises(LookupError):
        await command("cat").atext("no-such-encoding")


async def test_many_runs_go_on_at_once() -> None:
    """100 on one loop, each with its own result, and no thread for each of them."""
    results: dict[int, str] = {}
    most = 0

    async def one(number: int) -> None:
        nonlocal most
        results[number] = await (command("echo", str(number)) | command("cat")).atext()
        most = max(most, threading.active_count())

    before = threading.active_count()
    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(one, number)
    assert results == {number: f"{number}\n" for number in range(100)}
    assert most <= before + 6  # the supervisor, those who start runs, and who tells of ends


async def test_callables_at_the_start_see_the_callers_context() -> None:
    """The environment's callables, and functions that run in threads."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="default")
    variable.set("caller")
    seen: list[str] = []

    def look(_ctx: StageContext, stdin: Any, stdout: Any) -> None:
        seen.append(variable.get())
        stdout.writelines(stdin.chunks())

    pipeline = command("sh", "-c", "echo $X", env={"X": variable.get}) | function(look)
    assert await pipeline.atext() == "caller\n"
    assert seen == ["caller"]


async def test_a_function_stage_may_run_an_event_loop_of_its_own() -> None:
    """Its thread is no event loop's, though its context is a copy of a task's."""

    def inner(_ctx: StageContext, _stdin: Any, stdout: Any) -> None:
        stdout.write(anyio.run(command("echo", "inner").aoutput))

    assert await function(inner).aoutput() == b"inner\n"


async def test_events_are_all_delivered_before_the_result() -> None:
    """As after `run()`."""
    events: list[Event] = []
    await (command("true") | command("true")).arun(on_event=events.append)
    assert sorted(event.kind for event in events) == [
        "exit",
        "exit",
        "run-end",
        "run-start",
        "start",
        "start",
    ]


def test_without_anyio_the_error_says_what_to_install() -> None:
    """And the rest of the package works."""
    code = """
import sys
sys.modules["anyio"] = None
from penstock import command
print(command("echo", "sync").text(), end="")
try:
    command("true").aiter_bytes()
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "sync\nthe async methods need anyio: pip install 'penstock[async]'\n"

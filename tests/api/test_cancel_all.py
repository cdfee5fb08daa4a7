"""`cancel_all` ends every run of the process: of any thread, loop or method, also those being started."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE, until

from penstock import (
    CAPTURE,
    DEVNULL,
    PIPE,
    FinishEarly,
    PipelineCancelled,
    cancel_all,
    command,
    function,
    source,
    transform,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future, ThreadPoolExecutor

    from tests.support.hosts import Host
    from tests.support.processes import Strays

    from penstock import Pipeline

CRY = command("sh", "-c", "echo $$ >>$PIDS; exec sleep 1000")


def _sleep(ctx: Any, stdin: Any, _stdout: Any) -> None:
    with open(ctx.environ["PIDS"], "a") as file:  # noqa: PTH123 - beside the shells, which append to it
        file.write(f"{os.getpid()}\n")
    stdin.read()


def _nested(ctx: Any, _stdin: Any, _stdout: Any) -> None:
    CRY.run(env=dict(ctx.environ))


WAYS: dict[str, Callable[[Pipeline, dict[str, str]], object]] = {
    "run": lambda pipeline, env: pipeline.run(env=env),
    "output": lambda pipeline, env: pipeline.output(env=env),
    "stderr": lambda pipeline, env: pipeline.run(env=env, stderr=CAPTURE, timeout=1000),
    "iter_lines": lambda pipeline, env: list(pipeline.iter_lines(env=env)),
    "wait": lambda pipeline, env: pipeline.start(env=env).wait(),
    "stdin": lambda pipeline, env: pipeline.run(env=env, input=b"x" * 1_000_000),
}
PIPELINES = {
    "command": CRY,
    "pipeline": CRY | command("cat"),
    "beside a function": CRY | transform(lambda chunks: chunks) | command("cat"),
    "nested": function(_nested),
    "isolated": CRY | function(_sleep, isolate="process"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_it_ends_runs_of_other_threads(
    threads: ThreadPoolExecutor, strays: Strays, within: Any, way: str, pipeline: str
) -> None:
    """Promptly, also those that no other thread had to do with before."""
    if way == "stdin" and pipeline == "nested":
        pytest.skip("a function without commands of its own run takes its input")
    jobs = [threads.submit(WAYS[way], PIPELINES[pipeline], strays.env) for _ in range(2)]
    strays.pids(4 if pipeline == "isolated" else 2)
    with within(DEADLINE if pipeline == "isolated" else 0.9):  # a worker process is of no hurry
        cancel_all("enough")
        for job in jobs:
            error = job.exception(DEADLINE)
            assert isinstance(error, PipelineCancelled)
            assert "enough" in str(error)


def test_a_function_alone_is_ended(threads: ThreadPoolExecutor) -> None:
    """Its driver sleeps on a lock. With a deadline no function works in the caller's thread."""
    begun = threading.Event()

    def wait(_ctx: Any, stdin: Any, _stdout: Any) -> None:
        begun.set()
        stdin.read()

    never = threading.Event()

    def endless() -> Any:
        yield b"x"
        never.wait()

    try:
        job = threads.submit((source(endless()) | function(wait)).run, grace=0.2, timeout=1000)
        assert begun.wait(DEADLINE)
        cancel_all()
        assert isinstance(job.exception(DEADLINE), PipelineCancelled)
    finally:
        never.set()


def test_the_reason_is_an_exception_or_a_text(threads: ThreadPoolExecutor, strays: Strays) -> None:
    """An exception is the cause of the error of each run."""
    jobs = [threads.submit(CRY.run, env=strays.env) for _ in range(2)]
    strays.pids(2)
    reason = LookupError("gone")
    cancel_all(reason)
    for job in jobs:
        error = job.exception(DEADLINE)
        assert isinstance(error, PipelineCancelled)
        assert error.cause is reason


@pytest.mark.parametrize("reason", [3, FinishEarly(), FinishEarly, b"x"])
def test_a_mistake_is_named_whether_or_not_there_are_runs(reason: Any) -> None:
    with pytest.raises(TypeError, match="reason"):
        cancel_all(reason)


def test_without_runs_it_does_nothing_and_later_runs_are_not_affected() -> None:
    cancel_all()
    cancel_all("twice")
    assert command("echo", "hi").output() == b"hi\n"
    with command("cat").start(stdin=PIPE, stdout=DEVNULL) as run:
        pass
    assert run.wait().ok


def test_runs_that_are_being_started_are_ended_too(threads: ThreadPoolExecutor) -> None:
    """However the calls fall: each run that was begun before ends soon after."""
    stop = threading.Event()

    def work() -> list[type]:
        ends = []
        while not stop.is_set():
            try:
                command("sleep", "1000").run()
            except PipelineCancelled as error:
                ends.append(type(error))
        return ends

    jobs: list[Future[list[type]]] = [threads.submit(work) for _ in range(4)]
    for _ in range(50):
        cancel_all()
    stop.set()
    until(lambda: cancel_all() or all(job.done() for job in jobs))
    assert all(set(job.result()) <= {PipelineCancelled} for job in jobs)


def test_a_run_that_was_made_before_is_not_even_started(host: Host) -> None:
    """The cancellation comes between the making of a run and its start."""
    said = host.output(
        """
        from penstock.engine import inline_run, managed_run

        class Late(managed_run.ManagedRun):
            def start(self):
                cancel_all("late")
                super().start()

        inline_run.ManagedRun = Late
        error = None
        try:
            command("sh", "-c", "echo started").run()
        except PipelineCancelled as raised:
            error = raised
        say(error, error.result.returncodes)
        """
    )
    assert "late (None,)" in said


@pytest.mark.parametrize("method", ["run", "output", "start", "function"])
def test_a_signal_handler_may_call_it(host: Host, method: str) -> None:
    """In the thread that drives the run, whose sleep it interrupts, in any state of that."""
    said = host.output(
        f"""
        def handle(signum, frame):
            cancel_all("terminated")

        signal.signal(signal.SIGTERM, handle)

        def wait(ctx, stdin, stdout):
            say("ready")
            stdin.read()

        cry = command("sh", "-c", "kill -TERM $PPID; exec sleep 1000")
        began = time.monotonic()
        r, w = os.pipe()
        ways = {{
            "run": lambda: cry.run(),
            "output": lambda: (cry | command("cat")).output(),
            "start": lambda: cry.start().wait(),
            "function": lambda: (threading.Timer(0.1, os.kill, (os.getpid(), 15)).start(),
                                 function(wait).run(stdin=r)),
        }}
        try:
            ways[{method!r}]()
        except PipelineCancelled as error:
            say(error, time.monotonic() - began < 0.9)
        """
    )
    assert "terminated True" in said


def test_runs_of_event_loops_are_ended(host: Host) -> None:
    """Those that wait for their start, that run, and that are iterated over."""
    said = host.output(
        """
        import asyncio

        async def iterate(pipeline):
            async for line in pipeline.aiter_lines():
                pass

        async def main():
            sleep = command("sleep", "1000")
            jobs = [sleep.arun(), sleep.aoutput(), iterate(sleep | command("cat"))]
            tasks = [asyncio.ensure_future(job) for job in jobs]
            await asyncio.sleep(0)
            cancel_all("now")
            first = await asyncio.gather(*tasks, return_exceptions=True)
            error = None
            try:
                async with command("sleep", "1000").astart() as run:
                    cancel_all("then")
                    await run.wait()
            except PipelineCancelled as raised:
                error = raised
            say([type(error).__name__ for error in first], type(error).__name__)

        asyncio.run(main())
        """
    )
    assert said == "['PipelineCancelled', 'PipelineCancelled', 'PipelineCancelled'] PipelineCancelled\n"

"""In `run()`, `output()` and `text()` the caller's thread works off a pipeline of Python stages alone."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE, until

from penstock import (
    DEVNULL,
    CaptureLimitExceeded,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    cancel_all,
    command,
    echo,
    function,
    ignore_error,
    map_lines,
    source,
    transform,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.fixtures import SetTiming
    from tests.support.hosts import Host

    from penstock import Event

DEEP = 600
"""Frames of a stack that is nearly full, and that has room for a run by workers."""


class _Threads:
    """Notes the threads in which stages work."""

    def __init__(self) -> None:
        self.seen: set[threading.Thread] = set()

    def note(self) -> None:
        self.seen.add(threading.current_thread())

    def copy(self, _ctx: Any, stdin: Any, stdout: Any) -> None:
        self.note()
        stdout.write(stdin.read())

    def pass_on(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.note()
            yield chunk

    def upper(self, line: bytes) -> bytes:
        self.note()
        return line.upper()

    @property
    def only_the_callers(self) -> bool:
        assert self.seen
        return self.seen == {threading.current_thread()}


@pytest.fixture
def used(set_timing: SetTiming) -> _Threads:
    """No stage is given a further thread because time goes by."""
    set_timing(stage_stall_s=3600.0)
    return _Threads()


PIPELINES: dict[str, Callable[[_Threads], Pipeline]] = {
    "function": lambda used: function(used.copy),
    "row of functions": lambda used: function(used.copy) | function(used.copy) | function(used.copy),
    "chain": lambda used: transform(used.pass_on) | map_lines(used.upper),
    "both": lambda used: function(used.copy) | map_lines(used.upper) | function(used.copy),
    "nested": lambda used: Pipeline(function(used.copy)) | Pipeline(map_lines(used.upper), name="inner"),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_the_callers_thread_works(used: _Threads, name: str) -> None:
    pipeline = PIPELINES[name](used)
    assert pipeline.output(input=b"a\n").upper() == b"A\n"
    assert pipeline.text(input="a\n").upper() == "A\n"
    assert pipeline.run(input=b"a\n", stdout=DEVNULL).ok
    assert used.only_the_callers


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 1000},
        {"idle_timeout": 1000},
        {"fail_fast": True},
        {"on_exception": lambda _name, exc: exc},
    ],
    ids=lambda options: next(iter(options)),
)
def test_workers_work_if_a_function_may_have_to_be_left(
    used: _Threads, name: str, options: dict[str, Any]
) -> None:
    assert PIPELINES[name](used).output(input=b"a\n", **options).upper() == b"A\n"
    assert threading.current_thread() not in used.seen
    if "idle_timeout" in options:  # of the outermost pipeline alone
        return
    assert Pipeline(PIPELINES[name](used), echo("b"), **options).output(input=b"a\n") == b"b\n"
    assert (Pipeline(PIPELINES[name](used), **options) | echo("b")).output(input=b"a\n") == b"b\n"
    assert threading.current_thread() not in used.seen


def test_workers_work_beside_a_command_and_for_a_run_that_goes_on(used: _Threads) -> None:
    copy = function(used.copy)
    assert (command("printf", "a") | copy).output() == b"a"
    assert list((echo("a") | copy).iter_bytes()) == [b"a\n"]
    assert (echo("a") | copy).start(stdout=DEVNULL).wait().ok
    assert threading.current_thread() not in used.seen


def test_workers_work_inside_an_event_loop(used: _Threads) -> None:
    """A function may run a loop of its own, which a thread with a running loop may not."""

    def loops(_ctx: Any, _stdin: Any, stdout: Any) -> None:
        used.note()
        asyncio.run(asyncio.sleep(0))
        stdout.write(b"a")

    async def main() -> bytes:
        return function(loops).output()

    assert asyncio.run(main()) == b"a"
    assert threading.current_thread() not in used.seen
    used.seen.clear()
    assert function(loops).output() == b"a"
    assert used.only_the_callers


def test_workers_work_if_the_callers_stack_is_deep(used: _Threads) -> None:
    chain = Pipeline(*[transform(used.pass_on) for _ in range(50)])

    def deep(frames: int) -> bytes:
        return deep(frames - 1) if frames else chain.output(input=b"a")

    assert deep(DEEP) == b"a"
    assert threading.current_thread() not in used.seen


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exit_of_the_program_goes_through_unchanged(
    used: _Threads, name: str, kind: type[BaseException]
) -> None:
    raised = kind("from the stage")

    def fails(_ctx: Any, stdin: Any, _stdout: Any) -> None:
        stdin.read()
        raise raised

    def generate(chunks: Iterator[bytes]) -> Iterator[bytes]:
        yield from chunks
        raise raised

    def line(_line: bytes) -> bytes:
        raise raised

    for stage in (function(fails), transform(generate), map_lines(line)):
        for pipeline in (PIPELINES[name](used) | stage, stage | PIPELINES[name](used)):
            with pytest.raises(kind) as caught:
                pipeline.run(input=b"a\n", stdout=DEVNULL, check=False)
            assert caught.value is raised
    assert function(used.copy).output(input=b"a") == b"a"


def test_an_exception_of_a_signal_handler_goes_through_unchanged() -> None:
    """As it does out of `subprocess.run`; it is no failure of the stage in which it happens to arrive."""

    class Alarm(Exception):  # noqa: N818 - a signal is no error
        pass

    def ring(_signum: int, _frame: object) -> None:
        raise Alarm

    def waits(_ctx: Any, _stdin: Any, _stdout: Any) -> None:
        signal.raise_signal(signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with pytest.raises(Alarm):
            (function(waits) | function(lambda _ctx, stdin, _stdout: stdin.read())).run()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_key_stroke_arrives_in_the_function(host: Host) -> None:
    """Where Python programmers expect it: the function may tidy up, or go on as if nothing had happened."""
    said = host.output("""
import signal, time

def tidies(_ctx, _stdin, stdout):
    try:
        signal.raise_signal(signal.SIGINT)
        time.sleep(1000)
    finally:
        print("tidied up")

def goes_on(_ctx, _stdin, stdout):
    try:
        signal.raise_signal(signal.SIGINT)
        time.sleep(1000)
    except KeyboardInterrupt:
        stdout.write(b"went on")

try:
    (function(tidies) | function(lambda ctx, stdin, stdout: stdin.read())).run()
except KeyboardInterrupt:
    print("interrupted")
print(function(goes_on).text())
""")
    assert said.split("\n")[:3] == ["tidied up", "interrupted", "went on"]


def test_a_failure_is_the_stages_as_ever() -> None:
    def fails(_ctx: Any, _stdin: Any, _stdout: Any) -> None:
        raise LookupError("no")

    with pytest.raises(PipelineError, match="no") as caught:
        (echo("a") | function(fails, name="f")).run()
    assert caught.value.stage == "f"
    assert (echo("a") | ignore_error(function(fails), lambda error: isinstance(error, LookupError))).run().ok


def test_too_much_output_ends_an_endless_source() -> None:
    with pytest.raises(PipelineError) as caught:
        source(itertools.repeat(b"x" * 4096)).output(max_output="64KiB")
    assert isinstance(caught.value.cause, CaptureLimitExceeded)


@pytest.mark.parametrize(
    "reads",
    [
        lambda begun: function(lambda _ctx, stdin, _stdout: (begun.set(), stdin.read())),
        lambda begun: transform(lambda chunks: (begun.set(), *chunks)[1:]),
    ],
    ids=["function", "chain"],
)
def test_cancel_all_wakes_a_function_that_reads(reads: Callable[[threading.Event], Pipeline]) -> None:
    begun = threading.Event()
    read_end, write_end = os.pipe()
    with ThreadPoolExecutor(1) as pool, open(read_end) as stdin, open(write_end, "w"):  # noqa: PTH123
        job = pool.submit(reads(begun).run, stdin=stdin, stdout=DEVNULL)
        assert begun.wait(DEADLINE)
        cancel_all()
        assert isinstance(job.exception(DEADLINE), PipelineCancelled)


def test_cancel_all_waits_for_a_function_that_does_something_else() -> None:
    """Nothing can be left in the middle in the thread of the caller, who wants it back."""
    begun, over = threading.Event(), threading.Event()

    def busy(_ctx: Any, _stdin: Any, _stdout: Any) -> None:
        begun.set()
        assert over.wait(DEADLINE)
        done.append(True)

    done: list[bool] = []
    events: list[Event] = []
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(function(busy).run, stdout=DEVNULL, grace=0, on_event=events.append)
        assert begun.wait(DEADLINE)
        cancel_all()
        until(lambda: any(event.kind == "abandoned" for event in events))
        assert not job.done()
        over.set()
        assert isinstance(job.exception(DEADLINE), PipelineCancelled)
    assert done == [True]


def test_functions_have_a_copy_of_the_callers_context() -> None:
    number = contextvars.ContextVar("number", default=0)
    seen: list[int] = []

    def note(_ctx: Any, stdin: Any, stdout: Any) -> None:
        seen.append(number.get())
        number.set(2)
        stdout.write(stdin.read())

    def generate(chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            seen.append(number.get())
            number.set(3)
            yield chunk

    number.set(1)
    assert (function(note) | transform(generate)).output(input=b"a") == b"a"
    assert (seen, number.get()) == ([1, 1], 1)


def test_a_function_may_run_pipelines_itself(used: _Threads) -> None:
    """The waiting stages of both runs get threads, when the inner run sleeps for one of the outer."""
    mebibyte = bytes(1 << 20)

    def inner(_ctx: Any, _stdin: Any, stdout: Any) -> None:
        used.note()
        data = (source([mebibyte] * 8) | function(used.copy) | function(used.copy)).output()
        for _ in range(2):
            stdout.write(data)

    result = (function(inner) | function(used.copy)).output()
    assert len(result) == 16 << 20
    assert threading.current_thread() in used.seen


def test_a_run_after_the_other_leaves_nothing(used: _Threads) -> None:
    """Nothing of a run is left for the supervisor, which sleeps meanwhile."""
    kept: set[int] = set()

    class Text(bytes):
        def __del__(self) -> None:
            kept.discard(id(self))

    for _ in range(100):
        data = Text(b"a\n")
        kept.add(id(data))
        assert (source([data]) | map_lines(used.upper)).output() == b"A\n"
        del data
    assert not kept

"""What a custom stage is, asks for, is told and is given."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE

import penstock
from penstock import (
    DEVNULL,
    PIPE,
    Event,
    Input,
    Output,
    Pipeline,
    Requirements,
    RunningStage,
    Stage,
    StageContext,
    Stream,
    command,
    function,
    map_lines,
)
from penstock.streams.memory_pipe import MemoryPipe
from penstock.system.fds import pipe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Custom:
    """A stage whose work is `work(ctx, stdin, stdout)`, done in wait()."""

    def __init__(
        self,
        work: Callable[[StageContext, Input, Output], object],
        stdin: Stream = Stream.ANY,
        stdout: Stream = Stream.ANY,
    ) -> None:
        self.name = "custom"
        self.requirements = Requirements(stdin, stdout)
        self.work = work

    def start(self, ctx: StageContext, stdin: Input, stdout: Output, /) -> RunningCustom:
        return RunningCustom(self.work, ctx, stdin, stdout)


class RunningCustom:
    def __init__(self, work: Any, ctx: StageContext, stdin: Input, stdout: Output) -> None:
        self.work = work
        self.given = ctx, stdin, stdout
        self.streams = (
            stdin.reader if stdin.fd is None else None,
            stdout.writer if stdout.fd is None else None,
        )

    def wait(self) -> None:
        try:
            self.work(*self.given)
        finally:
            for end in self.given[1:]:
                end.close()

    def kill(self, reason: BaseException) -> None:
        for stream in self.streams:
            if stream is not None:
                stream.interrupt(reason)


def nothing(_ctx: StageContext, _stdin: Input, _stdout: Output) -> None:
    """Leave the input unread."""


def upper(_ctx: StageContext, stdin: Input, stdout: Output) -> None:
    """Do what a custom stage commonly does."""
    for chunk in stdin.reader.chunks():
        stdout.writer.write(chunk.upper())


# The protocols.


@pytest.mark.parametrize(
    "stage", [Custom(upper), command("cat"), map_lines(bytes.upper), Pipeline()], ids=lambda stage: stage.name
)
def test_custom_stages_and_built_in_ones_are_stages(stage: object) -> None:
    """`isinstance` looks for the protocol's names."""
    assert isinstance(stage, Stage)


def test_a_running_stage_has_wait_and_kill() -> None:
    """Nothing else is asked of what start() returns."""
    assert isinstance(RunningCustom(nothing, *_given()), RunningStage)
    assert not isinstance(object(), RunningStage)
    assert not isinstance(threading.Event(), RunningStage)
    assert not isinstance(object(), Stage)


def _given() -> Any:
    memory = MemoryPipe()
    return None, Input(stream=memory.reader), Output(stream=memory.writer)


def test_a_custom_stage_joins_with_all_others() -> None:
    """It stands anywhere in a pipeline, on either side of `|`."""
    custom = Custom(upper)
    assert (penstock.echo("a", end="") | custom | command("cat")).output() == b"A"
    assert (command("printf", "b") | custom).output() == b"B"
    assert Pipeline(custom, map_lines(bytes.lower)).output(input=b"C") == b"c\n"
    assert (custom | command("cat")).output(input="d") == b"D"


def test_an_exception_of_a_custom_stage_is_the_cause() -> None:
    """The error's name is the stage's, and its cause the object that wait() raised."""
    error = LookupError("lost")

    def fail(*_: object) -> None:
        raise error

    with pytest.raises(penstock.PipelineError) as caught:
        Pipeline(Custom(fail)).run()
    assert caught.value.stage == "custom"
    assert caught.value.cause is error


def test_a_custom_stage_may_finish_early() -> None:
    """What is above it then ends by a pipe error, which is forgiven."""

    def first_byte(_ctx: StageContext, stdin: Input, stdout: Output) -> None:
        stdout.writer.write(stdin.reader.read(1))
        raise penstock.FinishEarly

    assert (command("yes") | Custom(first_byte)).output() == b"y"


def test_a_custom_stage_whose_start_fails_is_a_start_error() -> None:
    """Those before it are cancelled."""

    class Broken(Custom):
        def start(self, _ctx: StageContext, stdin: Input, stdout: Output, /) -> RunningCustom:
            stdin.close()
            stdout.close()
            raise OSError("no such device")

    with pytest.raises(penstock.StartError, match='starting stage "custom": no such device'):
        (command("yes") | Broken(upper)).run()


# What it asks for.


def test_requirements_default_to_any_and_compare_by_value() -> None:
    """They are plain values."""
    assert Requirements() == Requirements(stdin=Stream.ANY, stdout=Stream.ANY)
    assert hash(Requirements()) == hash(Requirements(Stream.ANY))
    assert Requirements(Stream.PREFER_FILE) != Requirements()
    with pytest.raises(TypeError, match="stdout must be a Stream"):
        Requirements(stdout="any")  # type: ignore[arg-type]


def test_a_stage_without_stdin_must_be_first_and_unconnected() -> None:
    """A mistake is found before anything starts, and names the stage."""
    first = Custom(nothing, stdin=Stream.FORBIDDEN)
    assert (first | command("cat")).output() == b""
    with pytest.raises(ValueError, match="'custom' takes no stdin"):
        (command("cat") | first).run()
    with pytest.raises(ValueError, match="'custom' takes no stdin"):
        Pipeline(first).run(input=b"x")
    with pytest.raises(ValueError, match="'custom' takes no stdin"):
        Pipeline(first).start(stdin=PIPE)


def test_a_stage_without_stdout_must_be_last_and_unconnected() -> None:
    """The same for what it writes; an inherited stdout is simply not used."""
    last = Custom(lambda _ctx, stdin, _stdout: stdin.reader.read(), stdout=Stream.FORBIDDEN)
    assert (command("true") | last).run().ok
    assert (command("true") | last).run(stdout=DEVNULL).ok
    for refused in (
        lambda: Pipeline(last, command("cat")).run(),
        lambda: Pipeline(last).output(),
        lambda: next(Pipeline(last).iter_bytes()),
        lambda: Pipeline(last).explain(stdout=PIPE),
    ):
        with pytest.raises(ValueError, match="'custom' has no stdout"):
            refused()


def test_prefer_file_gives_an_os_pipe() -> None:
    """Both ends are pipes of the kernel, also between two Python stages; explain() says so."""
    seen: list[bool] = []

    def look(_ctx: StageContext, stdin: Input, stdout: Output) -> None:
        assert stdin.fd is not None
        assert stdout.fd is not None
        seen.extend(stat.S_ISFIFO(os.fstat(fd).st_mode) for fd in (stdin.fd, stdout.fd))
        os.write(stdout.fd, os.read(stdin.fd, 100))

    files = Custom(look, Stream.PREFER_FILE, Stream.PREFER_FILE)
    pipeline = penstock.source([b"x"]) | files | map_lines(bytes.upper)
    assert [edge.kind for edge in pipeline.explain().edges[1:3]] == ["os-pipe", "os-pipe"]
    assert pipeline.output() == b"X\n"
    assert seen == [True, True]


def test_a_stage_that_takes_any_stream_is_joined_in_memory_to_its_like() -> None:
    """Then it has no descriptor; beside a command it has one."""
    seen: list[tuple[bool, bool]] = []

    def look(_ctx: StageContext, stdin: Input, stdout: Output) -> None:
        seen.append((stdin.fd is None, stdout.fd is None))
        stdin.reader.read()

    between_functions = penstock.source([b"x"]) | Custom(look) | map_lines(bytes.upper)
    assert [edge.kind for edge in between_functions.explain().edges[1:3]] == ["memory", "memory"]
    between_functions.run()
    (command("true") | Custom(look) | command("cat")).run()
    assert seen == [(True, True), (False, False)]


# What it is told.


def run_with_context(ask: Callable[[StageContext], object], **options: Any) -> Any:
    """What a custom stage learns from its context."""
    answers = []
    Pipeline(Custom(lambda ctx, _stdin, _stdout: answers.append(ask(ctx)))).run(**options)
    return answers[0]


def test_the_context_tells_the_name_and_the_folder(tmp_path: Path) -> None:
    """`cwd` is the pipeline's; None stands for the process's own."""
    assert run_with_context(lambda ctx: (ctx.name, ctx.cwd)) == ("custom", None)
    assert run_with_context(lambda ctx: ctx.cwd, cwd=tmp_path) == str(tmp_path)


def test_the_context_tells_the_environment_of_a_child() -> None:
    """Secrets are in clear, unset names are absent, callables were called."""
    env = {"A": "1", "B": penstock.Secret("hush"), "C": lambda: "3", "HOME": None}
    environ = run_with_context(lambda ctx: dict(ctx.environ), env=env)
    assert (environ["A"], environ["B"], environ["C"]) == ("1", "hush", "3")
    assert "HOME" not in environ
    assert environ["PATH"] == os.environ["PATH"]
    assert run_with_context(lambda ctx: dict(ctx.environ), env={"A": "1"}, inherit_env=False) == {"A": "1"}


def test_the_context_tells_the_deadline() -> None:
    """It is a time of `time.monotonic()`, and None where there is none."""
    assert run_with_context(lambda ctx: ctx.deadline) is None
    before = time.monotonic()
    deadline = run_with_context(lambda ctx: ctx.deadline, timeout=60)
    assert before + 60 <= deadline <= time.monotonic() + 60


def test_the_context_reports_a_cancellation() -> None:
    """`cancelled` turns true, and `check` raises the very reason."""
    started, woken = threading.Event(), threading.Event()
    seen: list[object] = []

    def work(ctx: StageContext, stdin: Input, _stdout: Output) -> None:
        ctx.check()
        seen.append(ctx.cancelled)
        started.set()
        try:
            stdin.reader.read()
        except KeyError:
            seen.append(ctx.cancelled)
            try:
                ctx.check()
            except KeyError as reason:
                seen.append(reason)
        woken.set()

    reason = KeyError("enough")
    run = Pipeline(function(lambda _ctx, stdin, _stdout: stdin.read()), Custom(work)).start(stdin=PIPE)
    assert started.wait(DEADLINE)
    run.cancel(reason)
    with pytest.raises(penstock.PipelineCancelled) as caught:
        run.wait(DEADLINE)
    assert woken.wait(DEADLINE)
    assert seen == [False, True, reason]
    assert caught.value.cause is reason


def test_emit_makes_an_event_of_kind_message() -> None:
    """With the stage's name and whatever facts it gives."""
    events: list[Event] = []
    run_with_context(lambda ctx: ctx.emit("half done", lines=7), on_event=events.append)
    (event,) = [event for event in events if event.kind == "message"]
    assert (event.stage, event.message, dict(event.context), event.error) == (
        "custom",
        "half done",
        {"lines": 7},
        None,
    )
    assert abs(event.time - time.time()) < 60


def test_emit_without_a_handler_does_nothing() -> None:
    """A stage need not ask whether there is a handler."""
    assert run_with_context(lambda ctx: ctx.emit("hello")) is None


# What it is given.


def test_ends_in_memory_have_no_descriptor() -> None:
    """They have a reader and a writer, which are the same object each time."""
    memory = MemoryPipe()
    stdin, stdout = Input(stream=memory.reader), Output(stream=memory.writer)
    assert (stdin.fd, stdout.fd) == (None, None)
    assert stdin.reader is stdin.reader is memory.reader
    assert stdout.writer is stdout.writer is memory.writer
    stdout.writer.write(b"chunk")
    stdout.close()
    assert stdin.reader.read() == b"chunk"
    stdin.close()


def test_ends_that_are_descriptors_have_a_reader_and_a_writer_too() -> None:
    """Made when they are asked for, and then always the same."""
    read_end, write_end = pipe()
    stdin, stdout = Input(read_end), Output(write_end)
    assert (stdin.fd, stdout.fd) == (read_end.fileno(), write_end.fileno())
    assert stdin.reader is stdin.reader
    assert stdout.writer is stdout.writer
    stdout.writer.write(b"chunk")
    stdout.close()
    assert stdin.reader.read() == b"chunk"
    stdin.close()
    assert read_end.closed
    assert write_end.closed


@pytest.mark.parametrize("used", [False, True], ids=["untouched", "after its reader and writer were used"])
def test_close_is_idempotent_and_closes_the_descriptor(used: bool) -> None:  # noqa: FBT001
    """Whichever of the two the stage has used."""
    read_end, write_end = pipe()
    stdin, stdout = Input(read_end), Output(write_end)
    if used:
        stdout.writer.write(b"x")
        stdin.reader.read(1)
    for end in (stdin, stdout):
        end.close()
        end.close()
    assert read_end.closed
    assert write_end.closed


def test_closing_the_reader_closes_the_input() -> None:
    """It is one stream, by two names."""
    read_end, write_end = pipe()
    with Input(read_end).reader, Output(write_end).writer:
        pass
    assert read_end.closed
    assert write_end.closed


def test_a_borrowed_end_is_not_closed() -> None:
    """The process's own stdin and stdout stay open; so does whatever the caller lent."""
    read_end, write_end = pipe()
    stdin = Input(borrowed=read_end.fileno(), owned_description=False)
    stdout = Output(borrowed=write_end.fileno(), owned_description=False)
    stdout.writer.write(b"x")
    assert stdin.reader.read(1) == b"x"
    assert (stdin.fd, stdout.fd) == (read_end.fileno(), write_end.fileno())
    stdin.close()
    stdout.close()
    os.write(write_end.fileno(), b"y")
    assert os.read(read_end.fileno(), 1) == b"y"
    read_end.close()
    write_end.close()


def test_a_stage_that_prefers_files_is_given_an_open_dev_null() -> None:
    """As any other descriptor: there is one, and after it was closed there is none any more."""
    seen: list[object] = []

    def work(_ctx: StageContext, stdin: Input, stdout: Output) -> None:
        for end in (stdin, stdout):
            seen.append(end.fd is not None and os.path.samestat(os.fstat(end.fd), os.stat(os.devnull)))  # noqa: PTH116
            end.close()
            with pytest.raises(ValueError, match="closed"):
                _ = end.fd

    Pipeline(Custom(work, Stream.PREFER_FILE, Stream.PREFER_FILE)).run(stdin=DEVNULL, stdout=DEVNULL)
    assert seen == [True, True]


def test_an_end_is_made_of_something() -> None:
    """Neither a descriptor nor a stream is a mistake that is told."""
    with pytest.raises(ValueError, match="made of a descriptor or of an in-memory stream"):
        _ = Input().reader


# Where there are no more threads.

NO_THREADS = """
import subprocess, threading
import penstock
from penstock import Requirements, StartError, Stream, command

class Sleeper:
    # A custom stage that holds a child of its own.
    name = "sleeper"
    requirements = Requirements({stream}, {stream})
    child = None
    def start(self, ctx, stdin, stdout):
        {start}
        stdin.close()
        stdout.close()
        Sleeper.child = subprocess.Popen(["sleep", "1000"])
        return self
    def wait(self):
        Sleeper.child.wait()
        print("waited for")
    def kill(self, reason):
        Sleeper.child.terminate()

really, refused = threading.Thread.start, 0
def start(self):
    global refused
    if refused < 3:
        refused += 1
        raise RuntimeError("can't start new thread")
    really(self)
threading.Thread.start = start
try:
    (command("sleep", "1000") | Sleeper() | penstock.map_lines(bytes)).run()
except StartError as error:
    print(error.stage, error)
import psutil
print("children", psutil.Process().children())
"""


@pytest.mark.parametrize("way", ["it waits for a child", "it wraps a command"])
def test_a_started_stage_is_waited_for_without_a_free_thread(way: str) -> None:
    """The start fails, and nothing that it began is left: a thread to wait in is asked for again."""
    wraps = way == "it wraps a command"
    program = NO_THREADS.format(
        stream="Stream.ANY",
        start="return command('sleep', '1000').stages[0].start(ctx, stdin, stdout)" if wraps else "",
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    said = [] if wraps else ["waited for"]
    failed = 'sleeper starting stage "sleeper": can\'t start new thread'
    assert (done.stdout.splitlines(), done.stderr) == ([*said, failed, "children []"], "")

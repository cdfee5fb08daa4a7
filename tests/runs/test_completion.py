"""Completion: what a run waits for, and what it does not wait for."""

from __future__ import annotations

import io
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import alive, sh
from tests.support.waiting import DEADLINE, until

from penstock import DEVNULL, PIPE, Pipeline, PipelineTimeout, command, function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOON = 1.5


@pytest.fixture
def holder() -> Iterator[list[int]]:
    """Processes that outlive the command which started them; ended with the test."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_a_grandchild_that_keeps_stderr_open_does_not_delay_later_stages(
    holder: list[int], within: Any
) -> None:
    with within(SOON):
        pipeline = (
            sh("sleep 1000 >&- & echo $!") | command("cat") | function(lambda _c, i, o: o.write(i.read()))
        )
        holder.append(int(pipeline.output()))


def test_all_that_a_command_wrote_to_stderr_is_read() -> None:
    for _ in range(20):
        result = sh("head -c 50000 /dev/zero >&2; exit 3").run(stdout=DEVNULL, check=False)
        assert len(result.stages[0].stderr) == 50000


def test_output_ends_at_eof_of_stdout_not_at_the_exit() -> None:
    read_end, write_end = os.pipe()
    try:
        # The grandchild writes only once it is let go, long after its parent has exited.
        run = (sh("exec 3<&0; (read go <&3; echo late) 2>/dev/null & echo early")).start(
            stdin=read_end, stdout=PIPE
        )
        assert run.stdout is not None
        assert run.stdout.readline() == b"early\n"
        assert run.wait(DEADLINE).ok
        os.write(write_end, b"go\n")
        assert run.stdout.read() == b"late\n"
        run.stdout.close()
    finally:
        os.close(read_end)
        os.close(write_end)


def test_output_contains_what_a_grandchild_writes_after_the_exit() -> None:
    read_end, write_end = os.pipe()
    text = "exec 3<&0; (read go <&3; echo late) 2>/dev/null & echo early"
    exited: list[bool] = []

    def on_event(event: Any) -> None:
        if event.kind == "exit":
            exited.append(True)
            os.write(write_end, b"go\n")

    try:
        assert sh(text).output(stdin=read_end, on_event=on_event) == b"early\nlate\n"
    finally:
        os.close(read_end)
        os.close(write_end)
    assert exited == [True]


def test_output_ends_at_the_deadline_where_a_grandchild_keeps_stdout(holder: list[int], within: Any) -> None:
    with within(0.2 + 0.1 + 1), pytest.raises(PipelineTimeout) as raised:
        sh("sleep 1000 2>&- & echo $!").output(timeout=0.2, grace=0.1)
    assert raised.value.result is not None
    assert raised.value.result.stdout is not None
    holder.append(int(raised.value.result.stdout))


def test_a_grandchild_that_keeps_uncaptured_stdout_delays_nobody(holder: list[int], within: Any) -> None:
    read_end, write_end = os.pipe()
    try:
        with within(SOON):
            assert sh("sleep 1000 2>&- & echo $!").run(stdout=write_end).ok
        holder.append(int(os.read(read_end, 100)))
    finally:
        os.close(read_end)
        os.close(write_end)


# Stdin that never ends.


class Endless(io.RawIOBase):
    """An object whose read blocks until the test is over."""

    def __init__(self, release: threading.Event) -> None:
        super().__init__()
        self.release = release

    def readable(self) -> bool:
        return True

    def readinto(self, _buffer: Any) -> int:
        self.release.wait(DEADLINE)
        return 0


STAGES = {
    "command": command("true"),
    "two commands": command("true") | command("true"),
    "function": function(lambda _ctx, _stdin, _stdout: None, name="fn"),
    "function that reads some": function(lambda _ctx, _stdin, stdout: stdout.write(b"x"), name="fn"),
    "command after function": function(lambda _ctx, _stdin, _stdout: None, name="fn") | command("cat"),
}


def _pipe_file(read_end: int, _release: threading.Event) -> Any:
    return os.fdopen(os.dup(read_end), "rb")


def _text_file(read_end: int, _release: threading.Event) -> Any:
    return os.fdopen(os.dup(read_end), "r")


SILENT: dict[str, Callable[[int, threading.Event], Any]] = {
    "descriptor": lambda read_end, _: read_end,
    "file": _pipe_file,
    "text file": _text_file,
    "object": lambda _, release: Endless(release),
    "buffered object": lambda _, release: io.BufferedReader(Endless(release)),
    "iterable": lambda _, release: iter(lambda: release.wait(DEADLINE) and b"", b""),
}


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("make", SILENT.values(), ids=SILENT)
def test_stdin_that_never_ends_does_not_keep_a_finished_pipeline(
    make: Callable[[int, threading.Event], Any], stage: Pipeline, within: Any
) -> None:
    release = threading.Event()
    read_end, write_end = os.pipe()
    stdin = make(read_end, release)
    try:
        with within(SOON):
            assert stage.run(stdin=stdin, stdout=DEVNULL).ok
    finally:
        release.set()
        os.close(write_end)
        if isinstance(stdin, io.IOBase):
            stdin.close()
        os.close(read_end)


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_a_socket_that_never_ends_does_not_keep_a_finished_pipeline(stage: Pipeline, within: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with within(SOON):
            assert stage.run(stdin=ours, stdout=DEVNULL).ok
        theirs.sendall(b"still open")
        assert ours.recv(100) == b"still open"


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_an_iterable_that_never_ends_does_not_keep_a_finished_pipeline(stage: Pipeline, within: Any) -> None:
    with within(SOON):
        assert stage.run(stdin=iter(lambda: b"x" * 65536, None), stdout=DEVNULL).ok


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_an_open_stdin_pipe_does_not_delay_a_finished_pipeline(stage: Pipeline, within: Any) -> None:
    with within(SOON):
        run = stage.start(stdin=PIPE, stdout=DEVNULL)
        assert run.wait(DEADLINE).ok


def test_input_that_nobody_reads_does_not_keep_a_finished_pipeline(within: Any) -> None:
    with within(SOON):
        assert command("true").run(input=bytes(32 << 20), stdout=DEVNULL).ok


def test_a_run_that_is_never_waited_for_ends_all_the_same() -> None:
    run = (sh("echo a") | command("cat")).start(stdout=DEVNULL)
    until(run.done)


def test_wait_gives_the_same_result_again() -> None:
    run = command("true").start()
    assert run.wait() is run.wait()

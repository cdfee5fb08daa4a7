"""Traps of edges: ends that stay open, functions that are blocked, readers that leave."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import gone
from tests.support.waiting import DEADLINE, asleep, until

from penstock import (
    DEVNULL,
    PIPE,
    Pipeline,
    PipelineCancelled,
    PipelineTimeout,
    command,
    function,
    map_lines,
    source,
    transform,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Snapshot

"""Seconds: far more than a loaded machine needs, far less than the grace time that these tests set."""
PATIENT = 60.0


# 9: EOF and the broken pipe, over every kind of edge.


def copy(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Pass everything on."""
    for chunk in stdin.chunks():
        stdout.write(chunk)


def endless(_ctx: object, _stdin: object, stdout: Any) -> None:
    """Write without end."""
    while True:
        stdout.write(b"y\n" * 1000)


def first_line(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Pass on one line, and end."""
    stdout.write(stdin.readline())


PASSERS = {
    "command": command("cat"),
    "function": function(copy),
    "transform": transform(lambda chunks: chunks),
    "lines": map_lines(bytes),
    "nested": Pipeline(command("cat"), function(copy), name="nested"),
    "nested the other way": Pipeline(function(copy), command("cat"), name="nested"),
}
PRODUCERS = {
    "command": command("yes"),
    "function": function(endless),
    "source": source(itertools.repeat(b"y\n")),
    "nested": Pipeline(function(endless), command("cat"), name="nested"),
    "nested the other way": Pipeline(command("yes"), function(copy), name="nested"),
}
TAKERS = {
    "command": command("head", "-n", "1"),
    "function": function(first_line),
    "nested": Pipeline(command("head", "-n", "1"), function(copy), name="nested"),
    "nested the other way": Pipeline(function(first_line), command("cat"), name="nested"),
}


@pytest.mark.gotcha(9)
@pytest.mark.parametrize("right", PASSERS)
@pytest.mark.parametrize("left", PASSERS)
def test_eof_travels_over_every_edge(left: str, right: str) -> None:
    """From a pipe of the caller's, through both stages, and out again."""
    with (PASSERS[left] | PASSERS[right]).start(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        run.stdin.write(b"x\n")
        run.stdin.close()
        assert run.stdout.read() == b"x\n"


@pytest.mark.gotcha(9)
@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("producer", PRODUCERS)
def test_a_producer_learns_that_its_reader_has_gone(producer: str, taker: str) -> None:
    """None would end without it."""
    result = (PRODUCERS[producer] | TAKERS[taker]).run(stdout=DEVNULL, timeout=DEADLINE)
    assert result.ok


@pytest.mark.gotcha(9)
@pytest.mark.parametrize("producer", PRODUCERS)
def test_a_producer_learns_that_the_caller_has_closed_stdout(producer: str) -> None:
    """The run's only other copy of that pipe's reading end would be Penstock's."""
    with PRODUCERS[producer].start(stdout=PIPE, timeout=DEADLINE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"y\n"
        run.stdout.close()
        assert run.wait().ok


@pytest.mark.gotcha(9)
@pytest.mark.parametrize("taker", TAKERS)
def test_the_caller_learns_that_the_first_stage_has_gone(taker: str) -> None:
    """Writing to `run.stdin` is a broken pipe once nobody reads it."""
    with TAKERS[taker].start(stdin=PIPE, stdout=DEVNULL, timeout=DEADLINE) as run:
        assert run.stdin is not None
        with pytest.raises(BrokenPipeError):  # noqa: PT012 - the pipe takes some of it first
            while True:
                run.stdin.write(b"y\n" * 1000)
        assert run.wait().ok


@pytest.mark.gotcha(9)
@pytest.mark.parametrize("left", ["command", "function"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "object"])
def test_the_callers_own_stdout_sees_eof_when_the_run_ends(kind: str, left: str) -> None:
    """Penstock keeps no copy of what it was given, and closes what was handed over with `closing`."""
    stage = command("printf", "x") if left == "command" else source([b"x"])
    if kind == "socket":
        ours, theirs = socket.socketpair()
        with theirs:
            with ours:
                assert stage.run(stdout=ours).ok
            assert theirs.recv(8) == b"x"
            assert theirs.recv(8) == b""
        return
    read, write = os.pipe()
    with open(read, "rb") as reader:  # noqa: PTH123
        with open(write, "wb", buffering=0) as writer:  # noqa: PTH123
            os.set_blocking(write, kind == "pipe")
            assert stage.run(stdout=writer).ok
        assert reader.read() == b"x"


# 11: functions that are blocked when their run is cancelled.


@pytest.mark.gotcha(11)
@pytest.mark.parametrize("by", ["deadline", "cancel"])
def test_functions_blocked_in_a_read_wake_with_the_reason(by: str) -> None:
    """One reads an OS pipe, one memory, and one the caller's own pipe; none is waited for."""
    for borrowed in (False, True):
        seen: list[BaseException] = []
        threads: list[int] = []

        def reader(
            _ctx: object, stdin: Any, _stdout: object, seen: Any = seen, threads: Any = threads
        ) -> None:
            threads.append(threading.get_ident())
            try:
                stdin.read(1)
            except BaseException as error:
                seen.append(error)
                raise

        read, write = os.pipe()
        try:
            stages = function(reader) | function(reader)
            timed: dict[str, Any] = {"timeout": 0.2} if by == "deadline" else {}
            run = stages.start(stdin=read if borrowed else PIPE, stdout=DEVNULL, grace=PATIENT, **timed)
            if by == "cancel":
                until(lambda threads=threads: len(threads) == 2 and all(map(asleep, threads)))  # type: ignore[misc]
                run.cancel("enough")
            with pytest.raises(PipelineTimeout if by == "deadline" else PipelineCancelled) as caught:
                run.wait(DEADLINE)
            assert [one is caught.value.cause for one in seen] == [True, True]
        finally:
            os.close(read)
            os.close(write)


@pytest.mark.slow
@pytest.mark.gotcha(11)
@pytest.mark.parametrize("kind", ["run.stdout", "pipe", "socket"])
def test_functions_blocked_in_a_write_wake_with_the_reason(kind: str) -> None:
    """One writes into memory, one into a pipe or socket that nobody reads."""
    seen: list[BaseException] = []
    threads: list[int] = []

    def guarded(fn: Any) -> Any:
        def guard(ctx: object, stdin: Any, stdout: Any) -> None:
            threads.append(threading.get_ident())
            try:
                fn(ctx, stdin, stdout)
            except BaseException as error:
                seen.append(error)
                raise

        return guard

    stages = function(guarded(endless), name="endless") | function(guarded(copy), name="copy")
    with ExitStack() as stack:
        stdout: Any = PIPE
        if kind == "socket":
            pair = socket.socketpair()
            for one in pair:
                stack.callback(one.close)
            stdout = pair[0]
        elif kind == "pipe":
            read, stdout = os.pipe()
            stack.callback(os.close, read)
            stack.callback(os.close, stdout)
        run = stages.start(stdout=stdout, grace=PATIENT)
        if run.stdout is not None:
            stack.enter_context(run.stdout)
        until(lambda: len(threads) == 2 and all(map(asleep, threads)))
        run.cancel("enough")
        with pytest.raises(PipelineCancelled) as caught:
            run.wait(DEADLINE)
    assert [error is caught.value.cause for error in seen] == [True, True]


@pytest.mark.gotcha(11)
def test_the_reason_is_not_shown_to_on_exception() -> None:
    """A function that was woken has not failed by itself."""
    shown: list[BaseException] = []

    def note(_name: str, error: BaseException) -> BaseException:
        shown.append(error)
        return error

    stage = function(lambda _ctx, stdin, _stdout: stdin.read())
    with pytest.raises(PipelineTimeout):
        stage.start(stdin=PIPE, timeout=0.05, grace=PATIENT, on_exception=note).wait()
    assert shown == []


# 12: readers that close the iterator early.

ENDLESS_SHELL = command("sh", "-c", "echo $$; exec yes")


def pid_and_endless(_ctx: object, _stdin: object, stdout: Any) -> None:
    """Begin as the shell scripts do, without a process."""
    stdout.write(b"0\n")
    endless(_ctx, _stdin, stdout)


EARLY = {
    "command": ENDLESS_SHELL,
    "commands": ENDLESS_SHELL | command("cat"),
    "command and function": ENDLESS_SHELL | function(copy),
    "function": function(pid_and_endless),
    "functions": function(pid_and_endless) | function(copy),
    "function and command": function(pid_and_endless) | command("cat"),
    "nested": Pipeline(ENDLESS_SHELL, function(copy), name="inner") | command("cat"),
    "nested last": function(pid_and_endless) | Pipeline(command("cat"), function(copy), name="inner"),
    "deaf to a broken pipe": command(
        "sh", "-c", "trap '' PIPE; echo $$; while :; do echo y 2>/dev/null; sleep 0.01; done"
    ),
    "silent": command("sh", "-c", "echo $$; exec sleep 1000"),
    "failing when it is told": command(
        "sh", "-c", "trap 'exit 3' TERM; echo $$; while :; do sleep 0.01; done"
    ),
}


@pytest.mark.slow
@pytest.mark.gotcha(12)
@pytest.mark.parametrize("method", ["iter_bytes", "iter_lines"])
@pytest.mark.parametrize("how", ["close", "break", "raise"])
@pytest.mark.parametrize("shape", EARLY)
def test_an_iterator_closed_early_is_not_an_error_and_leaves_nothing(
    shape: str, how: str, method: str
) -> None:
    """The child has gone by then, and the leak check finds nothing."""
    iterator = getattr(EARLY[shape], method)(grace=PATIENT, timeout=PATIENT)
    first = b""
    if how == "close":
        first = next(iterator)
        iterator.close()
    elif how == "break":
        for first in iterator:  # noqa: B007
            break
        del iterator
    else:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            for first in iterator:  # noqa: B007
                raise ZeroDivisionError
        del iterator
    pid = int(first.split()[0])
    assert pid == 0 or gone(pid, timeout=0)


@pytest.mark.gotcha(12)
def test_an_iterator_that_was_never_asked_starts_nothing(snapshot: Callable[[], Snapshot]) -> None:
    """There is nothing to be closed."""
    before = snapshot()
    iterator = command("yes").iter_bytes()
    assert before.leaks(settle=0) == []
    iterator.close()


@pytest.mark.gotcha(12)
def test_a_child_that_ignores_signals_is_killed_after_the_grace_period() -> None:
    """That, too, is no error."""
    deaf = command("sh", "-c", "trap '' TERM PIPE; echo $$; exec sleep 1000")
    lines = deaf.iter_lines(grace=0.2)
    pid = int(next(lines))
    lines.close()
    assert gone(pid, timeout=0)

"""A function that gives its own stdin to runs within it: the two take turns."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE

from penstock import (
    DEVNULL,
    Pipeline,
    PipelineError,
    PipelineTimeout,
    StartError,
    command,
    function,
    source,
    transform,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINES = [b"%d\n" % number for number in range(6)]
LINE = command("sh", "-c", "read -r line; echo $line")  # sh reads byte by byte, so it takes one line
TRUE = command("true")
CAT = command("cat")


def copy_line(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Take one line."""
    stdout.write(stdin.readline())


def copy_chunk(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Take a line's worth by another method."""
    stdout.write(stdin.read(2))


INNER = {
    "command": LINE,
    "function": function(copy_line),
    "read": function(copy_chunk),
    "two": Pipeline(function(copy_line), CAT),
    "twice nested": function(lambda _ctx, i, o: o.write(LINE.output(stdin=i))),
}


def _from_pipe() -> tuple[Pipeline | None, dict[str, Any]]:
    read, write = os.pipe()
    os.write(write, b"".join(LINES))
    os.close(write)
    return None, {"stdin": os.fdopen(read, "rb")}


SOURCES: dict[str, Callable[[], tuple[Pipeline | None, dict[str, Any]]]] = {
    "memory": lambda: (source(LINES), {}),
    "one chunk": lambda: (source([b"".join(LINES)]), {}),
    "command": lambda: (command("seq", "0", "5"), {}),
    "input": lambda: (None, {"input": b"".join(LINES)}),
    "pipe": _from_pipe,
    "object": lambda: (None, {"stdin": LINES}),
}


def run_within(kind: str, body: Callable[[Any, Any, Any], None], **options: Any) -> bytes:
    """Run `body` as a function whose stdin is of this kind; return its output."""
    first, given = SOURCES[kind]()
    stage = function(body, name="outer")
    try:
        return (stage if first is None else first | stage).output(timeout=DEADLINE, **given, **options)
    finally:
        if hasattr(given.get("stdin"), "close"):
            given["stdin"].close()


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("kind", SOURCES)
def test_the_function_and_its_runs_take_turns(kind: str, inner: str) -> None:
    """Nothing is lost, doubled or out of order, and every byte is counted once."""
    counts: list[int] = []

    def outer(_ctx: object, stdin: Any, stdout: Any) -> None:
        assert TRUE.run(stdin=stdin, stdout=DEVNULL).ok
        stdout.write(INNER[inner].output(stdin=stdin))
        stdout.write(stdin.readline())
        stdout.write(INNER[inner].output(stdin=stdin))
        assert TRUE.run(stdin=stdin, stdout=DEVNULL).ok
        stdout.write(stdin.read())
        counts.append(stdin.count)
        assert INNER[inner].output(stdin=stdin).strip() == b""

    assert run_within(kind, outer) == b"".join(LINES)
    if kind != "pipe":  # of which the commands may have read themselves
        assert counts[0] == sum(map(len, LINES))


@pytest.mark.parametrize("stage", [CAT, transform(iter), Pipeline(transform(iter), CAT)])
@pytest.mark.parametrize("kind", SOURCES)
def test_a_run_gets_the_rest(kind: str, stage: Pipeline) -> None:
    """To its end, after the function has read a line."""

    def outer(_ctx: object, stdin: Any, stdout: Any) -> None:
        assert stdin.readline() == LINES[0]
        stdout.write(stage.output(stdin=stdin))
        assert stdin.read() == b""

    assert run_within(kind, outer) == b"".join(LINES[1:])


def slowly(go_on: threading.Event) -> Iterator[bytes]:
    """Yield a line, and another one later."""
    yield b"1\n"
    assert go_on.wait(DEADLINE)
    yield b"2\n"


@pytest.mark.parametrize("inner", [CAT, function(lambda _ctx, stdin, _stdout: stdin.read())])
@pytest.mark.parametrize("between", [None, CAT], ids=["memory", "pipe"])
def test_after_a_deadline_the_stream_still_works(between: Pipeline | None, inner: Pipeline) -> None:
    """Nobody is left in it who would take its next bytes."""
    go_on = threading.Event()

    def outer(_ctx: object, stdin: Any, stdout: Any) -> None:
        assert stdin.readline() == b"1\n"
        with pytest.raises(PipelineTimeout):
            inner.run(stdin=stdin, stdout=DEVNULL, timeout=0.1)
        go_on.set()
        stdout.write(stdin.read())

    stages = [source(slowly(go_on)), *([] if between is None else [between]), function(outer)]
    assert Pipeline(*stages).output(timeout=DEADLINE) == b"2\n"


@pytest.mark.parametrize("kind", ["memory", "command", "pipe"])
def test_a_run_that_fails_to_start_takes_nothing(kind: str) -> None:
    """The stream gets its bytes back."""

    def outer(_ctx: object, stdin: Any, stdout: Any) -> None:
        stdout.write(stdin.readline())
        for first in (CAT, function(copy_line)):
            with pytest.raises(StartError):
                (first | command("/nowhere")).run(stdin=stdin)
        stdout.write(stdin.read())

    assert run_within(kind, outer) == b"".join(LINES)


@pytest.mark.parametrize("inner", [CAT, function(lambda _ctx, stdin, _stdout: stdin.read())])
@pytest.mark.parametrize("kind", ["memory", "pipe", "shared"])
def test_cancelling_the_outer_run_ends_the_inner_one(kind: str, inner: Pipeline) -> None:
    """It waits for the stream of the outer one, which wakes with the reason."""
    entered = threading.Event()
    read, write = os.pipe()
    forever = threading.Event()

    def outer(_ctx: object, stdin: Any, _stdout: Any) -> None:
        entered.set()
        inner.run(stdin=stdin, stdout=DEVNULL)

    def wait() -> Iterator[bytes]:
        yield b"1\n"
        forever.wait(DEADLINE)

    first = {"memory": [source(wait())], "pipe": [command("sleep", "1000")], "shared": []}[kind]
    run = Pipeline(*first, function(outer), name="all").start(
        stdin=read if kind == "shared" else DEVNULL, stdout=DEVNULL, grace=0.5
    )
    assert entered.wait(DEADLINE)
    run.cancel("enough")
    with pytest.raises(PipelineError, match="enough"):
        run.wait(DEADLINE)
    forever.set()
    os.close(write)
    os.close(read)


def test_a_large_stream_in_turns() -> None:
    """Relayed through pipes that fill up, with what is left in them given back."""
    data = os.urandom(1 << 20)
    take = command("dd", "bs=1000", "count=1", "iflag=fullblock", stderr=DEVNULL)

    def outer(_ctx: object, stdin: Any, stdout: Any) -> None:
        for _ in range(10):
            stdout.write(take.output(stdin=stdin))
            stdout.write(stdin.read(70_000))
        stdout.write(CAT.output(stdin=stdin))

    for first in (source([data]), source(data[n : n + 999] for n in range(0, len(data), 999)), CAT):
        given: dict[str, Any] = {"input": data} if first is CAT else {}
        assert (first | function(outer)).output(timeout=DEADLINE, **given) == data


def test_a_terminal_is_handed_on() -> None:
    """A command within a function gets the descriptor that the function reads."""
    main, terminal = os.openpty()
    with os.fdopen(terminal, "rb") as reader, os.fdopen(main, "wb", buffering=0) as keys:
        found = []

        def outer(_ctx: object, stdin: Any, stdout: Any) -> None:
            found.append(CAT.explain(stdin=stdin).edges[0].kind)
            stdout.write(command("tty").output(stdin=stdin))
            stdout.write(LINE.output(stdin=stdin))
            stdout.write(stdin.readline())

        with function(outer).start(stdin=reader, stdout=-1) as run:
            assert run.stdout is not None
            assert run.stdout.readline() == os.ttyname(terminal).encode() + b"\n"
            keys.write(b"one\n")
            assert run.stdout.readline() == b"one\n"
            keys.write(b"two\n")
            assert run.stdout.readline() == b"two\n"
        assert found == ["pass-fd"]

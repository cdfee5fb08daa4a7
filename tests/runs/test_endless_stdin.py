"""The trap of input that never ends: whatever kind of object it is, no run waits for it."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE, until

from penstock import (
    DEVNULL,
    PipelineTimeout,
    command,
    function,
)

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator

    from tests.conftest import Snapshot

"""Seconds: far more than a loaded machine needs, far less than the grace time that these tests set."""
PATIENT = 60.0


class Blocked:
    """An object of the caller's whose method blocks until the test is over."""

    def __init__(self, over: threading.Event) -> None:
        self._over = over
        self.entered = threading.Event()

    def _block(self, *_: object) -> Any:
        self.entered.set()
        self._over.wait(PATIENT)
        return None


class BlockedReader(Blocked):
    def read(self, size: int = -1) -> bytes:
        self._block(size)
        return b""


class BlockedIterable(Blocked):
    def __iter__(self) -> Iterator[bytes]:
        return iter(self._block, None)


def text_over(fd: int) -> io.TextIOWrapper:
    """Open a text file that leaves its descriptor open."""
    return open(fd, encoding="utf-8", closefd=False)


KINDS = ["read", "iterable", "pipe", "pipe that is non-blocking", "file over a pipe", "text over a pipe"]
KINDS += ["socket", "socket that is non-blocking"]


def never_ending(kind: str, over: threading.Event, stack: ExitStack) -> tuple[Any, Blocked | None]:
    """Make a stdin that gives nothing and never ends, until `stack` is closed."""
    if kind == "read":
        reader = BlockedReader(over)
        return reader, reader
    if kind == "iterable":
        iterable = BlockedIterable(over)
        return iterable, iterable
    if kind.startswith("socket"):
        ours, theirs = socket.socketpair()
        stack.callback(ours.close)
        stack.callback(theirs.close)
        ours.setblocking("non" not in kind)
        return ours, None
    read, write = os.pipe()
    stack.callback(os.close, read)
    stack.callback(os.close, write)
    os.set_blocking(read, "non" not in kind)
    if kind.startswith("file"):
        return open(read, "rb", closefd=False), None
    return (text_over(read) if kind.startswith("text") else read), None


@pytest.mark.gotcha(2)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", ["command", "function"])
def test_stdin_that_never_ends_keeps_no_run_from_its_end(
    first: str,
    kind: str,
    snapshot: Callable[[], Snapshot],
) -> None:
    """The run ends when its stage does; a thread may stay in the caller's own code, but no descriptor."""
    over = threading.Event()
    with ExitStack() as stack:
        stdin, blocked = never_ending(kind, over, stack)
        before = snapshot()
        entered = None if blocked is None else blocked.entered

        def leave(_ctx: object, _stdin: object, _stdout: object) -> None:
            # Not before the feeder sits in the caller's code, where it cannot be woken.
            if entered is not None:
                assert entered.wait(DEADLINE)

        stack.callback(over.set)
        stage = command("true") if first == "command" else function(leave)
        result = stage.run(stdin=stdin, stdout=DEVNULL)
        assert result.ok
        assert result.elapsed < DEADLINE
        # A worker that is about to go idle may hold its wake-up descriptor for an instant more.
        until(lambda: set(snapshot().descriptors) <= set(before.descriptors))
        if "non-blocking" in kind:  # then it is Penstock that waits, and not the caller's own code
            until(lambda: snapshot().busy <= before.busy)


@pytest.mark.gotcha(2)
@pytest.mark.parametrize("kind", KINDS)
def test_a_deadline_ends_a_stage_that_waits_for_such_input(kind: str) -> None:
    """A function that reads, and a command that reads, alike."""
    for stage in (command("cat"), function(lambda _ctx, stdin, _stdout: stdin.read())):
        over = threading.Event()
        with ExitStack() as stack:
            stdin, _ = never_ending(kind, over, stack)
            with pytest.raises(PipelineTimeout) as caught:
                stage.run(stdin=stdin, stdout=DEVNULL, timeout=0.05, grace=PATIENT)
            assert caught.value.result is not None
            assert caught.value.result.elapsed < DEADLINE
            over.set()


@pytest.mark.gotcha(2)
def test_endless_input_does_not_outlive_its_reader() -> None:
    """An iterable without end, and bytes that nobody takes."""
    assert command("head", "-c", "3").output(stdin=itertools.repeat(b"abc")) == b"abc"
    assert command("true").run(input=bytes(1 << 20), stdout=DEVNULL).ok
    three = function(lambda _ctx, stdin, stdout: stdout.write(stdin.read(3)))
    assert three.output(stdin=itertools.repeat(b"abc")) == b"abc"

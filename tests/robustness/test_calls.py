"""Any call that the kernel refuses, at any turn: the bytes arrive, or the error says whose they were.

A fault that can be got over changes nothing. One that cannot is the cause of the run's error, which names the
stage or the end that met it; what was captured by then is the beginning of what would have come, and nothing
is left behind (the leak check of the suite looks for that).
"""

from __future__ import annotations

import contextlib
import errno
import io
import random
import socket
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from penstock import CAPTURE, DEVNULL, PIPE, Pipeline, PipelineError, StartError, command, function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.robustness.conftest import Fail

    from penstock import Event

pytestmark = pytest.mark.slow


DATA = random.Random(8).randbytes(200_000)


def copy(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Pass everything on."""
    for chunk in stdin.chunks():
        stdout.write(chunk)


CATS = command("cat", name="c1") | command("cat", name="c2")
MIXED = function(copy, name="f1") | command("cat", name="c1") | function(copy, name="f2")

Outcome = tuple[bytes, "PipelineError | None"]


def run(pipeline: Pipeline, **options: Any) -> Outcome:
    """In the calling thread."""
    result = pipeline.run(check=False, stdout=CAPTURE, **options)
    return result.stdout or b"", result.error


def start(pipeline: Pipeline, **options: Any) -> Outcome:
    """By the supervisor."""
    try:
        result = pipeline.start(stdout=CAPTURE, **options).wait(check=False)
    except StartError as error:
        return b"", error
    return result.stdout or b"", result.error


def iterate(pipeline: Pipeline, **options: Any) -> Outcome:
    """Chunk by chunk."""
    chunks: list[bytes] = []
    try:
        chunks.extend(pipeline.iter_bytes(**options))
    except PipelineError as error:
        return b"".join(chunks), error
    return b"".join(chunks), None


def dialogue(pipeline: Pipeline) -> Outcome:
    """Through the caller's own two pipes, which no fault reaches."""
    try:
        going = pipeline.start(stdin=PIPE, stdout=PIPE)
    except StartError as error:
        return b"", error
    assert going.stdin is not None
    assert going.stdout is not None

    def feed(file: Any) -> None:
        try:
            file.write(DATA)
        except BrokenPipeError:
            pass
        finally:
            file.close()

    feeder = threading.Thread(target=feed, args=(going.stdin,))
    feeder.start()
    with going.stdout:
        data = going.stdout.read()
    feeder.join()
    return data, going.wait(check=False).error


def objects(pipeline: Pipeline) -> Outcome:
    """From an object into an object."""
    sink = io.BytesIO()
    error = pipeline.run(check=False, stdin=io.BytesIO(DATA), stdout=sink).error
    return sink.getvalue(), error


def sockets(pipeline: Pipeline) -> Outcome:
    """From a socket that may not be passed on."""
    ours, theirs = socket.socketpair()
    ours.settimeout(0)

    def feed() -> None:
        with theirs, contextlib.suppress(OSError):
            theirs.sendall(DATA)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        with ours:
            return run(pipeline, stdin=ours)
    finally:
        feeder.join()


class Case(NamedTuple):
    go: Callable[[], Outcome]
    reads: set[str]
    """Who may be blamed where a read fails ..."""
    writes: set[str]
    """... and where a write does."""


CASES = {
    "commands": Case(lambda: run(CATS, input=DATA), {"stdout"}, {"stdin"}),
    "commands, started": Case(lambda: start(CATS, input=DATA), {"stdout"}, {"stdin"}),
    "commands, iterated": Case(lambda: iterate(CATS, input=DATA), {"stdout"}, {"stdin"}),
    "commands, objects": Case(lambda: objects(CATS), {"stdout"}, {"stdin"}),
    "commands, socket": Case(lambda: sockets(CATS), {"stdout"}, {"stdin"}),
    "mixed": Case(lambda: run(MIXED, input=DATA), {"f2"}, {"f1"}),
    "mixed, dialogue": Case(lambda: dialogue(MIXED), {"f1", "f2"}, {"f1", "f2"}),
    "mixed, socket": Case(lambda: sockets(MIXED), {"f1", "f2"}, {"f1"}),  # f1 reads the socket itself
}
STAGES = {"stdin", "stdout", "f1", "c1", "c2", "f2"}

# What the kernel may say, and whether the run then goes on as if nothing had been.
FAULTS = [
    ("pipe", "EMFILE", False),
    ("pipe", "ENFILE", False),
    ("posix_spawn", "EAGAIN", False),
    ("posix_spawn", "ENOMEM", False),
    ("pidfd_open", "EMFILE", True),
    ("pidfd_open", "ENOMEM", True),
    ("read", "EAGAIN", True),
    ("read", "EIO", False),
    ("read", "ENOMEM", False),
    ("write", "EAGAIN", True),
    ("write", "ENOSPC", False),
    ("write", "EIO", False),
    ("splice", "EAGAIN", True),
    ("splice", "EIO", True),
    ("splice", "ENOMEM", False),
    ("poll", "ENOMEM", True),
    ("epoll_ctl", "ENOSPC", True),
    ("epoll_ctl", "ENOMEM", True),
]


def turns(calls: int) -> Iterator[int]:
    """The first three, one in the middle, the last."""
    yield from sorted({1, 2, 3, calls // 2, calls} & {*range(1, calls + 1)})


@pytest.mark.gotcha(28)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("call", "code", "survived"), FAULTS)
def test_one_call_that_fails(call: str, code: str, survived: bool, name: str, fail: Fail) -> None:  # noqa: FBT001 - a column of the table
    """At each of some turns of it."""
    case, number = CASES[name], getattr(errno, code)
    blamed = {"read": case.reads, "write": case.writes, "splice": {"stdin"}}.get(call, STAGES)
    with fail(call, number, lambda _turn: False) as counted:
        assert case.go() == (DATA, None)
    for turn in turns(counted.calls):
        with fail(call, number, lambda now, turn=turn: now == turn) as failing:  # type: ignore[misc] # bound now
            data, error = case.go()
        assert DATA.startswith(data), turn
        if error is None:
            # Of the stderr of a command nothing is missing in its output.
            assert survived or not failing.raised or call == "read", turn
            assert data == DATA, turn
            continue
        assert not survived, (turn, error)
        assert isinstance(error.cause, OSError)
        assert error.cause.errno == number, (turn, error)
        assert error.stage in blamed, (turn, error)
        if call == "posix_spawn":
            assert (type(error), error.stage) == (StartError, f"c{turn}")
        elif call == "pipe":
            assert isinstance(error, StartError)
        else:
            assert error.cause in failing.raised


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("call", "code"),
    [("pidfd_open", "EMFILE"), ("splice", "ENOSYS"), ("epoll_ctl", "ENOSPC"), ("poll", "ENOMEM")],
)
def test_a_call_that_always_fails_is_done_without(call: str, code: str, name: str, fail: Fail) -> None:
    """What there is a slower means for; of polls every other one."""
    number = getattr(errno, code)
    with fail(call, number, lambda turn: call != "poll" or turn % 2 == 0):
        assert CASES[name].go() == (DATA, None)


@pytest.mark.parametrize("supervised", [False, True])
def test_stderr_that_cannot_be_read_says_so(supervised: bool, fail: Fail) -> None:  # noqa: FBT001 - who steers
    """The command is none the worse for it; an event tells, and so does what was kept of its stderr."""
    events: list[Event] = []
    stage = command("sh", "-c", "echo one >&2", name="talker")
    with fail("read", errno.EIO, lambda turn: turn == 1) as failing:
        if supervised:
            result = stage.start(stdout=DEVNULL, on_event=events.append).wait()
        else:
            result = stage.run(stdout=DEVNULL, on_event=events.append)
    assert result.ok
    assert result.stages[0].stderr == b"\n... the rest could not be read: Input/output error ...\n"
    (told,) = [event for event in events if event.kind == "failed"]
    assert told.stage == "talker"
    assert told.error is failing.raised[0]

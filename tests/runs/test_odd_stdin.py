"""Objects as stdin that are not what they seem: they work, or the error names the object and what to do."""

from __future__ import annotations

import codecs
import gzip
import io
import multiprocessing
import os
import queue
import re
import socket
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE

from penstock import DEVNULL, Pipeline, PipelineError, command, function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COPY = {
    "command": command("cat"),
    "function": function(lambda _ctx, stdin, stdout: stdout.writelines(stdin.chunks())),
}
RUN: Any = command("true").run
BOTH = pytest.mark.parametrize("stage", COPY.values(), ids=COPY)


class Gives:
    """Its `read()` returns this, again and again."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def read(self, _size: int = -1) -> Any:
        return self.answer


class Unspeakable(Gives):
    def __repr__(self) -> str:
        raise RuntimeError("this repr fails")


class WithDescriptor(Gives):
    """Says that it has no bytes yet, and may be waited for."""

    def __init__(self, number: int) -> None:
        super().__init__(None)
        self.number = number

    def fileno(self) -> int:
        return self.number


class OnlyDescriptor:
    def fileno(self) -> int:
        return 0


class Dry(io.RawIOBase):
    """A raw file that has no bytes yet."""

    def readable(self) -> bool:
        return True

    def readinto(self, _buffer: Any) -> None:
        return None


class Slow(io.RawIOBase):
    """A raw file over a pipe that says None whenever it is empty."""

    def __init__(self, number: int) -> None:
        os.set_blocking(number, False)
        self.file = io.FileIO(number, closefd=False)

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.file.fileno()

    def readinto(self, buffer: Any) -> int | None:
        return self.file.readinto(buffer)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what the test has opened."""
    with ExitStack() as stack:
        yield stack


def pipe(stack: ExitStack, data: bytes = b"") -> int:
    """Return the number of a pipe's reading end; the other end stays open."""
    read, write = os.pipe()
    stack.callback(os.close, read)
    stack.callback(os.close, write)
    os.write(write, data)
    return read


REFUSED: dict[str, tuple[Callable[[ExitStack], Any], type[Exception], str]] = {
    "connection": (
        lambda s: _connections(s)[0],
        TypeError,
        "stdin carries messages, not a stream of bytes: <multiprocessing.connection.Connection .*recv_bytes",
    ),
    "queue": (lambda _: queue.Queue(), TypeError, r"stdin must be a path, .* not <queue.Queue"),
    "descriptor": (
        lambda _: OnlyDescriptor(),
        TypeError,
        r"stdin must be .* not <.*OnlyDescriptor.*>: give its fileno\(\) if its bytes are those",
    ),
    "class": (lambda _: io.BytesIO, TypeError, r"stdin must be .* not <class '_io.BytesIO'>$"),
    "closed": (lambda _: _after("close", io.BytesIO()), ValueError, "stdin is closed: <_io.BytesIO"),
    "closed file": (lambda _: _after("close", _null()), ValueError, "stdin is closed: <.*'/dev/null'>"),
    "closed socket": (lambda _: _after("close", socket.socket()), ValueError, r"stdin is closed: <.*fd=-1"),
    "detached": (lambda _: _after("detach", _null()), ValueError, "stdin is a BufferedReader .*detached"),
    "detached text": (lambda _: _after("detach", _null("r")), ValueError, "stdin is a Text.*detached"),
    "closed behind it": (
        lambda _: _closed_behind("rb"),
        ValueError,
        "stdin has a descriptor .*BufferedReader",
    ),
    "closed behind text": (
        lambda _: _closed_behind("r"),
        ValueError,
        "stdin has a descriptor .*TextIOWrapper",
    ),
    "writer": (
        lambda s: s.enter_context(_null("wb")),
        ValueError,
        "stdin is not open for reading: <_io.BufferedWriter",
    ),
    "None": (lambda _: Gives(None), PipelineError, "^stdin: .*<.*Gives.*> has no bytes yet, and has no"),
    "str": (lambda _: Gives("text"), PipelineError, "^stdin: .*returned str, not bytes: .*<.*Gives object"),
    "int": (lambda _: Gives(5), PipelineError, "^stdin: .*returned int, not bytes: <.*Gives object"),
    "no repr": (
        lambda _: Unspeakable(None),
        PipelineError,
        "^stdin: .*<.*Unspeakable object at .* no bytes yet",
    ),
    "long repr": (
        lambda _: ["x" * 10_000],
        PipelineError,
        r"^stdin: \['x{190,200} \.\.\. gave str, not bytes$",
    ),
    "raw None": (lambda _: Dry(), PipelineError, "^stdin: .*<.*Dry.*> has no bytes yet"),
    "buffered None": (
        lambda _: io.BufferedReader(Dry()),
        PipelineError,
        "^stdin: .*<_io.BufferedReader.*> has no bytes yet",
    ),
    "text None": (
        lambda _: io.TextIOWrapper(io.BufferedReader(Dry())),
        PipelineError,
        "^stdin: .*<_io.TextIOWrapper.*> is a text layer over an object that does not wait",
    ),
    "closed descriptor": (
        lambda _: WithDescriptor(987),
        PipelineError,
        "^stdin: .*WithDescriptor.*no descriptor",
    ),
}


def _connections(stack: ExitStack) -> list[Any]:
    return [stack.enter_context(end) for end in multiprocessing.Pipe()]


def _null(mode: str = "rb") -> Any:
    return open(os.devnull, mode)  # noqa: PTH123


def _after(method: str, thing: Any) -> Any:
    rest = getattr(thing, method)()
    if rest is not None:
        rest.close()
    return thing


def _closed_behind(mode: str) -> Any:
    read, write = os.pipe()
    os.close(write)
    file = os.fdopen(read, mode, closefd=False)
    os.close(read)
    return file


@BOTH
@pytest.mark.parametrize("kind", REFUSED)
def test_the_error_names_the_object(kind: str, stage: Pipeline, stack: ExitStack) -> None:
    """It is the error of stdin, and nothing of Penstock is in it."""
    make, error, pattern = REFUSED[kind]
    with pytest.raises(error) as caught:
        stage.run(stdin=make(stack), stdout=DEVNULL, timeout=DEADLINE)
    assert re.search(pattern, str(caught.value))
    assert "_Guarded" not in str(caught.value)


def _socket_file(stack: ExitStack, mode: str, **options: Any) -> Any:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"data\n")
    makefile: Any = stack.enter_context(ours).makefile
    return stack.enter_context(makefile(mode, **options))


def _packed(folder: Path, stack: ExitStack, mode: str) -> Any:
    path = folder / "packed"
    path.write_bytes(gzip.compress(b"data\n"))
    return stack.enter_context(gzip.open(path, mode))


TAKEN: dict[str, Callable[[ExitStack, Path], Any]] = {
    "socket, rb": lambda s, _: _socket_file(s, "rb"),
    "socket, r": lambda s, _: _socket_file(s, "r"),
    "socket, rwb": lambda s, _: _socket_file(s, "rwb"),
    "socket, rw": lambda s, _: _socket_file(s, "rw"),
    "socket, raw": lambda s, _: _socket_file(s, "rb", buffering=0),
    "os.popen": lambda s, _: s.enter_context(os.popen("echo data")),
    "gzip": lambda s, folder: _packed(folder, s, "rb"),
    "gzip, text": lambda s, folder: _packed(folder, s, "rt"),
    "codec": lambda _, __: codecs.getreader("utf-8")(io.BytesIO(b"data\n")),
    "slow": lambda s, _: Slow(_filled(s)),
    "buffered slow": lambda s, _: io.BufferedReader(Slow(_filled(s))),
    "pipe by name": lambda s, _: s.enter_context(open(f"/dev/fd/{_filled(s)}", "rb")),  # noqa: PTH123, SIM115
}


def _filled(stack: ExitStack) -> int:
    read, write = os.pipe()
    os.write(write, b"data\n")
    os.close(write)
    stack.callback(os.close, read)
    return read


@BOTH
@pytest.mark.parametrize("kind", TAKEN)
def test_the_object_is_read(kind: str, stage: Pipeline, stack: ExitStack, tmp_path: Path) -> None:
    """To its end."""
    assert stage.output(stdin=TAKEN[kind](stack, tmp_path), timeout=DEADLINE) == b"data\n"


@pytest.mark.parametrize("bufsize", [-1, 0])
@pytest.mark.parametrize("text", [True, False])
@BOTH
def test_the_output_of_another_process(stage: Pipeline, text: bool, bufsize: int) -> None:  # noqa: FBT001
    """As subprocess gives it."""
    buffering = {} if text and bufsize == 0 else {"bufsize": bufsize}
    with subprocess.Popen(["echo", "data"], stdout=subprocess.PIPE, text=text, **buffering) as child:  # type: ignore[call-overload]
        assert stage.output(stdin=child.stdout) == b"data\n"


@pytest.mark.parametrize("ready", [False, True])
def test_an_object_that_is_never_ready_keeps_no_run(ready: bool, stack: ExitStack) -> None:  # noqa: FBT001
    """Nor does one whose descriptor says that it is, although it has no bytes."""
    assert command("true").run(stdin=WithDescriptor(pipe(stack, b"x" if ready else b""))).ok


@pytest.mark.parametrize("option", ["stdout", "stderr"])
def test_stdout_and_stderr_are_refused_by_name(option: str, stack: ExitStack) -> None:
    """By name too."""
    things: list[Any] = [
        _connections(stack)[0],
        OnlyDescriptor(),
        *([io.BytesIO] if option == "stdout" else []),
    ]
    for thing in things:
        with pytest.raises((TypeError, ValueError), match=option) as caught:
            RUN(**{option: thing})
        assert repr(thing) in str(caught.value)
    for thing in (_closed_behind("rb"), _after("detach", _null("w"))):
        with pytest.raises(ValueError, match=option):
            RUN(**{option: thing})


def test_lines_of_an_object_that_can_only_be_called() -> None:
    """Each reaches the command at once, out of a text layer of the caller's own too."""
    read, write = os.pipe()

    class Mine(io.TextIOWrapper):
        pass

    with (
        os.fdopen(write, "wb", buffering=0) as other,
        Mine(os.fdopen(read, "rb")) as text,
        command("cat").start(stdin=text, stdout=-1) as run,
    ):
        assert run.stdout is not None
        for line in (b"one\n", b"two\n"):
            other.write(line)
            assert run.stdout.readline() == line
        other.close()
        assert run.wait(DEADLINE).ok

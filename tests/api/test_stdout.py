"""Every kind of stdout, behind a command and a Python stage."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from penstock import (
    CAPTURE,
    DEVNULL,
    PIPE,
    Pipeline,
    PipelineError,
    StartError,
    closing,
    command,
    function,
    source,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.hosts import Host

DATA = b"".join(b"line %06d\n" % number for number in range(9000))
PRODUCERS = {
    "command": command("cat"),
    "function": function(lambda _ctx, stdin, stdout: stdout.writelines(stdin.chunks())),
}


@pytest.fixture(params=PRODUCERS)
def producer(request: pytest.FixtureRequest) -> Pipeline:
    """What writes: a copy of its input."""
    return PRODUCERS[request.param]


class Memory:
    """An object with `write` and nothing else."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: Any) -> None:
        """Take it; return nothing, as many such objects do."""
        self.data += bytes(data)


class Short(Memory):
    """Takes a few bytes at a time, as a raw file may."""

    def write(self, data: Any) -> int:  # type: ignore[override]
        """Take some."""
        self.data += bytes(data[:777])
        return min(777, len(data))


class Keeping(Memory):
    """Keeps what it was given, instead of a copy."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def write(self, data: Any) -> None:
        """Keep it."""
        self.kept.append(data)


# What each kind yields: the stdout, and how to get at what arrived (called after the run).
Sink = tuple[Any, "Callable[[], bytes]"]


@contextlib.contextmanager
def opened(*args: Any, **kwargs: Any) -> Iterator[Sink]:
    """Yield an open file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out"
        with path.open(*args, **kwargs) as file:

            def read() -> bytes:
                if not file.closed:
                    file.flush()
                return path.read_bytes()

            yield file, read


@contextlib.contextmanager
def named(kind: Callable[[str], Any]) -> Iterator[Sink]:
    """Yield a path, where something longer lies already."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out"
        path.write_bytes(b"old" * 100_000)
        yield kind(str(path)), path.read_bytes


@contextlib.contextmanager
def numbered() -> Iterator[Sink]:
    """Yield a file's descriptor."""
    with opened("wb") as (file, read):
        yield file.fileno(), read


@contextlib.contextmanager
def compressing() -> Iterator[Sink]:
    """Yield a gzip file."""
    memory = io.BytesIO()
    with gzip.open(memory, "wb") as file:

        def read() -> bytes:
            file.close()
            return gzip.decompress(memory.getvalue())

        yield file, read


@contextlib.contextmanager
def received(wrap: Callable[[Any], Any], *, blocking: bool = True) -> Iterator[Sink]:
    """Yield one end of a pair of sockets, whose other end a thread reads."""
    ours, theirs = socket.socketpair()
    ours.setblocking(blocking)
    got: list[bytes] = []

    def work() -> None:
        got.extend(iter(lambda: theirs.recv(65536), b""))

    thread = threading.Thread(target=work)
    thread.start()
    made = wrap(ours)

    def read() -> bytes:
        if made is not ours and not isinstance(made, int) and not made.closed:
            made.flush()
        if ours.fileno() >= 0:
            ours.shutdown(socket.SHUT_WR)
        thread.join()
        return b"".join(got)

    try:
        yield made, read
    finally:
        if made is not ours and not isinstance(made, int):
            made.close()
        ours.close()
        thread.join()
        theirs.close()


@contextlib.contextmanager
def temporary(make: Callable[[], Any]) -> Iterator[Sink]:
    """Yield a temporary file."""
    with make() as file:

        def read() -> bytes:
            file.seek(0)
            return bytes(file.read())

        yield file, read


@contextlib.contextmanager
def in_memory(made: Any, read: Callable[[Any], bytes]) -> Iterator[Sink]:
    """Yield an object."""
    yield made, lambda: read(made)


KINDS: dict[str, Callable[[], Any]] = {
    "path as str": lambda: named(str),
    "path": lambda: named(Path),
    "fd": numbered,
    "raw file": lambda: opened("wb", buffering=0),
    "buffered file": lambda: opened("wb"),
    "random file": lambda: opened("w+b"),
    "appending file": lambda: opened("ab"),
    "text file": lambda: opened("w", encoding="utf-8"),
    "gzip file": compressing,
    "socket": lambda: received(lambda end: end),
    "non-blocking socket": lambda: received(lambda end: end, blocking=False),
    "fd of a non-blocking socket": lambda: received(lambda end: end.fileno(), blocking=False),
    "file of a socket": lambda: received(lambda end: end.makefile("wb")),
    "TemporaryFile": lambda: temporary(tempfile.TemporaryFile),
    "NamedTemporaryFile": lambda: temporary(tempfile.NamedTemporaryFile),
    "SpooledTemporaryFile": lambda: temporary(tempfile.SpooledTemporaryFile),
    "BytesIO": lambda: in_memory(io.BytesIO(), lambda made: made.getvalue()),
    "StringIO": lambda: in_memory(io.StringIO(), lambda made: made.getvalue().encode()),
    "object with write": lambda: in_memory(Memory(), lambda made: made.data),
    "object that takes little": lambda: in_memory(Short(), lambda made: made.data),
    "object that keeps": lambda: in_memory(Keeping(), lambda made: b"".join(made.kept)),
}


@pytest.mark.parametrize("data", [DATA, b"x", b""], ids=["much", "little", "nothing"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_byte_arrives_and_what_was_passed_stays_open(
    producer: Pipeline, kind: str, data: bytes
) -> None:
    """Of every kind of stdout; a path's old contents are gone, and nothing is captured."""
    with KINDS[kind]() as (stdout, read):
        result = producer.run(input=data, stdout=stdout)
        assert result.stdout is None
        assert getattr(stdout, "closed", False) is False
        if isinstance(stdout, int):
            os.fstat(stdout)
            assert os.get_blocking(stdout) == ("non-blocking" not in kind)
        if isinstance(stdout, socket.socket):
            assert stdout.fileno() >= 0
            assert stdout.getblocking() == ("non-blocking" not in kind)
        assert read() == data


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "file" in kind.lower() or kind.endswith("IO")])
def test_an_object_in_closing_is_closed_after_the_run(producer: Pipeline, kind: str) -> None:
    """Also where the run fails, and where it does not even start."""
    with KINDS[kind]() as (stdout, read):
        producer.run(input=b"data", stdout=closing(stdout))
        assert stdout.closed
        if "IO" not in kind and "Temporary" not in kind:
            assert read() == b"data"
    for program in ("false", "/no/such/program"):
        with KINDS[kind]() as (stdout, _):
            assert not command(program).run(stdout=closing(stdout), check=False).ok
            assert stdout.closed


def test_a_number_or_socket_that_was_handed_over_is_closed_after_the_run(producer: Pipeline) -> None:
    """So that whoever reads the other end sees EOF."""
    reading, writing = os.pipe()
    with open(reading, "rb") as file:  # noqa: PTH123
        producer.run(input=b"data", stdout=closing(writing))
        assert file.read() == b"data"
    ours, theirs = socket.socketpair()
    with theirs:
        producer.run(input=b"data", stdout=closing(ours))
        assert ours.fileno() == -1
        assert theirs.recv(10) == b"data"
        assert theirs.recv(10) == b""


def test_an_error_of_closing_what_was_handed_over_is_an_error_of_stdout(producer: Pipeline) -> None:
    """A last flush may fail, and then something was lost."""

    class Sour(io.BytesIO):
        def close(self) -> None:
            super().close()
            raise OSError(28, "No space left")

    with pytest.raises(PipelineError, match="No space left") as caught:
        producer.run(input=b"data", stdout=closing(Sour()))
    assert caught.value.stage == "stdout"


# The order of writes.


@pytest.mark.parametrize("mode", ["wb", "ab", "w+b", "w", "a"])
def test_buffered_writes_keep_their_order_around_the_run(
    producer: Pipeline, tmp_path: Path, mode: str
) -> None:
    """Though it lay in a buffer."""
    path = tmp_path / "out"
    options: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8"}
    head, tail = (b"head ", b" tail") if "b" in mode else ("head ", " tail")
    with path.open(mode, **options) as file:
        file.write(head)
        producer.run(input=b"data", stdout=file)
        file.write(tail)
    assert path.read_bytes() == b"head data tail"


def test_a_file_is_written_where_it_stands(producer: Pipeline, tmp_path: Path) -> None:
    """Not at its end, and not at its beginning; for a reader that has read ahead, too."""
    path = tmp_path / "out"
    path.write_bytes(b"0123456789")
    with path.open("r+b") as file:
        file.seek(3)
        producer.run(input=b"abc", stdout=file)
    assert path.read_bytes() == b"012abc6789"
    with path.open("r+b") as file:
        assert file.read(2) == b"01"
        producer.run(input=b"xy", stdout=file)
    assert path.read_bytes() == b"01xybc6789"
    memory = io.BytesIO(b"0123456789")
    memory.seek(3)
    producer.run(input=b"abc", stdout=memory)
    assert memory.getvalue() == b"012abc6789"


def test_a_descriptor_in_append_mode_appends(producer: Pipeline, tmp_path: Path) -> None:
    """As the shell's >>."""
    path = tmp_path / "out"
    path.write_bytes(b"old ")
    with path.open("ab") as file:
        producer.run(input=b"a", stdout=file)
        producer.run(input=b"b", stdout=file.fileno())
    assert path.read_bytes() == b"old ab"


# Text.


def test_a_character_that_was_cut_by_a_chunk_is_whole_in_a_text_object() -> None:
    """And what is no text is replaced, at the end of the data too."""
    chunks = [b"gr\xc3", b"\xb6\xc3\x9f", b"e\xff\xe2\x82"]
    text = io.StringIO()
    source(chunks).run(stdout=text)
    assert text.getvalue() == "größe\ufffd\ufffd"
    text = io.StringIO()
    (source(chunks) | command("cat")).run(stdout=text)
    assert text.getvalue() == "größe\ufffd\ufffd"


def test_a_text_file_of_another_encoding_gets_the_bytes_as_they_are(
    producer: Pipeline, tmp_path: Path
) -> None:
    """Its descriptor is passed."""
    path = tmp_path / "out"
    with path.open("w", encoding="utf-16") as file:
        producer.run(input=b"a\r\n\xff", stdout=file)
    assert path.read_bytes() == b"a\r\n\xff"


# Specials.


def test_devnull_discards_and_capture_captures(producer: Pipeline) -> None:
    """Empty output is captured as empty bytes, not as None."""
    assert producer.run(input=DATA, stdout=DEVNULL).stdout is None
    assert producer.run(input=DATA, stdout=CAPTURE).stdout == DATA
    assert producer.run(input=b"", stdout=CAPTURE).stdout == b""


HOST = """
stage = command("cat") if sys.argv[1] == "command" else function(lambda c, i, o: o.write(i.read()))
sys.stdout.write("before ")
sys.stdout.flush()
assert stage.run(input=b"data", **({"stdout": INHERIT} if sys.argv[2] == "inherit" else {})).stdout is None
print(" after")
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", PRODUCERS)
@pytest.mark.parametrize("said", ["inherit", "default"])
def test_inherited_stdout_is_the_hosts_and_the_default(host: Host, kind: str, said: str) -> None:
    """It stays open."""
    assert host.talk(HOST, kind, said).stdout == b"before data after\n"


def test_inherited_stdout_that_is_closed_discards(host: Host) -> None:
    """A daemon has none."""
    program = """
import os
os.close(1)
ok = command("echo", "x").run().ok and echo("x").run().ok
sys.stderr.write(str(ok))
"""
    assert host.talk(program).stderr == b"True"


def test_pipe_gives_the_caller_a_file_to_read(producer: Pipeline) -> None:
    """To the EOF that the last stage's end is."""
    with producer.start(input=DATA, stdout=PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readable()
        assert run.stdout.readline() == DATA[:12]
        assert run.stdout.read() == DATA[12:]
    assert run.stdout.closed
    assert run.wait().ok


def test_closing_the_pipe_early_is_not_a_failure() -> None:
    """The caller has finished early."""
    with command("yes").start(stdout=PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"y\n"
    assert run.wait().ok


# Failures.


def test_an_error_of_the_callers_object_is_that_of_a_stage_named_stdout(producer: Pipeline) -> None:
    """The very object."""
    error = ValueError("broken sink")

    class Broken:
        def write(self, _data: object) -> None:
            raise error

    with pytest.raises(PipelineError) as caught:
        producer.run(input=b"data", stdout=Broken())
    assert caught.value.cause is error
    assert (caught.value.stage, caught.value.index) == ("stdout", None)
    assert str(caught.value) == "stdout: broken sink"


def test_a_sink_that_fails_ends_an_endless_producer() -> None:
    """And is what is reported, not the broken pipe above it."""

    class Full(Memory):
        def write(self, data: Any) -> None:
            super().write(data)
            raise OSError(28, "No space left on device")

    for stage in (command("yes"), function(forever)):
        result = stage.run(stdout=Full(), check=False)
        assert result.error is not None
        assert result.error.stage == "stdout"
        assert isinstance(result.error.cause, OSError)
        assert result.error.cause.errno == 28


def forever(_ctx: object, _stdin: object, stdout: Any) -> None:
    """Write without end."""
    while True:
        stdout.write(b"y\n" * 1000)


def test_a_path_that_cannot_be_opened_fails_the_start(probe: Any, tmp_path: Path) -> None:
    """Nothing has started then; a folder is no file."""
    for path, kind in ((tmp_path / "missing" / "out", FileNotFoundError), (tmp_path, IsADirectoryError)):
        with pytest.raises(StartError, match="stdout") as caught:
            Pipeline(probe).run(stdout=path)
        assert isinstance(caught.value.cause, kind)
        assert (caught.value.stage, caught.value.index) == ("stdout", None)
    assert probe.starts == 0


def test_a_stdin_that_cannot_be_opened_leaves_the_file_of_stdout_as_it_was(tmp_path: Path) -> None:
    """It is not emptied for a run that never began."""
    path = tmp_path / "out"
    path.write_bytes(b"precious")
    assert not command("cat").run(stdin=tmp_path / "missing", stdout=path, check=False).ok
    assert path.read_bytes() == b"precious"


def test_one_file_may_be_stdout_and_stderr(tmp_path: Path) -> None:
    """Or stdin and stdout, of a socket."""
    path = tmp_path / "both"
    with path.open("wb") as file:
        command("sh", "-c", "echo out; echo err >&2").run(stdout=file, stderr=file)
    assert path.read_bytes() == b"out\nerr\n"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"ping")
        theirs.shutdown(socket.SHUT_WR)
        command("cat").run(stdin=ours, stdout=ours)
        assert theirs.recv(10) == b"ping"


@pytest.mark.parametrize("kind", [io.RawIOBase, io.BufferedIOBase])
def test_a_writer_of_pythons_own_kind_is_lent_the_buffer(kind: type[Any]) -> None:
    """From a command, for each chunk; from a Python stage chunks come as they are."""

    class Writer(kind):  # type: ignore[misc]
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            seen.append(type(data))
            whole.extend(data)
            return len(data)

    seen: list[type] = []
    whole = bytearray()
    command("head", "-c", "1000000", "/dev/zero").run(stdout=Writer())
    assert set(seen) == {memoryview}
    assert whole == bytes(1_000_000)
    seen.clear()
    source([b"x" * 1000] * 3).run(stdout=Writer())
    assert set(seen) == {bytes}
    assert whole.endswith(b"x" * 3000)

"""Traps of the caller's own objects: buffers, layers, flags, encodings, and devices that are full."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import itertools
import lzma
import os
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.system_calls import failing

from penstock import (
    CAPTURE,
    DEVNULL,
    Pipeline,
    PipelineError,
    StartError,
    command,
    each_line,
    function,
    map_line_batches,
    map_lines,
    source,
    transform,
    transform_lines,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.hosts import Host


LINES = b"".join(b"line %d\n" % number for number in range(20_000))


def copy(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Pass everything on."""
    for chunk in stdin.chunks():
        stdout.write(chunk)


BOTH = pytest.mark.parametrize("stage", [command("cat"), function(copy)], ids=["command", "function"])


@pytest.mark.gotcha(13)
@BOTH
@pytest.mark.parametrize("kind", ["file", "pipe", "text", "raw", "both ways"])
def test_bytes_that_a_reader_has_buffered_come_first(kind: str, stage: Pipeline, tmp_path: Path) -> None:
    """After a header was read off a buffered reader, every other byte arrives once and in order."""
    path = tmp_path / "data"
    path.write_bytes(LINES)
    head, rest = b"line 0\n", LINES[7:]
    with ExitStack() as stack:
        reader: Any
        if kind == "pipe":
            read, write = os.pipe()

            def fill() -> None:
                with os.fdopen(write, "wb") as file:
                    file.write(LINES)

            thread = threading.Thread(target=fill)
            thread.start()
            stack.callback(thread.join)
            reader = os.fdopen(read, "rb")
        elif kind == "text":
            reader = path.open(encoding="utf-8")
        elif kind == "raw":
            reader = path.open("rb", buffering=0)
        else:
            reader = path.open("r+b" if kind == "both ways" else "rb")
        stack.enter_context(reader)
        first = reader.readline()
        assert (first.encode() if kind == "text" else first) == head
        assert stage.output(stdin=reader) == rest


@pytest.mark.gotcha(13)
@BOTH
def test_bytes_that_a_writer_has_buffered_come_first(stage: Pipeline, tmp_path: Path) -> None:
    """And what it writes afterwards comes last."""
    path = tmp_path / "data"
    for mode in ("wb", "w"):
        with path.open(mode) as writer:
            writer.write("head\n" if mode == "w" else b"head\n")
            stage.run(input=LINES, stdout=writer)
            writer.write("foot\n" if mode == "w" else b"foot\n")
        assert path.read_bytes() == b"head\n" + LINES + b"foot\n"


@pytest.mark.gotcha(14)
@BOTH
@pytest.mark.parametrize("opener", [gzip.open, bz2.open, lzma.open], ids=["gzip", "bz2", "lzma"])
def test_a_compressed_file_is_copied_through_its_layer(opener: Any, stage: Pipeline, tmp_path: Path) -> None:
    """Both ways, though its `fileno()` is that of the file below."""
    path = tmp_path / "packed"
    with opener(path, "wb") as packed:
        stage.run(input=LINES, stdout=packed)
    with opener(path, "rb") as packed:
        assert packed.read() == LINES
    with opener(path, "rb") as packed:
        assert packed.readline() == b"line 0\n"
        assert stage.output(stdin=packed) == LINES[7:]


@pytest.mark.gotcha(14)
@BOTH
def test_a_subclass_that_changes_the_bytes_is_asked_for_them(stage: Pipeline, tmp_path: Path) -> None:
    """Only io's own classes are known to give what their descriptor gives."""

    class Upper(io.FileIO):
        def readinto(self, buffer: Any) -> int | None:
            size = super().readinto(buffer)
            if size:
                buffer[:size] = bytes(buffer[:size]).upper()
            return size

        def read(self, size: int | None = -1) -> bytes:
            return (super().read(-1 if size is None else size) or b"").upper()

    (tmp_path / "data").write_bytes(LINES)
    with Upper(tmp_path / "data") as upper:
        assert stage.output(stdin=upper) == LINES.upper()


@pytest.mark.gotcha(15)
@BOTH
def test_a_non_blocking_socket_is_waited_for_and_keeps_its_flag(stage: Pipeline) -> None:
    """In either direction; a child would die of EAGAIN."""
    data = LINES * 8
    for direction in ("stdin", "stdout"):
        ours, theirs = socket.socketpair()
        received: list[bytes] = []
        with ours, theirs:
            ours.setblocking(False)  # noqa: FBT003

            def other(direction: str = direction, theirs: Any = theirs, received: Any = received) -> None:
                if direction == "stdin":
                    theirs.sendall(data)
                    theirs.shutdown(socket.SHUT_WR)
                else:
                    received.extend(iter(lambda: theirs.recv(1 << 16), b""))

            thread = threading.Thread(target=other)
            thread.start()
            if direction == "stdin":
                received.append(stage.output(stdin=ours))
            else:
                stage.run(input=data, stdout=ours)
                ours.shutdown(socket.SHUT_WR)
            thread.join()
            assert ours.getblocking() is False
        assert b"".join(received) == data


@pytest.mark.gotcha(15)
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_child_has_no_non_blocking_descriptor(kind: str) -> None:
    """The kernel tells it of its own stdin and stdout."""
    show = command("sh", "-c", "cat /proc/self/fdinfo/0; ls >/dev/null; cat /proc/self/fdinfo/1")
    with ExitStack() as stack:
        if kind == "socket":
            pairs = [socket.socketpair() for _ in range(2)]
            numbers = [(left.detach(), right.detach()) for left, right in pairs]
        else:
            numbers = [os.pipe() for _ in range(2)]
        for number in itertools.chain(*numbers):
            stack.callback(os.close, number)
            os.set_blocking(number, False)
        assert show.run(stdin=numbers[0][0], stdout=numbers[1][1]).ok
        told = os.read(numbers[1][0], 65536).decode()
    flags = [int(line.split()[1], 8) for line in told.splitlines() if line.startswith("flags")]
    assert len(flags) == 2
    assert not any(flag & os.O_NONBLOCK for flag in flags)


def reused(last: int = 5) -> Iterator[bytearray]:
    """Yield the same buffer again and again, with something else in it."""
    buffer = bytearray(1)
    for number in range(last):
        buffer[0] = ord("0") + number
        yield buffer
    buffer[0] = ord("x")


def write_reused(_ctx: object, _stdin: object, stdout: Any) -> None:
    """Write one buffer again and again, in three ways."""
    for buffer in reused():
        stdout.write(buffer)
        with memoryview(buffer) as view:
            stdout.write(view)
    stdout.writelines(reused())


@pytest.mark.gotcha(16)
@pytest.mark.parametrize("after", ["nothing", "function", "command", "lines"])
def test_a_buffer_may_be_reused_after_it_was_written(after: str) -> None:
    """Whoever takes a bytearray keeps a copy of its own."""
    stages = {
        "nothing": None,
        "function": function(copy),
        "command": command("cat"),
        "lines": transform(lambda chunks: iter(list(chunks))),
    }[after]

    def output(stage: Pipeline, **options: Any) -> bytes:
        return (stage if stages is None else stage | stages).output(**options)

    assert output(function(write_reused)) == b"001122334401234"
    assert output(source(reused())) == b"01234"  # type: ignore[arg-type]
    assert output(transform(lambda _chunks: reused())) == b"01234"  # type: ignore[arg-type, return-value]
    assert output(function(copy), stdin=reused()) == b"01234"
    assert output(command("cat"), stdin=reused()) == b"01234"
    assert output(each_line(write_reused), input="x\n") == b"001122334401234"
    lines = b"0\n1\n2\n3\n4\n"
    assert output(transform_lines(lambda _lines: reused())) == lines  # type: ignore[arg-type, return-value]
    assert output(map_line_batches(lambda _lines: reused()), input="x\n") == lines  # type: ignore[arg-type, return-value]
    buffers = reused()
    assert output(map_lines(lambda _line: next(buffers)), input="a\n" * 5) == lines  # type: ignore[arg-type, return-value]


@pytest.mark.gotcha(18)
@BOTH
def test_a_file_opened_for_appending_is_appended_to(stage: Pipeline, tmp_path: Path) -> None:
    """As a descriptor, as an object, and by the child that gets it."""
    path = tmp_path / "log"
    path.write_bytes(b"before\n")
    with path.open("ab") as log:
        stage.run(input=b"by file\n", stdout=log)
        stage.run(input=b"by number\n", stdout=log.fileno())
    assert path.read_bytes() == b"before\nby file\nby number\n"


@pytest.mark.gotcha(19)
@pytest.mark.parametrize("size", [1, 1 << 20, 1 << 30, 1 << 40])
def test_a_pipe_size_that_the_kernel_refuses_is_tolerated(size: int) -> None:
    """The pipe stays as it was, and carries what it has to."""
    pipeline = command("cat") | function(copy) | command("cat")
    assert pipeline.output(input=LINES, pipe_size=size) == LINES


TEXT = "aé€😀\n" * 9000  # characters of one to four bytes, so that every cut falls into one somewhere


@pytest.mark.gotcha(27)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 4096, 65536])
def test_a_character_may_be_split_between_chunks(size: int) -> None:
    """On its way to a text file, to text(), and to lines."""
    data = TEXT.encode()[: size * 3000]
    whole = data.decode(errors="ignore")
    data = whole.encode()
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    for last in (function(copy), command("cat")):
        sink = io.StringIO()
        assert (source(chunks) | last).run(stdout=sink).ok
        assert sink.getvalue() == whole
    assert (source(chunks) | function(copy)).text() == whole
    lines = [line.decode() for line in (source(chunks) | function(copy)).iter_lines()]
    assert lines == whole.split("\n")[: len(lines)]


@pytest.mark.gotcha(27)
@BOTH
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-be", "latin-1"])
def test_text_is_read_in_its_own_encoding(encoding: str, stage: Pipeline, tmp_path: Path) -> None:
    """Whole, also where that has a mark at the beginning, and where reading has begun already."""
    text = "aéx\n" * 9000
    data = text.encode(encoding)
    (tmp_path / "text").write_bytes(data)
    memory = io.TextIOWrapper(io.BytesIO(data), encoding=encoding)
    assert stage.output(stdin=memory, timeout=30).decode(encoding) == text
    with (tmp_path / "text").open(encoding=encoding) as file:
        assert file.readline() == "aéx\n"
        rest = stage.output(stdin=file, timeout=30)
    assert rest.decode(encoding) == text[4:]
    assert stage.output(stdin=io.StringIO(text), timeout=30).decode() == text


@pytest.mark.gotcha(27)
@BOTH
def test_a_character_that_is_cut_off_is_shown_and_not_dropped(stage: Pipeline) -> None:
    """Nothing that was written is lost without a trace."""
    sink = io.StringIO()
    stage.run(input=b"abc\xc3", stdout=sink)
    assert sink.getvalue() == "abc\ufffd"
    with pytest.raises(UnicodeDecodeError):
        stage.text(input=b"abc\xc3")
    assert stage.text(input=b"abc\xc3", errors="replace") == "abc\ufffd"


@pytest.mark.gotcha(28)
def test_a_full_device_is_an_error_of_the_stage_or_the_edge() -> None:
    """A function by its name, a command by its own words, a copy to an object as `stdout`."""
    with pytest.raises(PipelineError) as caught:
        (source([LINES]) | function(copy, name="writer")).run(stdout="/dev/full")
    assert caught.value.stage == "writer"
    assert isinstance(caught.value.cause, OSError)
    assert caught.value.cause.errno == errno.ENOSPC
    with pytest.raises(PipelineError, match=r"^cat: exit status") as caught:
        command("cat").run(input=LINES, stdout="/dev/full")
    assert "No space left" in str(caught.value.__notes__)

    class Full:
        def write(self, _data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for stage in (command("cat"), function(copy)):
        with pytest.raises(PipelineError) as caught:
            stage.run(input=LINES, stdout=Full())
        assert (caught.value.stage, caught.value.index) == ("stdout", None)
        assert isinstance(caught.value.cause, OSError)


@pytest.mark.gotcha(28)
def test_a_start_without_descriptors_names_the_stage_and_leaks_nothing(
    host: Host,
) -> None:
    """Whatever number is left when it begins; and with enough of them it works again."""
    said = host.output("""
import resource
from itertools import repeat
pipeline = source([b"x"]) | command("cat") | function(lambda c, i, o: o.write(i.read())) | command("cat")
assert pipeline.output() == b"x"
with pipeline.start(stdout=DEVNULL) as run:
    run.wait()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
before = sorted(os.listdir("/proc/self/fd"))
failed = 0
for room in range(0, 24):
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(before) + room, hard))
    for how in ("run", "start"):
        try:
            if how == "run":
                assert pipeline.output(timeout=20) == b"x"
            else:
                assert pipeline.start(stdout=CAPTURE, timeout=20).wait().stdout == b"x"
        except (PipelineError, OSError) as error:
            failed += 1
            assert not isinstance(error, PipelineTimeout), error
            assert "open files" in str(error), error
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
deadline = time.monotonic() + 10
while sorted(os.listdir("/proc/self/fd")) != before:
    assert time.monotonic() < deadline, sorted(os.listdir("/proc/self/fd"))
assert pipeline.output() == b"x"
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    say("clean", failed > 0)
""")
    assert said == "clean True\n"


@pytest.mark.gotcha(28)
def test_a_refused_fork_is_a_start_error_and_the_others_are_reaped() -> None:
    """EAGAIN says what is short; nothing that was started before remains."""
    pipeline = command("cat") | command("sleep", "1000") | command("sort")
    with (
        failing("posix_spawn", errno.EAGAIN, lambda turn: turn == 3),
        pytest.raises(StartError, match=r'^starting stage "sort"') as caught,
    ):
        pipeline.run(stdin=DEVNULL, stdout=CAPTURE)
    assert isinstance(caught.value.cause, BlockingIOError)

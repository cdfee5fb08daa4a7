"""stdin that is one of io's own readers, over a pipe or a terminal: bytes, locks, and the caller's share."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import select
import socket
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE, until

from penstock import CAPTURE, DEVNULL, PIPE, Pipeline, PipelineTimeout, StartError, command, function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRUE = command("true")
CAT = command("cat")
LINE = command("sh", "-c", "read -r line; echo $line")  # sh reads byte by byte, so it takes one line


def copy_line(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Take one line."""
    stdout.write(stdin.readline())


ONE_LINE = {
    "command": LINE,
    "function": function(copy_line),
    "nested": Pipeline(LINE, CAT, name="inner") | CAT,
}
KINDS = ["pipe", "FIFO", "socket", "terminal", "text", "socket file", "Popen.stdout"]


class Source:
    """A reader of the caller's, and the other end, which writes to it."""

    def __init__(self, kind: str, stack: ExitStack, folder: Path) -> None:
        self.text = kind == "text"
        if kind == "Popen.stdout":
            child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.callback(child.wait)
            self.other: Any = child.stdin
            self.reader: Any = child.stdout
        elif kind.startswith("socket"):
            ours, self.other = socket.socketpair()
            stack.enter_context(ours)
            self.reader = (
                ours.makefile("rb") if kind == "socket file" else os.fdopen(os.dup(ours.fileno()), "rb")
            )
        else:
            if kind == "terminal":
                other, fd = pty.openpty()
            elif kind == "FIFO":
                os.mkfifo(folder / "fifo")
                fd = os.open(folder / "fifo", os.O_RDONLY | os.O_NONBLOCK)
                other = os.open(folder / "fifo", os.O_WRONLY)
                os.set_blocking(fd, True)
            else:
                fd, other = os.pipe()
            self.other = os.fdopen(other, "wb", buffering=0)
            self.reader = os.fdopen(fd, "r" if self.text else "rb")
        stack.callback(self.other.close)
        stack.callback(self.reader.close)

    def write(self, data: bytes) -> None:
        """Have these bytes come, and wait until they are there."""
        if isinstance(self.other, socket.socket):
            self.other.sendall(data)
        else:
            self.other.write(data)
            self.other.flush()
        until(lambda: select.select([self.reader.fileno()], [], [], 0)[0])

    def line(self) -> bytes:
        """Read a line by the reader's own method."""
        line = self.reader.readline()
        return line.encode() if self.text else bytes(line)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[str], Source]]:
    """Makes sources, closed after the test."""
    with ExitStack() as stack:
        yield lambda kind: Source(kind, stack, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_unread_bytes_stay_with_the_caller(opened: Callable[[str], Source], kind: str) -> None:
    """Those that come after a run that has read nothing, and those that came before."""
    source = opened(kind)
    assert TRUE.run(stdin=source.reader).ok
    source.write(b"one\ntwo\n")
    assert TRUE.run(stdin=source.reader).ok
    assert source.line() == b"one\n"
    assert TRUE.run(stdin=source.reader).ok
    assert source.line() == b"two\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_can_be_closed_after_a_run(opened: Callable[[str], Source], kind: str) -> None:
    """Nothing of Penstock sits in its `read()`, although nothing ever comes."""
    source = opened(kind)
    source.write(b"one\ntwo\n")
    source.line()  # and so it has read ahead, except from a terminal
    assert TRUE.run(stdin=source.reader).ok
    source.reader.close()


@pytest.mark.parametrize("stage", ONE_LINE)
@pytest.mark.parametrize("kind", KINDS)
def test_each_side_gets_the_lines_that_it_reads(
    opened: Callable[[str], Source], kind: str, stage: str
) -> None:
    """The caller and two runs take turns: nothing is lost, doubled or out of order."""
    source = opened(kind)
    source.write(b"1\n2\n3\n4\n5\n")
    assert source.line() == b"1\n"
    assert ONE_LINE[stage].output(stdin=source.reader, timeout=DEADLINE) == b"2\n"
    assert source.line() == b"3\n"
    assert ONE_LINE[stage].output(stdin=source.reader, timeout=DEADLINE) == b"4\n"
    source.write(b"6\n")
    assert source.line() == b"5\n"
    assert source.line() == b"6\n"


@pytest.mark.gotcha(13)
@pytest.mark.parametrize("stage", [CAT, function(lambda _ctx, i, o: o.writelines(i.chunks()))])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "terminal"])
def test_bytes_read_ahead_come_first(opened: Callable[[str], Source], kind: str, stage: Pipeline) -> None:
    """After a header was read; then all that comes, to its end."""
    source = opened(kind)
    source.write(b"head\nrest\n")
    assert source.line() == b"head\n"
    with stage.start(stdin=source.reader, stdout=CAPTURE) as run:
        source.other.sendall(b"more\n") if kind.startswith("socket") else source.other.write(b"more\n")
        source.other.close()
        assert run.wait(DEADLINE).stdout == b"rest\nmore\n"
    assert source.line() == b""


def test_a_look_at_the_buffer_changes_nothing(opened: Callable[[str], Source]) -> None:
    """`explain()` asks what a reader has read ahead, and the reader keeps it."""
    for kind in ("pipe", "text"):
        source = opened(kind)
        assert CAT.explain(stdin=source.reader).edges[0].kind == "pass-fd"
        source.write(b"one\ntwo\nthree\n")
        assert source.line() == b"one\n"
        for stage, carrier in ((CAT, ("splice", "pooled")), (function(copy_line), ("pass-fd",))):
            assert stage.explain(stdin=source.reader).edges[0].kind in carrier
        assert source.line() == b"two\n"
        result = LINE.run(stdin=source.reader, stdout=DEVNULL)
        assert result.edges[0].kind in ("splice", "pooled")
        assert CAT.explain(stdin=source.reader).edges[0].kind == "pass-fd"


@pytest.mark.parametrize("size", [100, 8192, 300_000])
def test_a_large_read_ahead_is_given_back(size: int) -> None:
    """Also more than a pipe or the reader's own buffer holds."""
    read, write = os.pipe()
    data = os.urandom(size) + b"\n"

    def fill() -> None:
        with os.fdopen(write, "wb") as other:
            other.write(data * 3)

    writer = threading.Thread(target=fill)
    with os.fdopen(read, "rb", buffering=2 * len(data)) as reader:
        writer.start()
        assert reader.read(len(data)) == data
        assert command("dd", "bs=1", "count=10", stderr=DEVNULL).output(stdin=reader) == data[:10]
        assert reader.read() == (data * 2)[10:]
        writer.join()


def test_a_command_that_takes_nothing_leaves_all(opened: Callable[[str], Source]) -> None:
    """A relay in full flow gives back its pipe, and what it had in hand."""
    source = opened("pipe")
    data = b"".join(b"%07d\n" % number for number in range(100_000))
    source.write(data[:8])
    feeder = threading.Thread(target=lambda: (source.other.write(data[8:]), source.other.close()))
    feeder.start()
    assert source.reader.peek()
    for _ in range(5):
        assert command("sleep", "0.05").run(stdin=source.reader).ok
    assert source.reader.read() == data
    feeder.join()


@pytest.mark.parametrize("newline", [None, "", "\n", "\r\n"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "shift_jis", "utf-7", "cp1252"]
)
def test_text_that_was_begun(encoding: str, newline: str | None) -> None:
    """Characters that were decoded come first, and the part of one that could not be."""
    text = {"shift_jis": "あいう\r\nかき\r\nくけこ\r\n"}.get(encoding, "aé\r\nbü\r\ncà\r\n")
    data = text.encode(encoding)
    read, write = os.pipe()
    with os.fdopen(read, encoding=encoding, newline=newline) as reader, os.fdopen(write, "wb") as other:
        other.write(data[:-5])  # in the middle of a character of several bytes
        other.flush()
        first = reader.readline()
        assert first.rstrip() == text.splitlines()[0]
        with CAT.start(stdin=reader, stdout=CAPTURE) as run:
            other.write(data[-5:])
            other.close()
            out = run.wait(DEADLINE).stdout
        assert out is not None
        rest = out.decode(encoding.removesuffix("-sig"))
        assert rest.replace("\r\n", "\n") == "".join(text.splitlines(keepends=True)[1:]).replace("\r\n", "\n")
        if encoding not in ("utf-16", "utf-7"):
            assert out == data[len(text.splitlines(keepends=True)[0].encode(encoding)) :]


def test_a_reader_in_use_by_another_thread_is_refused(
    opened: Callable[[str], Source], set_timing: Any
) -> None:
    """Its lock is held, so nobody can know what it holds; that is said, and no run hangs."""
    set_timing(object_lock_s=0.05)
    source = opened("pipe")
    taken: list[bytes] = []
    thread = threading.Thread(target=lambda: taken.append(source.reader.readline()))
    thread.start()

    def refused() -> bool:
        try:
            return not TRUE.run(stdin=source.reader).ok
        except ValueError as error:
            words = "stdin is being read by another thread", repr(source.reader)
            return all(word in str(error) for word in words)

    until(refused)  # once the thread holds the lock
    source.other.write(b"one\ntwo\n")
    thread.join()
    assert taken == [b"one\n"]
    assert LINE.output(stdin=source.reader) == b"two\n"


@pytest.mark.parametrize("stage", ONE_LINE)
def test_a_run_that_fails_to_start_takes_nothing(opened: Callable[[str], Source], stage: str) -> None:
    """What was read ahead goes back to the reader."""
    source = opened("pipe")
    source.write(b"1\n2\n")
    assert source.line() == b"1\n"
    with pytest.raises(StartError):
        (ONE_LINE[stage] | command("/nowhere")).run(stdin=source.reader)
    assert source.line() == b"2\n"


@pytest.mark.parametrize("stage", [CAT, function(lambda _ctx, stdin, _stdout: stdin.read())])
def test_a_deadline_ends_a_wait_for_more(opened: Callable[[str], Source], stage: Pipeline) -> None:
    """After which the reader works as before."""
    source = opened("pipe")
    source.write(b"1\n2\n")
    assert source.line() == b"1\n"
    with pytest.raises(PipelineTimeout):
        stage.run(stdin=source.reader, timeout=0.1)
    source.write(b"3\n")
    assert source.line() == b"3\n"


def test_in_an_event_loop(opened: Callable[[str], Source]) -> None:
    """The async methods keep the same promises."""
    source = opened("text")
    source.write(b"1\n2\n3\n4\n")
    assert source.line() == b"1\n"

    async def main() -> bytes:
        assert (await TRUE.arun(stdin=source.reader)).ok
        async with LINE.astart(stdin=source.reader, stdout=PIPE) as run:
            assert run.stdout is not None
            return b"".join([chunk async for chunk in run.stdout])

    assert asyncio.run(main()) == b"2\n"
    assert source.line() == b"3\n"


@pytest.mark.parametrize("made", ["buffered", "raw", "text", "number"])
def test_a_function_leaves_the_rest_of_a_file(tmp_path: Path, made: str) -> None:
    """The position of a regular file is where the function has stopped."""
    path = tmp_path / "data"
    path.write_bytes(b"1\n2\n3\n" + b"x" * 100_000)
    stage = ONE_LINE["function"]
    if made == "number":
        number = os.open(path, os.O_RDONLY)
        assert stage.output(stdin=number) == b"1\n"
        with os.fdopen(number, "rb") as file:
            assert file.readline() == b"2\n"
        return
    reader: Any = path.open("r" if made == "text" else "rb", buffering=0 if made == "raw" else -1)
    with reader:
        assert stage.output(stdin=reader) == b"1\n"
        assert str(reader.readline()).strip("b'\n\\n") == "2"
        assert stage.output(stdin=reader) == b"3\n"


@pytest.mark.parametrize("mode", ["r", "rb"])
def test_a_file_of_proc_that_was_begun(mode: str) -> None:
    """It has no size and no end to seek to."""
    with open("/proc/self/limits", mode) as file:  # noqa: PTH123
        first = file.readline()
        rest = CAT.output(stdin=file)
    whole = Path("/proc/self/limits").read_bytes()
    assert (first if isinstance(first, bytes) else first.encode()) + rest == whole


def test_devices_that_were_begun() -> None:
    """They can be seeked, which means nothing."""
    with open("/dev/zero", "rb") as zero:  # noqa: PTH123
        assert zero.read(3) == bytes(3)
        assert command("head", "-c", "100000").output(stdin=zero) == bytes(100_000)
    with open("/dev/null", "rb") as null:  # noqa: PTH123
        assert CAT.output(stdin=null) == b""
    read, write = os.pipe()
    os.close(write)
    with os.fdopen(read, "rb") as ended:
        assert ended.read() == b""
        assert CAT.output(stdin=ended) == b""


def test_a_non_blocking_reader(opened: Callable[[str], Source]) -> None:
    """It is copied, keeps its flag, and gets back what was left."""
    source = opened("pipe")
    os.set_blocking(source.reader.fileno(), False)
    assert TRUE.run(stdin=source.reader).ok
    source.write(b"1\n2\n3\n")
    assert LINE.output(stdin=source.reader) == b"1\n"
    assert source.line() == b"2\n"
    assert LINE.output(stdin=source.reader) == b"3\n"
    assert not os.get_blocking(source.reader.fileno())


def test_raw_reads_see_what_was_given_back(opened: Callable[[str], Source]) -> None:
    """Each method of each layer goes on at the same byte."""
    source = opened("pipe")
    reader = source.reader
    source.write(b"123456789abcdefghi")
    assert reader.read(1) == b"1"

    def give_back() -> None:
        assert command("dd", "bs=1", "count=1", stderr=DEVNULL).output(stdin=reader)

    give_back()
    assert reader.raw.read(1) == b"3"
    give_back()
    buffer = bytearray(1)
    assert (reader.raw.readinto(buffer), bytes(buffer)) == (1, b"5")
    give_back()
    assert reader.read1(1) == b"7"
    give_back()
    assert reader.peek()[:1] == b"9"
    assert CAT.explain(stdin=reader.raw).edges[0].kind == "pass-fd"
    assert (reader.readinto1(buffer), bytes(buffer)) == (1, b"9")
    give_back()
    assert command("head", "-c", "1").output(stdin=reader.raw) == b"b"
    source.other.close()
    assert reader.raw.readall() + reader.read() == b"cdefghi"
    assert isinstance(reader.raw, io.FileIO)
    assert set(vars(reader.raw)) == {"name"}

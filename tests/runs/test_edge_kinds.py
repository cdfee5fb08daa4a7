"""The planner: what carries each edge, for every stage and endpoint; and that a run then does as planned.

Each endpoint is made with random bytes behind it (or a way to collect what was written to it), so that every
row that can be run is also a round trip, byte for byte.
"""

from __future__ import annotations

import bz2
import contextlib
import fcntl
import gzip
import io
import lzma
import os
import random
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE

from penstock import (
    CAPTURE,
    DEVNULL,
    INHERIT,
    PIPE,
    Pipeline,
    Requirements,
    Stream,
    command,
    function,
    map_lines,
    transform,
)
from penstock.system import features, system_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

_random = random.Random(20)
DATA = _random.randbytes(400_001) + b"\n"
TEXT = "".join(_random.choices("abc äöü€𝄞\n", k=90_000)) + "\n"


class Custom:
    """A custom stage around a function; what it asks for is what the planner sees."""

    def __init__(self, wants: Stream) -> None:
        self.name = "custom"
        self.requirements = Requirements(wants, wants)
        self._copy = FUNCTION

    def start(self, ctx: Any, stdin: Any, stdout: Any) -> Any:
        return self._copy.start(ctx, stdin, stdout)


FUNCTION = function(lambda _ctx, stdin, stdout: stdout.writelines(stdin.chunks()), name="copy")
COMMAND = command("cat")
LINES = map_lines(lambda line: line)
STAGES: dict[str, Pipeline] = {
    "command": COMMAND,
    "custom, file": Pipeline(Custom(Stream.PREFER_FILE)),
    "custom, any": Pipeline(Custom(Stream.ANY)),
    "function": FUNCTION,
    "transform": transform(lambda chunks: chunks),
    "lines": LINES,
}
FILE_STAGES = ("command", "custom, file")


class WritesTo:
    """A source that copies by itself, and can do nothing else."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def write_to(self, destination: Any) -> None:
        for start in range(0, len(self.data), 100_000):
            destination.write(self.data[start : start + 100_000])


class ReadsFrom:
    """A sink that copies by itself, and can do nothing else."""

    def __init__(self) -> None:
        self.found = b""

    def read_from(self, source: Any) -> None:
        self.found = source.read()


class Room:
    """Makes endpoints, and cleans up behind them."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.threads = stack.enter_context(ThreadPoolExecutor(2))

    def open(self, *arguments: Any, **options: Any) -> Any:
        return self.stack.enter_context(open(*arguments, **options))  # noqa: PTH123

    def file(self, data: bytes) -> Path:
        path = self.folder / "source"
        path.write_bytes(data)
        return path

    def number(self, path: Path, flags: int) -> int:
        number = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self.stack.callback(os.close, number)
        return number

    def sockets(self, kind: str = "unix") -> tuple[socket.socket, socket.socket]:
        if kind == "tcp":
            with socket.create_server(("127.0.0.1", 0)) as server:
                one = socket.create_connection(server.getsockname())
                other = server.accept()[0]
        else:
            one, other = socket.socketpair()
        return self.stack.enter_context(one), self.stack.enter_context(other)

    def pipe(self) -> tuple[int, int]:
        """Two numbers; whoever uses one up closes it."""
        reader, writer = os.pipe()
        return reader, writer

    def written(self, writer: Any, data: bytes) -> None:
        """Have `data` written to a pipe's number or a socket, and its end."""

        def write() -> None:
            with contextlib.suppress(OSError):
                if isinstance(writer, int):
                    with open(writer, "wb", buffering=0) as file:  # noqa: PTH123
                        rest = memoryview(data)
                        while rest:
                            rest = rest[file.write(rest) :]
                else:
                    writer.sendall(data)
                    writer.shutdown(socket.SHUT_WR)

        self.threads.submit(write)

    def reading(self, reader: Any) -> Future[bytes]:
        """Collect what comes out of a pipe's number or a socket."""

        def read() -> bytes:
            with open(reader, "rb") if isinstance(reader, int) else reader.makefile("rb") as file:  # noqa: PTH123
                return bytes(file.read())

        return self.threads.submit(read)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """A room of its own for each test."""
    with contextlib.ExitStack() as stack:
        yield Room(tmp_path, stack)


# Sources. Each: what carries it to a stage that wants a file, and to a Python one, and how it is made: the
# object, and the bytes that are to come out of it.


def _begun(file: Any, rest: bytes) -> tuple[Any, bytes]:
    """The same file after some bytes were read, so that it holds more in its own buffer."""
    head = file.read(7)
    return file, rest[len(head) :]


def _iterated(file: Any) -> tuple[Any, bytes]:
    line = next(file)
    return file, TEXT[len(line) :].encode()


def _pipe_source(room: Room, *, blocking: bool = True, wrapped: str = "") -> tuple[Any, bytes]:
    reader, writer = room.pipe()
    os.set_blocking(reader, blocking)
    room.written(writer, DATA)
    if wrapped:
        return room.open(reader, "rb", buffering=0 if wrapped == "raw" else -1), DATA
    room.stack.callback(os.close, reader)
    return reader, DATA


def _text_pipe(room: Room, encoding: str, *, begun: bool = False) -> tuple[Any, bytes]:
    reader, writer = room.pipe()
    room.written(writer, TEXT.encode(encoding))
    text = room.open(reader, encoding=encoding, newline="")
    return text, (TEXT[len(text.readline()) :] if begun else TEXT).encode(encoding)


def _socket_file(room: Room) -> Any:
    return room.stack.enter_context(_socket_source(room, "unix", blocking=True)[0].makefile("rb"))


def _socket_source(room: Room, kind: str, *, blocking: bool, number: bool = False) -> tuple[Any, bytes]:
    one, other = room.sockets(kind)
    one.setblocking(blocking)
    room.written(other, DATA)
    return one.fileno() if number else one, DATA


@cache
def _compressed(module: Any) -> bytes:
    data: bytes = module.compress(DATA)
    return data


def _packed(room: Room, module: Any) -> tuple[Any, bytes]:
    path = room.file(_compressed(module))
    return room.stack.enter_context(module.open(path)), DATA


def _tls(room: Room) -> tuple[Any, bytes]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    one = socket.socket()
    return room.stack.enter_context(context.wrap_socket(one, server_hostname="localhost")), b""


SPLICE = "splice" if features.SPLICE else "pooled"
SOURCES: dict[str, tuple[str, str, Callable[[Room], tuple[Any, bytes]]]] = {
    "fd": ("pass-fd", "pass-fd", lambda r: (r.number(r.file(DATA), os.O_RDONLY), DATA)),
    "fd of a pipe": ("pass-fd", "pass-fd", _pipe_source),
    "raw file": ("pass-fd", "pass-fd", lambda r: (r.open(r.file(DATA), "rb", buffering=0), DATA)),
    "raw pipe": ("pass-fd", "pass-fd", lambda r: _pipe_source(r, wrapped="raw")),
    "buffered file": ("pass-fd", "pass-fd", lambda r: (r.open(r.file(DATA), "rb"), DATA)),
    "buffered file, begun": ("pass-fd", "pass-fd", lambda r: _begun(r.open(r.file(DATA), "rb"), DATA)),
    "read-write file, begun": ("pass-fd", "pass-fd", lambda r: _begun(r.open(r.file(DATA), "r+b"), DATA)),
    "buffered pipe": ("pass-fd", "pass-fd", lambda r: _pipe_source(r, wrapped="buffered")),
    "buffered pipe, begun": (
        SPLICE,
        "pass-fd",
        lambda r: _begun(*_pipe_source(r, wrapped="buffered")),
    ),
    "text over a pipe": ("pass-fd", "pass-fd", lambda r: _text_pipe(r, "utf-8")),
    "text over a pipe, begun": (SPLICE, "pass-fd", lambda r: _text_pipe(r, "utf-8", begun=True)),
    "UTF-16 over a pipe, begun": ("pooled", "memory", lambda r: _text_pipe(r, "utf-16", begun=True)),
    "file over a socket": ("pass-fd", "pass-fd", lambda r: (_socket_file(r), DATA)),
    "file over a socket, begun": (SPLICE, "pass-fd", lambda r: _begun(_socket_file(r), DATA)),
    "text file": (
        "pass-fd",
        "pass-fd",
        lambda r: (r.open(r.file(TEXT.encode()), encoding="utf-8", newline=""), TEXT.encode()),
    ),
    "text file, mid-iteration": (
        "pooled",
        "memory",
        lambda r: _iterated(r.open(r.file(TEXT.encode()), encoding="utf-8", newline="")),
    ),
    "StringIO": ("pooled", "memory", lambda _: (io.StringIO(TEXT), TEXT.encode())),
    "socket": ("pass-fd", "pass-fd", lambda r: _socket_source(r, "unix", blocking=True)),
    "TCP socket": ("pass-fd", "pass-fd", lambda r: _socket_source(r, "tcp", blocking=True)),
    "non-blocking socket": (SPLICE, "pass-fd", lambda r: _socket_source(r, "unix", blocking=False)),
    "non-blocking TCP socket": (SPLICE, "pass-fd", lambda r: _socket_source(r, "tcp", blocking=False)),
    "non-blocking socket's fd": (
        SPLICE,
        "pass-fd",
        lambda r: _socket_source(r, "tcp", blocking=False, number=True),
    ),
    "non-blocking pipe's fd": (SPLICE, "pass-fd", lambda r: _pipe_source(r, blocking=False)),
    "non-blocking raw pipe": (SPLICE, "pass-fd", lambda r: _pipe_source(r, blocking=False, wrapped="raw")),
    "non-blocking buffered pipe": (
        SPLICE,
        "pass-fd",
        lambda r: _pipe_source(r, blocking=False, wrapped="buffered"),
    ),
    "non-blocking file's fd": (
        SPLICE,
        "pass-fd",
        lambda r: (r.number(r.file(DATA), os.O_RDONLY | os.O_NONBLOCK), DATA),
    ),
    "gzip": ("pooled", "memory", lambda r: _packed(r, gzip)),
    "bz2": ("pooled", "memory", lambda r: _packed(r, bz2)),
    "lzma": ("pooled", "memory", lambda r: _packed(r, lzma)),
    "BytesIO": ("pooled", "memory", lambda _: (io.BytesIO(DATA), DATA)),
    "list": ("pooled", "memory", lambda _: ([DATA[:7], b"", DATA[7:]], DATA)),
    "generator": ("pooled", "memory", lambda _: ((part for part in (DATA[:9], DATA[9:])), DATA)),
    "write_to": ("read-from", "read-from", lambda _: (WritesTo(DATA), DATA)),
    "path": ("pass-fd", "pass-fd", lambda r: (r.file(DATA), DATA)),
    "path as str": ("pass-fd", "pass-fd", lambda r: (str(r.file(DATA)), DATA)),
    "DEVNULL": ("discard", "discard", lambda _: (DEVNULL, b"")),
}
SOURCES_TO_EXPLAIN: dict[str, tuple[str, str, Callable[[Room], tuple[Any, bytes]]]] = {
    "TLS socket": ("pooled", "memory", _tls),
    "INHERIT": ("inherit", "inherit", lambda _: (INHERIT, b"")),
    "PIPE": ("os-pipe", "os-pipe", lambda _: (PIPE, b"")),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("thing", [*SOURCES, *SOURCES_TO_EXPLAIN])
def test_the_carrier_of_each_source(room: Room, thing: str, stage: str) -> None:
    """Depends on the object, and on whether the stage wants a file."""
    to_file, to_python, make = {**SOURCES, **SOURCES_TO_EXPLAIN}[thing]
    planned = STAGES[stage].explain(stdin=make(room)[0], stdout=DEVNULL).edges[0].kind
    assert planned == (to_file if stage in FILE_STAGES else to_python)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["command", "function", "custom, file", "transform"])
@pytest.mark.parametrize("thing", SOURCES)
def test_every_byte_of_a_source_arrives_as_planned(room: Room, thing: str, stage: str) -> None:
    """In order, once; and the result names the kinds that were planned."""
    value, expected = SOURCES[thing][2](room)
    plan = STAGES[stage].explain(stdin=value, stdout=CAPTURE)
    result = STAGES[stage].run(stdin=value, stdout=CAPTURE)
    assert result.stdout == expected
    assert [edge.kind for edge in result.edges] == [edge.kind for edge in plan.edges]


# Sinks. Each: what carries to it from a stage that wants a file, and from a Python one, and how it is made:
# the object, and how to get what has arrived there, after the run.


def _path(room: Room, *, mode: str = "wb", **options: Any) -> tuple[Any, Callable[[], bytes]]:
    path = room.folder / "sink"
    file = room.open(path, mode, **options)

    def read() -> bytes:
        file.close()
        return path.read_bytes()

    return file, read


def _number(room: Room, flags: int) -> tuple[Any, Callable[[], bytes]]:
    path = room.folder / "sink"
    return room.number(path, os.O_WRONLY | flags), path.read_bytes


def _pending(made: tuple[Any, Callable[[], bytes]], head: Any) -> tuple[Any, Callable[[], bytes]]:
    """The same file with something written that it still holds back."""
    file, read = made
    file.write(head)
    size = len(head)

    def rest() -> bytes:
        found = read()
        assert found[:size] == (head.encode() if isinstance(head, str) else head)
        return found[size:]

    return file, rest


def _pipe_sink(
    room: Room, *, blocking: bool = True, wrapped: str = "", append: bool = False
) -> tuple[Any, Callable[[], bytes]]:
    reader, writer = room.pipe()
    if append:
        fcntl.fcntl(writer, fcntl.F_SETFL, os.O_APPEND)
    os.set_blocking(writer, blocking)
    found = room.reading(reader)
    file = room.open(writer, "wb", buffering=-1 if wrapped == "buffered" else 0)

    def read() -> bytes:
        file.close()
        return found.result(DEADLINE)

    return file if wrapped else writer, read


def _socket_sink(room: Room, kind: str, *, blocking: bool) -> tuple[Any, Callable[[], bytes]]:
    one, other = room.sockets(kind)
    one.setblocking(blocking)
    found = room.reading(other)

    def read() -> bytes:
        one.close()
        return found.result(DEADLINE)

    return one, read


def _packing(room: Room, module: Any) -> tuple[Any, Callable[[], bytes]]:
    path = room.folder / "sink"
    file = room.stack.enter_context(module.open(path, "wb"))

    def read() -> bytes:
        file.close()
        return bytes(module.decompress(path.read_bytes()))

    return file, read


def _memory(made: Any) -> tuple[Any, Callable[[], bytes]]:
    return made, made.getvalue


def _reads_from() -> tuple[Any, Callable[[], bytes]]:
    sink = ReadsFrom()
    return sink, lambda: sink.found


def _path_sink(room: Room) -> tuple[Any, Callable[[], bytes]]:
    path = room.folder / "sink"
    return path, path.read_bytes


def _string(_: Room) -> tuple[Any, Callable[[], bytes]]:
    made = io.StringIO(newline="")
    return made, lambda: made.getvalue().encode()


def _nothing() -> bytes:
    return b""


SINKS: dict[str, tuple[str, str, Callable[[Room], tuple[Any, Callable[[], bytes]]]]] = {
    "fd": ("pass-fd", "pass-fd", lambda r: _number(r, 0)),
    "O_APPEND fd": ("pass-fd", "pass-fd", lambda r: _number(r, os.O_APPEND)),
    "fd of a pipe": ("pass-fd", "pass-fd", _pipe_sink),
    "raw file": ("pass-fd", "pass-fd", lambda r: _path(r, buffering=0)),
    "O_APPEND file": ("pass-fd", "pass-fd", lambda r: _path(r, mode="ab")),
    "buffered file": ("pass-fd", "pass-fd", _path),
    "buffered file, pending": ("pass-fd", "pass-fd", lambda r: _pending(_path(r), b"head ")),
    "text file": ("pass-fd", "pass-fd", lambda r: _path(r, mode="w", encoding="utf-8", newline="")),
    "text file, pending": (
        "pass-fd",
        "pass-fd",
        lambda r: _pending(_path(r, mode="w", encoding="utf-8", newline=""), "head "),
    ),
    "buffered pipe": ("pass-fd", "pass-fd", lambda r: _pipe_sink(r, wrapped="buffered")),
    "socket": ("pass-fd", "pass-fd", lambda r: _socket_sink(r, "unix", blocking=True)),
    "TCP socket": ("pass-fd", "pass-fd", lambda r: _socket_sink(r, "tcp", blocking=True)),
    "non-blocking socket": ("pooled", "memory", lambda r: _socket_sink(r, "unix", blocking=False)),
    "non-blocking TCP socket": ("pooled", "memory", lambda r: _socket_sink(r, "tcp", blocking=False)),
    "non-blocking pipe's fd": (SPLICE, "memory", lambda r: _pipe_sink(r, blocking=False)),
    "non-blocking raw pipe": (SPLICE, "memory", lambda r: _pipe_sink(r, blocking=False, wrapped="raw")),
    "non-blocking buffered pipe": (
        "pooled",
        "memory",
        lambda r: _pipe_sink(r, blocking=False, wrapped="buffered"),
    ),
    "non-blocking fd": ("pooled", "memory", lambda r: _number(r, os.O_NONBLOCK)),
    "non-blocking O_APPEND fd": ("pooled", "memory", lambda r: _number(r, os.O_NONBLOCK | os.O_APPEND)),
    "gzip": ("pooled", "memory", lambda r: _packing(r, gzip)),
    "bz2": ("pooled", "memory", lambda r: _packing(r, bz2)),
    "lzma": ("pooled", "memory", lambda r: _packing(r, lzma)),
    "BytesIO": ("pooled", "memory", lambda _: _memory(io.BytesIO())),
    "StringIO": ("pooled", "memory", _string),
    "read_from": ("read-from", "read-from", lambda _: _reads_from()),
    "path": ("pass-fd", "pass-fd", _path_sink),
    "DEVNULL": ("discard", "discard", lambda _: (DEVNULL, _nothing)),
}
SINKS_TO_EXPLAIN: dict[str, tuple[str, str, Callable[[Room], tuple[Any, Callable[[], bytes]]]]] = {
    "TLS socket": ("pooled", "memory", lambda r: (_tls(r)[0], _nothing)),
    "INHERIT": ("inherit", "inherit", lambda _: (INHERIT, _nothing)),
    "PIPE": ("os-pipe", "os-pipe", lambda _: (PIPE, _nothing)),
    "CAPTURE": ("capture", "capture", lambda _: (CAPTURE, _nothing)),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("thing", [*SINKS, *SINKS_TO_EXPLAIN])
def test_the_carrier_to_each_sink(room: Room, thing: str, stage: str) -> None:
    """Depends on the object, and on whether the stage wants a file."""
    from_file, from_python, make = {**SINKS, **SINKS_TO_EXPLAIN}[thing]
    value, read = make(room)
    planned = STAGES[stage].explain(stdout=value).edges[-1].kind
    assert planned == (from_file if stage in FILE_STAGES else from_python)
    if thing in SINKS and thing != "path":
        assert read() == b""


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["command", "function", "custom, file", "lines"])
@pytest.mark.parametrize("thing", SINKS)
def test_every_byte_arrives_at_a_sink_as_planned(room: Room, thing: str, stage: str) -> None:
    """In order, once, after what was pending; and the result names the kinds that were planned."""
    value, read = SINKS[thing][2](room)
    data = TEXT.encode() if thing == "StringIO" else DATA
    plan = STAGES[stage].explain(input=data, stdout=value)
    result = STAGES[stage].run(input=data, stdout=value)
    assert read() == (b"" if thing == "DEVNULL" else data)
    assert [edge.kind for edge in result.edges] == [edge.kind for edge in plan.edges]


@pytest.mark.parametrize(
    ("stages", "kinds"),
    [
        (["command", "command"], ["os-pipe"]),
        (["command", "function"], ["os-pipe"]),
        (["transform", "command"], ["os-pipe"]),
        (["custom, file", "custom, file"], ["os-pipe"]),
        (["custom, any", "custom, file"], ["os-pipe"]),
        (["custom, any", "function"], ["memory"]),
        (["function", "function"], ["memory"]),
        (["function", "transform"], ["memory"]),
        (["transform", "lines"], ["fused"]),
        (["transform", "lines", "lines", "command", "transform"], ["fused", "fused", "os-pipe", "os-pipe"]),
    ],
)
def test_the_carrier_between_neighbours(stages: list[str], kinds: list[str]) -> None:
    """A file for who wants one; memory between Python stages, or one chain."""
    pipeline = Pipeline(*(STAGES[stage] for stage in stages))
    assert [edge.kind for edge in pipeline.explain(stdout=CAPTURE).edges[1:-1]] == kinds
    result = pipeline.run(input=DATA, stdout=CAPTURE)
    assert [edge.kind for edge in result.edges[1:-1]] == kinds
    assert result.stdout == DATA


def test_input_is_pooled_or_in_memory() -> None:
    """As an endpoint of each stage."""
    for name, stage in STAGES.items():
        kind = stage.explain(input=DATA, stdout=DEVNULL).edges[0].kind
        assert kind == ("pooled" if name in FILE_STAGES else "memory")


def test_both_ends_by_the_kernel(room: Room) -> None:
    """A non-blocking socket into a command, and on to another one; the bytes are counted."""
    value, _ = SOURCES["non-blocking TCP socket"][2](room)
    sink, read = SINKS["non-blocking TCP socket"][2](room)
    result = COMMAND.run(stdin=value, stdout=sink)
    assert read() == DATA
    assert [(edge.kind, edge.bytes) for edge in result.edges] == [
        (SPLICE, len(DATA)),
        ("pooled", len(DATA)),
    ]


@pytest.mark.parametrize("switch", ["SPLICE", "EPOLL", "EVENTFD"])
def test_without_a_feature_the_bytes_arrive_all_the_same(
    room: Room, switch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the plan says so."""
    monkeypatch.setattr(features, switch, False)
    value, _ = SOURCES["non-blocking TCP socket"][2](room)
    sink, read = SINKS["non-blocking pipe's fd"][2](room)
    kind = "pooled" if switch == "SPLICE" else SPLICE
    plan = COMMAND.explain(stdin=value, stdout=sink)
    assert [edge.kind for edge in plan.edges] == [kind, kind]
    assert COMMAND.run(stdin=value, stdout=sink).ok
    assert read() == DATA


def test_explaining_opens_nothing(room: Room) -> None:
    """Not even a pipe to ask it what it is."""
    value, _ = SOURCES["non-blocking TCP socket"][2](room)
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((system_calls, "pipe"), (system_calls, "open_path"), (os, "open"), (os, "dup")):
            patch.setattr(owner, name, None)
        assert COMMAND.explain(stdin=value, stdout=value.fileno()).edges[0].kind == SPLICE

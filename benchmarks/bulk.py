"""Bulk works: how fast many bytes pass, and what that costs Penstock's own process.

All read and write in chunks of 64 KiB where they handle bytes themselves; `head -c` is the command that
produces. A file is opened once and rewound, so that no page has to be found anew. Sockets are TCP on loopback
to a process that drains them, with the options that the kernel gives them, and the time ends when that
process has answered that all has come.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING, Any

from benchmarks import floors
from benchmarks.kit import CHUNK
from benchmarks.measure import OURS, Bar, Work, expect, repeat
from penstock import DEVNULL, command, function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.kit import Kit
    from penstock import StageContext

__all__ = ["Counter", "works"]


IN_FLIGHT = 4 << 20
"""Bytes that may be under way between two functions."""


class Counter:
    """A writer that only counts: no file, so the bytes have to come through Python."""

    def __init__(self) -> None:
        self.count = 0

    def write(self, data: Any) -> int:
        """Take all of `data`."""
        self.count += len(data)
        return len(data)


def works(kit: Kit) -> Iterator[Work]:
    """Function to function, the works that need no byte in Python, then those that do."""
    yield _function_function(kit)
    yield _command_command(kit)
    yield _command_file(kit)
    yield _command_socket(kit)
    yield _pipe_socket(kit)
    yield _command_writer(kit)
    yield _function_cat_function(kit)


def _function_function(kit: Kit) -> Work:
    def ours() -> None:
        total = Counter()
        (function(_producer(kit.size)) | function(_consumer(total))).run()
        expect(total.count, kit.size)

    contenders = {
        OURS: repeat(1, ours),
        "floor: a deque and two locks": repeat(
            1, lambda: expect(floors.by_reference(kit.size, IN_FLIGHT), kit.size)
        ),
    }
    if kit.go is not None:
        contenders["go-pipe"] = kit.go.round("function-function", 1, kit.size, wanted=kit.size)
    title = f"function → function, {_amount(kit)} in 64 KiB chunks"
    return Work("function-function", title, contenders, (Bar("go-pipe", "throughput", 3),), volume=kit.size)


def _command_command(kit: Kit) -> Work:
    pipeline = _zeros(kit) | command("cat")
    script = f"head -c {kit.size} /dev/zero | cat >/dev/null"
    expect((_zeros(kit) | command("wc", "-c")).text().strip(), str(kit.size))
    contenders = {
        OURS: repeat(1, lambda: pipeline.run(stdout=DEVNULL)),
        "bash": repeat(1, lambda: subprocess.run(["bash", "-c", script], check=True)),
    }
    if kit.go is not None:
        contenders["go-pipe"] = kit.go.round("command-command", 1, kit.size, wanted=0)
    bars = (Bar("bash", "throughput", 0.97),)
    title = f"command → command, {_amount(kit)}"
    return Work("command-command", title, contenders, bars, volume=kit.size, cpu=0.005)


def _command_file(kit: Kit) -> Work:
    target = kit.target
    pipeline = _zeros(kit)
    script = f"head -c {kit.size} /dev/zero >&{target}"

    def checked(call: Callable[[], object]) -> Callable[[], float]:
        def write() -> None:
            os.lseek(target, 0, os.SEEK_SET)
            call()
            expect(os.lseek(target, 0, os.SEEK_CUR), kit.size)

        return repeat(1, write)

    contenders = {
        OURS: checked(lambda: pipeline.run(stdout=target)),
        "bash": checked(lambda: subprocess.run(["bash", "-c", script], pass_fds=(target,), check=True)),
    }
    bars = (Bar("bash", "throughput", 0.97),)
    title = f"command → file, {_amount(kit)}"
    return Work("command-file", title, contenders, bars, volume=kit.size, cpu=0.010)


def _command_socket(kit: Kit) -> Work:
    port = kit.drainer.port
    pipeline = _zeros(kit)

    def ours() -> None:
        _through_socket(port, kit.size, lambda sock: pipeline.run(stdout=sock))

    contenders = {OURS: repeat(1, ours)}
    if kit.go is not None:
        contenders["go-pipe"] = kit.go.round("command-socket", 1, kit.size, str(port), wanted=kit.size)
    bars = (Bar("go-pipe", "throughput", 0.95),)
    title = f"command → TCP socket, {_amount(kit)}"
    return Work("command-socket", title, contenders, bars, volume=kit.size, cpu=0.010)


def _pipe_socket(kit: Kit) -> Work:
    port = kit.drainer.port
    pipeline = _zeros(kit)

    def relay(sock: socket.socket) -> None:
        sock.setblocking(False)
        pipeline.run(stdout=sock)

    def loop(sock: socket.socket) -> None:
        sock.setblocking(False)
        with subprocess.Popen(_zeros_argv(kit), stdout=subprocess.PIPE, bufsize=0) as process:
            _send_all(process.stdout, sock)
        expect(process.returncode, 0)

    contenders = {
        OURS: repeat(1, lambda: _through_socket(port, kit.size, relay)),
        "recv/send loop": repeat(1, lambda: _through_socket(port, kit.size, loop)),
        "floor: the socket passed to `head`": repeat(
            1, lambda: _through_socket(port, kit.size, lambda sock: pipeline.run(stdout=sock))
        ),
    }
    bars = (Bar("recv/send loop", "throughput", 1.3),)
    title = f"pipe → non-blocking TCP socket, {_amount(kit)}"
    return Work("pipe-socket", title, contenders, bars, volume=kit.size)


def _command_writer(kit: Kit) -> Work:
    pipeline = _zeros(kit)

    def ours() -> None:
        sink = Counter()
        pipeline.run(stdout=sink)
        expect(sink.count, kit.size)

    def copyfileobj(bufsize: int) -> None:
        sink = Counter()
        with subprocess.Popen(_zeros_argv(kit), stdout=subprocess.PIPE, bufsize=bufsize) as process:
            shutil.copyfileobj(_opened(process.stdout), sink, CHUNK)
        expect(process.returncode, 0)
        expect(sink.count, kit.size)

    def bare() -> None:
        sink = Counter()
        floors.read(_zeros_argv(kit), sink)
        expect(sink.count, kit.size)

    contenders = {
        OURS: repeat(1, ours),
        "shutil.copyfileobj": repeat(1, lambda: copyfileobj(-1)),
        "shutil.copyfileobj, unbuffered": repeat(1, lambda: copyfileobj(0)),
        floors.BARE: repeat(1, bare),
    }
    if kit.go is not None:
        contenders["go-pipe"] = kit.go.round("command-writer", 1, kit.size, wanted=kit.size)
    bars = (Bar("go-pipe", "throughput", 1.2), Bar("shutil.copyfileobj", "throughput", 1.0))
    title = f"command → Python writer, {_amount(kit)}"
    return Work("command-writer", title, contenders, bars, volume=kit.size)


def _function_cat_function(kit: Kit) -> Work:
    def ours() -> None:
        total = Counter()
        (function(_producer(kit.size)) | command("cat") | function(_consumer(total))).run()
        expect(total.count, kit.size)

    contenders = {OURS: repeat(1, ours)}
    if kit.go is not None:
        contenders["go-pipe"] = kit.go.round("function-cat-function", 1, kit.size, wanted=kit.size)
    bars = (Bar("go-pipe", "throughput", 1.8),)
    title = f"function → `cat` → function, {_amount(kit)}"
    return Work("function-cat-function", title, contenders, bars, volume=kit.size)


def _producer(size: int) -> Callable[[StageContext, Any, Any], None]:
    def produce(_ctx: StageContext, _stdin: Any, stdout: Any) -> None:
        chunk = bytes(CHUNK)
        write = stdout.write
        for _ in range(size // CHUNK):
            write(chunk)

    return produce


def _consumer(total: Counter) -> Callable[[StageContext, Any, Any], None]:
    def consume(_ctx: StageContext, stdin: Any, _stdout: Any) -> None:
        count = 0
        for chunk in stdin.chunks():
            count += len(chunk)
        total.count = count

    return consume


def _through_socket(port: int, size: int, send: Callable[[socket.socket], object]) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        send(sock)
        sock.setblocking(True)
        sock.shutdown(socket.SHUT_WR)
        expect(int(sock.recv(64)), size)


def _send_all(source: Any, sock: socket.socket) -> None:
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    number = source.fileno()
    while data := os.read(number, CHUNK):
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[sock.send(rest) :]
            except BlockingIOError:
                poll.poll()


def _zeros(kit: Kit) -> Any:
    return command(*_zeros_argv(kit))


def _zeros_argv(kit: Kit) -> list[str]:
    return ["head", "-c", str(kit.size), "/dev/zero"]


def _opened(stream: Any) -> Any:
    if stream is None:
        raise ValueError("no pipe was asked for")
    return stream


def _amount(kit: Kit) -> str:
    return f"{kit.size >> 30} GiB" if kit.size >> 30 else f"{kit.size >> 20} MiB"

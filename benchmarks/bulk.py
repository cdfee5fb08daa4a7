"""Bulk works: how fast many bytes pass, and what that costs Penstock's own process.

All contenders that handle bytes themselves read and write chunks of 64 KiB; `head -c` is the producing
command. A file is opened once and rewound, so that no page has to be found anew. Sockets are TCP on loopback
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

from benchmarks import baselines
from benchmarks.context import CHUNK
from benchmarks.measure import OURS, Bar, Work, expect, repeat
from penstock import DEVNULL, command, function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.context import Context
    from penstock import StageContext

__all__ = ["Counter", "works"]


IN_FLIGHT = 4 << 20
"""Bytes that may be in flight between two functions."""


class Counter:
    """A writer that only counts. It is not a file, so the bytes must pass through Python."""

    def __init__(self) -> None:
        self.count = 0

    def write(self, data: Any) -> int:
        """Take all of `data`."""
        self.count += len(data)
        return len(data)


def works(context: Context) -> Iterator[Work]:
    """Function to function, the works that need no byte in Python, then those that do."""
    yield _function_function(context)
    yield _command_command(context)
    yield _command_file(context)
    yield _command_socket(context)
    yield _pipe_socket(context)
    yield _command_writer(context)
    yield _function_cat_function(context)


def _function_function(context: Context) -> Work:
    def ours() -> None:
        total = Counter()
        (function(_producer(context.size)) | function(_consumer(total))).run()
        expect(total.count, context.size)

    contenders = {
        OURS: repeat(1, ours),
        "floor: a deque and two locks": repeat(
            1, lambda: expect(baselines.by_reference(context.size, IN_FLIGHT), context.size)
        ),
    }
    if context.go is not None:
        contenders["go-pipe"] = context.go.round("function-function", 1, context.size, wanted=context.size)
    title = f"function → function, {_amount(context)} in 64 KiB chunks"
    return Work(
        "function-function", title, contenders, (Bar("go-pipe", "throughput", 3),), volume=context.size
    )


def _command_command(context: Context) -> Work:
    pipeline = _zeros(context) | command("cat")
    script = f"head -c {context.size} /dev/zero | cat >/dev/null"
    expect((_zeros(context) | command("wc", "-c")).text().strip(), str(context.size))
    contenders = {
        OURS: repeat(1, lambda: pipeline.run(stdout=DEVNULL)),
        "bash": repeat(1, lambda: subprocess.run(["bash", "-c", script], check=True)),
    }
    if context.go is not None:
        contenders["go-pipe"] = context.go.round("command-command", 1, context.size, wanted=0)
    bars = (Bar("bash", "throughput", 0.97),)
    title = f"command → command, {_amount(context)}"
    return Work("command-command", title, contenders, bars, volume=context.size, cpu=0.005)


def _command_file(context: Context) -> Work:
    target = context.target
    pipeline = _zeros(context)
    script = f"head -c {context.size} /dev/zero >&{target}"

    def checked(call: Callable[[], object]) -> Callable[[], float]:
        def write() -> None:
            os.lseek(target, 0, os.SEEK_SET)
            call()
            expect(os.lseek(target, 0, os.SEEK_CUR), context.size)

        return repeat(1, write)

    contenders = {
        OURS: checked(lambda: pipeline.run(stdout=target)),
        "bash": checked(lambda: subprocess.run(["bash", "-c", script], pass_fds=(target,), check=True)),
    }
    bars = (Bar("bash", "throughput", 0.97),)
    title = f"command → file, {_amount(context)}"
    return Work("command-file", title, contenders, bars, volume=context.size, cpu=0.010)


def _command_socket(context: Context) -> Work:
    port = context.drainer.port
    pipeline = _zeros(context)

    def ours() -> None:
        _through_socket(port, context.size, lambda sock: pipeline.run(stdout=sock))

    contenders = {OURS: repeat(1, ours)}
    if context.go is not None:
        contenders["go-pipe"] = context.go.round(
            "command-socket", 1, context.size, str(port), wanted=context.size
        )
    bars = (Bar("go-pipe", "throughput", 0.95),)
    title = f"command → TCP socket, {_amount(context)}"
    return Work("command-socket", title, contenders, bars, volume=context.size, cpu=0.010)


def _pipe_socket(context: Context) -> Work:
    port = context.drainer.port
    pipeline = _zeros(context)

    def relay(sock: socket.socket) -> None:
        sock.setblocking(False)
        pipeline.run(stdout=sock)

    def loop(sock: socket.socket) -> None:
        sock.setblocking(False)
        with subprocess.Popen(_zeros_argv(context), stdout=subprocess.PIPE, bufsize=0) as process:
            _send_all(process.stdout, sock)
        expect(process.returncode, 0)

    contenders = {
        OURS: repeat(1, lambda: _through_socket(port, context.size, relay)),
        "recv/send loop": repeat(1, lambda: _through_socket(port, context.size, loop)),
        "floor: the socket passed to `head`": repeat(
            1, lambda: _through_socket(port, context.size, lambda sock: pipeline.run(stdout=sock))
        ),
    }
    bars = (Bar("recv/send loop", "throughput", 1.3),)
    title = f"pipe → non-blocking TCP socket, {_amount(context)}"
    return Work("pipe-socket", title, contenders, bars, volume=context.size)


def _command_writer(context: Context) -> Work:
    pipeline = _zeros(context)

    def ours() -> None:
        sink = Counter()
        pipeline.run(stdout=sink)
        expect(sink.count, context.size)

    def copyfileobj(bufsize: int) -> None:
        sink = Counter()
        with subprocess.Popen(_zeros_argv(context), stdout=subprocess.PIPE, bufsize=bufsize) as process:
            shutil.copyfileobj(_opened(process.stdout), sink, CHUNK)
        expect(process.returncode, 0)
        expect(sink.count, context.size)

    def bare() -> None:
        sink = Counter()
        baselines.read(_zeros_argv(context), sink)
        expect(sink.count, context.size)

    contenders = {
        OURS: repeat(1, ours),
        "shutil.copyfileobj": repeat(1, lambda: copyfileobj(-1)),
        "shutil.copyfileobj, unbuffered": repeat(1, lambda: copyfileobj(0)),
        baselines.BARE: repeat(1, bare),
    }
    if context.go is not None:
        contenders["go-pipe"] = context.go.round("command-writer", 1, context.size, wanted=context.size)
    bars = (Bar("go-pipe", "throughput", 1.2), Bar("shutil.copyfileobj", "throughput", 1.0))
    title = f"command → Python writer, {_amount(context)}"
    return Work("command-writer", title, contenders, bars, volume=context.size)


def _function_cat_function(context: Context) -> Work:
    def ours() -> None:
        total = Counter()
        (function(_producer(context.size)) | command("cat") | function(_consumer(total))).run()
        expect(total.count, context.size)

    contenders = {OURS: repeat(1, ours)}
    if context.go is not None:
        contenders["go-pipe"] = context.go.round(
            "function-cat-function", 1, context.size, wanted=context.size
        )
    bars = (Bar("go-pipe", "throughput", 1.8),)
    title = f"function → `cat` → function, {_amount(context)}"
    return Work("function-cat-function", title, contenders, bars, volume=context.size)


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


def _zeros(context: Context) -> Any:
    return command(*_zeros_argv(context))


def _zeros_argv(context: Context) -> list[str]:
    return ["head", "-c", str(context.size), "/dev/zero"]


def _opened(stream: Any) -> Any:
    if stream is None:
        raise ValueError("no pipe was asked for")
    return stream


def _amount(context: Context) -> str:
    return f"{context.size >> 30} GiB" if context.size >> 30 else f"{context.size >> 20} MiB"

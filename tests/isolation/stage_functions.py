"""Functions that worker processes import by name; each does what its name says."""

# ruff: noqa: T201 - see above; what one of them prints is what its test is about

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock import FinishEarly

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class TwoPartError(Exception):
    """One whose pickle cannot be loaded, since it takes other arguments than it keeps."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


class LockedError(Exception):
    """One that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


class KnownError(ValueError):
    """One that comes back as it is, with what it carries."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def copy(_ctx: object, stdin: Any, stdout: Any) -> None:
    for chunk in stdin.chunks():
        stdout.write(chunk)


def pid(_ctx: object, _stdin: Any, stdout: Any) -> None:
    stdout.write(b"%d\n" % os.getpid())


def upper(chunks: Iterator[bytes]) -> Iterable[bytes]:
    return (chunk.upper() for chunk in chunks)


def write_line(_ctx: object, line: bytes, stdout: Any) -> None:
    stdout.write(line + b";")


def lines(stdin: Any) -> Iterator[bytes]:
    return iter(stdin.readline, b"")


def twice(batch: list[bytes]) -> list[bytes]:
    return [line * 2 for line in batch]


def burn(seconds: float, *_: Any) -> None:
    """Use that much processor time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def fail(kind: str, _ctx: object, _stdin: Any, stdout: Any) -> None:
    stdout.write(b"before\n")
    if kind == "known":
        raise KnownError(7) from OSError(errno.ENOSPC, "no room")
    if kind == "two-part":
        raise TwoPartError("this", "that")
    if kind == "locked":
        raise LockedError
    if kind == "exit":
        sys.exit(3)
    raise FinishEarly


def die(how: str, _ctx: object, _stdin: Any, _stdout: Any) -> None:
    if how == "_exit":
        os._exit(3)
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(60)


def describe(ctx: Any, _stdin: Any, stdout: Any) -> None:
    """Tell what the context says."""
    facts = (ctx.name, ctx.cwd, ctx.environ.get("FLAVOUR"), ctx.deadline, ctx.cancelled, str(Path.cwd()))
    stdout.write(repr((*facts, os.environ.get("FLAVOUR"))).encode())


def emit_many(ctx: Any, _stdin: Any, _stdout: Any) -> None:
    for number in range(200):
        ctx.emit(f"step {number}", number=number)
    ctx.emit("odd", lock=threading.Lock())


def wait_for_input(ctx: Any, stdin: Any, _stdout: Any) -> None:
    """Block in a read; say so before, and say what ended it."""
    ctx.emit("ready", pid=os.getpid())
    try:
        stdin.read()
    except BaseException as error:
        ctx.emit("woken", error=str(error), cancelled=ctx.cancelled)
        raise


def check_now_and_then(ctx: Any, _stdin: Any, _stdout: Any) -> None:
    ctx.emit("ready", pid=os.getpid())
    while True:
        ctx.check()


def heed_nothing(ctx: Any, _stdin: Any, _stdout: Any) -> None:
    """Keep a core busy, with a child besides."""
    child = subprocess.Popen(["sleep", "60"])
    ctx.emit("ready", pid=os.getpid(), child=child.pid)
    while True:
        pass


def stop_itself(ctx: Any, _stdin: Any, _stdout: Any) -> None:
    ctx.emit("ready", pid=os.getpid())
    os.kill(os.getpid(), signal.SIGSTOP)


def child_reads_stdin(_ctx: object, _stdin: Any, stdout: Any) -> None:
    stdout.write(b"[" + subprocess.run(["cat"], stdout=subprocess.PIPE, check=True).stdout + b"]")


def fork_within(_ctx: object, _stdin: Any, stdout: Any) -> None:
    child = os.fork()
    if child == 0:
        os._exit(7)
    stdout.write(b"%d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def pipeline_within(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Run a pipeline with an isolated stage of its own."""
    from penstock import function

    stdout.write(function(pid, isolate="process").output())
    stdout.write(stdin.read())


def say(text: str, _ctx: object, _stdin: Any, _stdout: Any) -> None:
    print(text)


def look_up(name: str, _ctx: object, _stdin: Any, stdout: Any) -> None:
    """Import a module by name, and say what it says."""
    stdout.write(__import__(name).WORD.encode())


def take_two(_ctx: object, stdin: Any, stdout: Any) -> None:
    for _ in range(2):
        stdout.write(stdin.readline())
    raise FinishEarly


def hog(size: int, _ctx: object, _stdin: Any, _stdout: Any) -> None:
    bytearray(size)


def leave(line: bytes) -> bytes:
    """Raise GeneratorExit for a line in the middle."""
    if line == b"2500":
        raise GeneratorExit
    return line


def begin_and_write(_ctx: object, _stdin: Any, stdout: Any) -> None:
    stdout.write(b"begun\n")
    while True:
        stdout.write(b"more\n")


def begin_and_yield(_chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield b"begun\n"
    while True:
        yield b"more\n"


def begin_and_wait(_ctx: object, _stdin: Any, stdout: Any) -> None:
    """Ignore everything for two seconds."""
    stdout.write(b"begun\n")
    time.sleep(1)


def begin_and_pause(_chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Ignore everything for two seconds."""
    yield b"begun\n"
    time.sleep(2)


def fail_when_stopped(_ctx: object, _stdin: Any, stdout: Any) -> None:
    stdout.write(b"begun\n")
    try:
        while True:
            stdout.write(b"more\n")
    finally:
        raise KeyError("clean-up")


def begin_and_linger(ctx: Any, _stdin: Any, stdout: Any) -> None:
    """Write once, and wait to be cancelled."""
    stdout.write(b"begun\n")
    while not ctx.cancelled:
        time.sleep(0.01)


def talk(_ctx: object, _stdin: Any, stdout: Any) -> None:
    for number in range(1, 9):
        stdout.write(b"%d\n" % number)
        time.sleep(0.1)


def flood(_ctx: object, _stdin: Any, stdout: Any) -> None:
    stdout.write(bytes(300_000))


def pair_lines(ctx: Any, stdin: Any, stdout: Any) -> None:
    """Write pairs of lines of two inputs, the second lines to an output, and stdin after them."""
    for left, right in zip(ctx.inputs["left"], ctx.inputs["right"], strict=False):
        stdout.write(left.strip() + b"-" + right)
        ctx.outputs["seen"].write(right)
    stdout.write(stdin.read())


def ask_for_more(ctx: Any, _stdin: Any, _stdout: Any) -> None:
    """Read an input that never ends."""
    ctx.inputs["silent"].read()


def write_for_ever(_ctx: object, _stdin: Any, stdout: Any) -> None:
    while True:
        stdout.write(b"x" * 999 + b"\n")


def write_slowly(_ctx: object, _stdin: Any, stdout: Any) -> None:
    while True:
        time.sleep(0.01)
        stdout.write(b"x" * 999 + b"\n")


def copy_slowly(_ctx: object, stdin: Any, stdout: Any) -> None:
    while chunk := stdin.read1(4096):
        time.sleep(0.01)
        stdout.write(chunk)

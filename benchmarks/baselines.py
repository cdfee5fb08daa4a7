"""Floors: the same work by the same system calls, with nothing around them.

They have no deadline, no cancellation, no error that names a stage, no line longer than memory, and no bound
on how long data is held. The rest is the cost of the kernel, `bytes.split` and the user's function. No
library in this language can meet a bar beyond its floor; a figure can only come close to it.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import threading
from collections import deque
from itertools import chain
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from benchmarks.context import CHUNK
from benchmarks.measure import expect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

__all__ = [
    "BARE",
    "HandOver",
    "by_reference",
    "cats_in_turn",
    "count_by_batch",
    "count_by_line",
    "echo_and_cats",
    "many_true",
    "mapped",
    "one_true",
    "read",
]

BARE = "floor: the bare calls"


class _Bare:
    """A program that was started without a search, in a group of its own; its stderr is one of our pipes."""

    def __init__(self, program: str, argv: list[str], stdin: int, stdout: int) -> None:
        self._stderr, writer = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, source, to) for to, source in enumerate((stdin, stdout, writer))]
        self._pid = os.posix_spawn(program, argv, os.environ, file_actions=actions, setpgroup=0)
        os.close(writer)
        self._pidfd = os.pidfd_open(self._pid)

    def reap(self) -> None:
        """Sleep until it has ended; it must have succeeded, and written nothing to stderr."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        poll.poll()
        os.close(self._pidfd)
        expect(os.wait4(self._pid, 0)[1], 0)
        expect(os.read(self._stderr, CHUNK), b"")
        os.close(self._stderr)


def one_true() -> Callable[[], None]:
    """Spawn `true`, sleep until it has ended, and reap it."""
    program = _path("true")

    def bare() -> None:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        child = _Bare(program, ["true"], null, null)
        os.close(null)
        child.reap()

    return bare


def many_true(count: int) -> Callable[[], None]:
    """Spawn `true` that many times, then wait for each in turn, and reap it."""
    program = _path("true")

    def bare() -> None:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        children = [_Bare(program, ["true"], null, null) for _ in range(count)]
        os.close(null)
        for child in children:
            child.reap()

    return bare


def echo_and_cats(cats: int) -> Callable[[], bytes]:
    """Join `echo hello` and so many `cat` by pipes, read what the last writes, and reap them."""
    echo, cat = _path("echo"), _path("cat")

    def bare() -> bytes:
        stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        children = []
        for program, argv in [(echo, ["echo", "hello"]), *([(cat, ["cat"])] * cats)]:
            reader, writer = os.pipe()
            children.append(_Bare(program, argv, stdin, writer))
            os.close(stdin)
            os.close(writer)
            stdin = reader
        text = _all_of(stdin)
        for child in children:
            child.reap()
        return text

    return bare


def cats_in_turn(cats: int) -> Callable[[bytes], bytes]:
    """Start so many `cat`, give a text to the first, what that writes to the next, and so on; reap them.

    One thread does all of it: no function waits for its input in a thread of its own.
    """
    cat = _path("cat")

    def bare(text: bytes) -> bytes:
        children = []
        for _ in range(cats):
            theirs, ours = os.pipe()
            reader, writer = os.pipe()
            children.append((_Bare(cat, ["cat"], theirs, writer), ours, reader))
            os.close(theirs)
            os.close(writer)
        for _, ours, reader in children:
            os.write(ours, text)
            os.close(ours)
            text = _all_of(reader)
        for child, _, _ in children:
            child.reap()
        return text

    return bare


def _path(program: str) -> str:
    found = shutil.which(program)
    assert found is not None
    return found


def _all_of(number: int) -> bytes:
    """Read to the end, and close."""
    pieces = []
    while piece := os.read(number, CHUNK):
        pieces.append(piece)
    os.close(number)
    return b"".join(pieces)


class HandOver:
    """Wake a waiting thread and be woken by it: the cost of running anything in another thread."""

    def __init__(self) -> None:
        self._there: SimpleQueue[bytes] = SimpleQueue()
        self._back: SimpleQueue[bytes] = SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    def __call__(self, text: bytes) -> bytes:
        """Return the text by way of the other thread."""
        self._there.put(text)
        return self._back.get()

    def _serve(self) -> None:
        while True:
            self._back.put(self._there.get())


def by_reference(size: int, in_flight: int) -> int:
    """Hand so many bytes over to another thread, a chunk at a time, with no more than `in_flight` under way.

    A deque and two locks: the one thread fills it, sleeps until the other has emptied it, and so on.
    """
    chunk, batch = bytes(CHUNK), in_flight // CHUNK
    queue: deque[bytes] = deque()
    filled, emptied = threading.Lock(), threading.Lock()
    filled.acquire()
    emptied.acquire()

    def fill() -> None:
        for _ in range(size // in_flight):
            for _ in range(batch):
                queue.append(chunk)
            filled.release()
            emptied.acquire()

    thread = threading.Thread(target=fill)
    thread.start()
    total = 0
    for _ in range(size // in_flight):
        filled.acquire()
        for _ in range(batch):
            total += len(queue.popleft())
        emptied.release()
    thread.join()
    return total


def read(argv: list[str], sink: Any) -> None:
    """Read in chunks, and hand each to the sink."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, bufsize=0) as process:
        number = _number(process.stdout)
        while chunk := os.read(number, CHUNK):
            sink.write(chunk)
    expect(process.returncode, 0)


def count_by_line(path: Path) -> int:
    """Read, split, and go over the lines."""
    count = 0
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE, bufsize=0) as process:
        for _ in chain.from_iterable(_blocks(_number(process.stdout))):
            count += 1
    return count


def count_by_batch(path: Path) -> int:
    """Read, split, and look at how many there are."""
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE, bufsize=0) as process:
        return sum(map(len, _blocks(_number(process.stdout))))


def mapped(path: Path, work: Callable[[list[bytes]], Iterable[bytes]], target: int) -> None:
    """Read, split, do the work on each block, join, and write."""
    with (
        subprocess.Popen(["cat", path], stdout=subprocess.PIPE, bufsize=0) as first,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=target, bufsize=0) as last,
    ):
        number = _number(last.stdin)
        for lines in _blocks(_number(first.stdout)):
            data = memoryview(b"\n".join(work(lines)) + b"\n")
            while data:
                data = data[os.write(number, data) :]
        if last.stdin is not None:
            last.stdin.close()
    expect((first.returncode, last.returncode), (0, 0))


def _blocks(number: int) -> Iterator[list[bytes]]:
    """The lines that each read completes; every line of these works has its LF."""
    rest = b""
    while chunk := os.read(number, CHUNK):
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        yield lines


def _number(stream: Any) -> int:
    if stream is None:
        raise ValueError("no pipe was asked for")
    return int(stream.fileno())

"""Ways to start the command line as a process of its own, and to look at what it left behind."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOOLS = '''
"""Functions for Python stages, found in the current folder."""
import sys
import time

import penstock
from penstock import FinishEarly, Pipeline, command, echo, map_lines

number = 3


def f(ctx, stdin, stdout):
    for line in stdin:
        stdout.write(b"<" + line.rstrip(b"\\n") + b">\\n")


def upper(line):
    return line.upper()


def is_even(line):
    return int(line) % 2 == 0


def numbered(lines):
    for number, line in enumerate(lines, 1):
        yield b"%d %s" % (number, line)


def boom(line):
    raise KeyError("boom")


def two(ctx, stdin, stdout):
    stdout.write(stdin.readline())
    stdout.write(stdin.readline())
    raise FinishEarly


def forever(ctx, stdin, stdout):
    while True:
        stdout.write(b"y\\n" * 1000)


def prints(ctx, stdin, stdout):
    print("x" * 100)


def deaf(ctx, stdin, stdout):
    while True:
        time.sleep(0.1)


def wrong(one):
    pass


class Thing:
    shout = staticmethod(upper)


stage = map_lines(upper, name="shouting")
nested = command("tr", "a-z", "A-Z") | command("rev")
own_stdin = Pipeline(command("cat"), stdin="/dev/null")
first = echo("first")
'''


@dataclass(frozen=True)
class Finished:
    """What a command line left behind."""

    status: int
    out: bytes
    err: str


class Cli(Protocol):
    """Runs `penstock` with the given arguments to its end, in the test's folder, away from any terminal."""

    def __call__(self, *arguments: str | bytes, stdin: bytes = ..., **options: Any) -> Finished: ...


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a current folder with a `tools.py` in it."""
    (tmp_path / "tools.py").write_text(TOOLS)
    return tmp_path


@pytest.fixture
def cli(folder: Path) -> Cli:
    """Give the function that runs the command line."""

    def run(*arguments: str | bytes, stdin: bytes = b"", **options: Any) -> Finished:
        settings: dict[str, Any] = {
            "input": stdin,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "cwd": folder,
            "start_new_session": True,
            "timeout": 60,
            **options,
        }
        if "stdin" in settings:
            del settings["input"]
        done = subprocess.run(command_line(*arguments), check=False, **settings)
        return Finished(done.returncode, done.stdout, (done.stderr or b"").decode())

    return run


def command_line(*arguments: str | bytes) -> list[str | bytes]:
    """Put together what starts the command line."""
    return [sys.executable, "-m", "penstock", *arguments]


@pytest.fixture
def spawn(folder: Path) -> Iterator[Any]:
    """Give a function that starts the command line and returns its `Popen`; it is killed at the end."""
    started: list[subprocess.Popen[Any]] = []

    def start(*arguments: str, **options: Any) -> subprocess.Popen[Any]:
        settings: dict[str, Any] = {"cwd": folder, "start_new_session": True, **options}
        process: subprocess.Popen[Any] = subprocess.Popen(command_line(*arguments), **settings)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@dataclass(frozen=True)
class Herald:
    """A FIFO through which the commands of a test say their pids, so that nobody sleeps until they run."""

    path: Path
    fd: int

    def cry(self, then: str) -> str:
        """Give the words of a command that says its pid and becomes `then`."""
        return f"""sh -c 'echo $$ > "{self.path}"; {then}'"""

    def hear(self, count: int) -> list[int]:
        """Wait until `count` commands have said their pids."""
        heard = b""
        while heard.count(b"\n") < count:
            ready, _, _ = select.select([self.fd], [], [], 30)
            assert ready, f"{count} commands should have started, but only these did: {heard!r}"
            heard += os.read(self.fd, 4096)
        return [int(line) for line in heard.splitlines()]


@pytest.fixture
def herald(tmp_path: Path) -> Iterator[Herald]:
    """Give a fresh herald."""
    path = tmp_path / "herald"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR)  # for both, so that neither side waits for the other to open it
    yield Herald(path, fd)
    os.close(fd)

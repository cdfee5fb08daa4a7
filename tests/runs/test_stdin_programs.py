"""Whole programs that give their own stdin to runs: how they end, and what they see at a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from tests.support.hosts import PYTHON_OPTIONS
from tests.support.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.terminals import Desk

PRELUDE = "import asyncio, gzip, io, os, sys\nfrom penstock import *\n"


class Program:
    """A program whose stdin stays open: the other end of it is here."""

    def __init__(self, text: str, kind: str, stack: ExitStack, folder: Path) -> None:
        self.err = folder / "err"
        self.seen = b""
        if kind == "terminal":
            self.other, stdin = pty.openpty()
        elif kind == "socket":
            self.other, stdin = (end.detach() for end in socket.socketpair())
        else:
            stdin, self.other = os.pipe()
        self.keys = stack.enter_context(os.fdopen(self.other, "wb", buffering=0))
        with self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, *PYTHON_OPTIONS, "-c", PRELUDE + text],
                stdin=stdin,
                stdout=stdin if kind == "terminal" else subprocess.PIPE,
                stderr=err,
                start_new_session=True,  # and no controlling terminal
            )
        os.close(stdin)
        self.out = self.other if self.process.stdout is None else self.process.stdout.fileno()
        if self.process.stdout is not None:
            stack.callback(self.process.stdout.close)
        stack.callback(self.process.wait)
        stack.callback(self.process.kill)

    def type(self, text: bytes) -> None:
        """Write to its stdin."""
        self.keys.write(text)

    def wait_for(self, pattern: bytes) -> bytes:
        """Read what it writes until that matches."""
        end = time.monotonic() + DEADLINE
        while (match := re.search(pattern, self.seen)) is None:
            ready, _, _ = select.select([self.out], [], [], max(0, end - time.monotonic()))
            assert ready, self.seen
            data = os.read(self.out, 4096)
            assert data, (self.seen, self.err.read_text())
            self.seen += data
        self.seen = self.seen[match.end() :]
        return match[0]

    def ended(self) -> tuple[int, str]:
        """Wait for its end; return the exit status and what it wrote to stderr."""
        status = self.process.wait(DEADLINE)
        return status, self.err.read_text()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Ends the programs after the test."""
    with ExitStack() as stack:
        yield stack


PROGRAMS = {
    "reader": 'command("echo", "hi").run(stdin=sys.stdin.buffer)',
    "text": 'command("echo", "hi").run(stdin=sys.stdin)',
    "started": 'r = command("echo", "hi").start(stdin=sys.stdin.buffer); r.wait()',
    "still running": 'r = command("cat").start(stdin=sys.stdin.buffer)',
    "timed out": 'command("cat").run(stdin=sys.stdin.buffer, timeout=0.1, check=False)',
    "async": 'asyncio.run(command("echo", "hi").arun(stdin=sys.stdin.buffer))',
    "into a function": "function(lambda c, i, o: None).run(stdin=sys.stdin.buffer)",
    "function timed out": "function(lambda c, i, o: i.read()).run(stdin=sys.stdin, timeout=0.1, check=False)",
    "process": 'command("true").run(stdin=sys.stdin.buffer); transform(iter, isolate="process")',
    "source": "source(sys.stdin.buffer).run(timeout=0.1, grace=0.1, check=False)",
    "function that reads it": """
function(lambda c, i, o: sys.stdin.buffer.read()).run(timeout=0.1, grace=0.1, check=False)
""",
    "text that a function reads": """
function(lambda c, i, o: sys.stdin.read()).run(timeout=0.1, grace=0.1, check=False)
""",
    # Objects that can only be called: a worker is left in their `read()`.
    "compressed": 'command("true").run(stdin=gzip.open(sys.stdin.buffer))',
    "compressed, held": 'g = gzip.open(sys.stdin.buffer); command("true").run(stdin=g)',
    "compressed, held, frozen": """
import gc
gc.freeze()
g = gzip.open(sys.stdin.buffer)
command("true").run(stdin=g)
""",
    "generator": 'command("true").run(stdin=(line for line in sys.stdin.buffer))',
    "subclass": """
class Mine(io.TextIOWrapper): pass
mine = Mine(sys.stdin.buffer)
command("true").run(stdin=mine)
""",
    "layers of its own": """
reader = os.fdopen(os.dup(0), "rb")
text = io.TextIOWrapper(reader)
command("true").run(stdin=(line for line in reader))
del reader
""",
    "codec": """
import codecs
command("true").run(stdin=codecs.getreader("utf-8")(sys.stdin.buffer))
""",
    "both ways": """
import socket
ends = socket.socketpair()
file = ends[0].makefile("rwb")
command("true").run(stdin=file)
""",
}


@pytest.mark.parametrize("kind", ["pipe", "terminal", "socket"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_program_ends(program: str, kind: str, stack: ExitStack, tmp_path: Path) -> None:
    """With status 0 and in silence, although its stdin is open, and perhaps a thread waits for it."""
    assert Program(PROGRAMS[program], kind, stack, tmp_path).ended() == (0, "")


@pytest.mark.parametrize("stdin", ["sys.stdin", "sys.stdin.buffer", "open(0, 'rb')", "os.ttyname(0)"])
def test_each_line_reaches_a_command_as_it_is_typed(stdin: str, stack: ExitStack, tmp_path: Path) -> None:
    """The terminal gives the command one line, and the program the next."""
    program = f"""
stdin = {stdin}
take = command("sh", "-c", "read -r x; echo got $x")
print("ready", flush=True)
print(sys.stdin.readline().strip(), "was mine", flush=True)
take.run(stdin=stdin)
print(sys.stdin.readline().strip(), "was mine too", flush=True)
function(lambda c, i, o: o.write(b"got " + i.readline())).run(stdin=stdin)
take.run(stdin=stdin)
"""
    job = Program(program, "terminal", stack, tmp_path)
    job.wait_for(b"ready")
    for line, answer in [
        (b"one\n", b"one was mine"),
        (b"two\n", b"got two"),
        (b"three\n", b"three was mine too"),
        (b"four\n", b"got four"),
        (b"five\n", b"got five"),
    ]:
        job.type(line)
        job.wait_for(answer)
    assert job.ended() == (0, "")


def test_lines_of_the_controlling_terminal(desk: Desk) -> None:
    """A command that reads the terminal is not stopped, and the program reads on."""
    program = """
for stdin in (sys.stdin, sys.stdin.buffer, open("/dev/tty"), INHERIT, sys.stdin):
    say("ready")
    say("mine:", sys.stdin.readline().strip())
    (command("sh", "-c", "read -r x; echo got $x") | command("cat")).run(stdin=stdin)
"""
    terminal = desk.python(program)
    for number in range(5):
        terminal.wait_for(b"ready")
        terminal.type(f"a{number}\n")
        terminal.wait_for(b"mine: a%d" % number)
        terminal.type(f"b{number}\n")
        terminal.wait_for(b"got b%d" % number)
    assert terminal.status() == 0


def test_a_command_sees_the_terminal(stack: ExitStack, tmp_path: Path) -> None:
    """Its name and its size, by every object over it."""
    program = """
name = os.ttyname(0)
for stdin in (sys.stdin, sys.stdin.buffer, sys.stdin.buffer.raw, open(name), open(name, "rb"), name, INHERIT):
    said = command("sh", "-c", "tty; stty size").text(stdin=stdin)
    assert said == f"{name}\\n33 77\\n", (stdin, said)
    assert command("tty").explain(stdin=stdin).edges[0].kind in ("pass-fd", "inherit")
"""
    job = Program("import termios; termios.tcsetwinsize(0, (33, 77))" + program, "terminal", stack, tmp_path)
    assert job.ended() == (0, "")


def test_stdin_of_a_script_is_shared_with_its_commands(stack: ExitStack, tmp_path: Path) -> None:
    """As in a shell: whoever reads a line takes it, and `input()` gets the next one."""
    program = """
print("first:", input())
command("sh", "-c", "read -r x; echo second: $x").run(stdin=sys.stdin)
print("third:", input(), flush=True)
(command("head", "-c", "7") | map_lines(lambda line: b"fourth: " + line)).run(stdin=sys.stdin)
print("fifth:", sys.stdin.read(), flush=True)
"""
    job = Program(program, "pipe", stack, tmp_path)
    job.type("é\nb\nç\nfourth\n€€".encode()[:-2])
    job.wait_for(b"fourth: fourth")
    job.type("€€".encode()[-2:])
    job.keys.close()
    job.wait_for("fifth: €€".encode())
    assert job.ended() == (0, "")

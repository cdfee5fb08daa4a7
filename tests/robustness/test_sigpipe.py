"""A host in which SIGPIPE ends a process: it ends none of its own writes."""

from __future__ import annotations

import subprocess
import sys

import pytest

HOST = """
import asyncio, io, os, signal, socket, sys, tempfile
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
from penstock import CAPTURE, PIPE, command, function, map_lines, source

def file():
    found = tempfile.TemporaryFile()
    found.write(b"x" * 3_000_000)
    found.seek(0)
    return found

def forward():
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    ours.sendall(b"x" * 100_000)
    ours.close()
    command("true").run(stdin=theirs)

def to_a_closed_pipe():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.close(reader)
    return command("yes").run(stdout=writer, check=False)

works = {
    "input": lambda: command("true").run(input=b"x" * 1_000_000),
    "iterator": lambda: next(command("yes").iter_lines()),
    "map": lambda: (command("yes") | map_lines(bytes.upper) | command("head", "-1")).output(),
    "source": lambda: (source(b"x" * 1000 for _ in range(10_000)) | command("true")).run(),
    "object": lambda: command("true").run(stdin=io.BytesIO(b"x" * 1_000_000)),
    "text": lambda: command("true").run(stdin=io.TextIOWrapper(io.BytesIO(b"x" * 1_000_000))),
    "socket": forward,
    "sink": to_a_closed_pipe,
    "file": lambda: (function(lambda ctx, i, o: o.write(file().read())) | command("true")).run(),
    "async": lambda: asyncio.run(command("true").arun(input=b"x" * 1_000_000)),
    "isolated": lambda: (map_lines(bytes.upper, isolate="process") | command("true")).run(
        input=b"x\\n" * 500_000
    ),
}
works[sys.argv[1]]()
blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
assert signal.SIGPIPE not in blocked, blocked
assert signal.SIGPIPE not in signal.sigpending()
print("went on", flush=True)
os.write(os.pipe()[1], b"x")
reader, writer = os.pipe()
os.close(reader)
os.write(writer, b"x")
print("its own writes are its own affair")
"""
WORKS = [
    "input",
    "iterator",
    "map",
    "source",
    "object",
    "text",
    "socket",
    "sink",
    "file",
    "async",
    "isolated",
]


@pytest.mark.parametrize("work", WORKS)
def test_a_write_to_a_closed_pipe_does_not_end_the_host(work: str) -> None:
    """The host's own writes end it as before, and its mask is what it was."""
    done = subprocess.run(
        [sys.executable, "-c", HOST, work], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "went on\n", done.stderr
    assert done.returncode == -13, done.stderr

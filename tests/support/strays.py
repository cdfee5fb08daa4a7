"""What the tests of the traps share: processes that outlive their run, programs that host runs, and waits.

Nothing here sleeps to wait for something that can be waited on: the end of any process is a readable pidfd.
`until` is for what no descriptor tells of; it has a deadline and gives the processor away between two looks.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEADLINE = 30.0


class Strays:
    """Processes that a test's children start, and that may outlive them; killed after the test.

    A script writes their pids, one on a line, to the file that `$PIDS` names.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    @property
    def env(self) -> dict[str, str]:
        """What the script needs in its environment."""
        return {"PIDS": str(self._path)}

    def pids(self, count: int = 1) -> list[int]:
        """Wait until `count` pids are written, and return them."""
        until(lambda: self._path.read_bytes().count(b"\n") >= count)
        return [int(line) for line in self._path.read_bytes().split()]

    def kill(self) -> None:
        """End those that still live."""
        for pid in self._path.read_bytes().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


class Host(Protocol):
    def __call__(self, program: str, *, timeout: float = DEADLINE) -> str: ...


@pytest.fixture
def strays(tmp_path: Path) -> Iterator[Strays]:
    """Keep account of grandchildren."""
    found = Strays(tmp_path / "pids")
    yield found
    found.kill()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Run a Python program that uses Penstock, with its prelude; return what it wrote to stdout.

    The program must succeed and be silent on stderr; a hang is a failure after `timeout` seconds.
    """

    def run(program: str, *, timeout: float = DEADLINE) -> str:
        script = tmp_path / "host.py"
        script.write_text(PRELUDE + program, encoding="utf-8")
        # To a file, not to a pipe: a child that survives its host would keep a pipe open.
        with (tmp_path / "output").open("w+b") as output, (tmp_path / "errors").open("w+b") as errors:
            ended = subprocess.run(
                [sys.executable, str(script)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                timeout=timeout,
                check=False,
            )
            output.seek(0)
            errors.seek(0)
            assert (ended.returncode, errors.read()) == (0, b"")
            return output.read().decode()

    return run


PRELUDE = """
import os, sys, threading, signal, time
from penstock import *

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

"""


def until(condition: Callable[[], bool]) -> None:
    """Look until `condition()` is true; fail after the deadline."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        os.sched_yield()


def asleep(thread: int | None) -> bool:
    """Whether a thread sits in one of Penstock's streams, and is seen there again and again."""
    for _ in range(50):
        frame = sys._current_frames().get(thread or 0)
        if frame is None or "/penstock/streams/" not in frame.f_code.co_filename:
            return False
        os.sched_yield()
    return True


@pytest.fixture(name="until")
def _until() -> Callable[[Callable[[], bool]], None]:
    """Look until a condition is true."""
    return until


@pytest.fixture(name="asleep")
def _asleep() -> Callable[[int | None], bool]:
    """Tell whether a thread is blocked in a stream."""
    return asleep


@pytest.fixture
def together() -> Callable[[list[Callable[[], None]]], None]:
    """Run functions in as many threads, all released at once; raise the first error of any."""

    def run(functions: list[Callable[[], None]]) -> None:
        errors: list[BaseException] = []
        barrier = threading.Barrier(len(functions))

        def work(function: Callable[[], None]) -> None:
            barrier.wait(DEADLINE)
            try:
                function()
            except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
                errors.append(error)

        threads = [threading.Thread(target=work, args=(function,)) for function in functions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        if errors:
            raise errors[0]

    return run

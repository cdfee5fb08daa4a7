"""What the tests of the rules of a run share: a deadline for what must come, and hosts of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 20.0


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Look at something again and again until it is true; fail where it does not become so."""

    def until(predicate: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        pause = threading.Event()
        while not predicate():
            assert time.monotonic() < deadline, "this did not become true in time"
            pause.wait(0.002)

    return until


@pytest.fixture
def gone() -> Callable[[int], bool]:
    """Tell whether a process has ended; one that its own parent has not reaped yet counts as ended."""

    def gone(pid: int) -> bool:
        try:
            return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True

    return gone


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads of the caller's, joined at the end of the test."""
    with ThreadPoolExecutor(32) as pool:
        yield pool


class Stubborn:
    """A function that ignores that it is cancelled, until it is released (or after a few seconds)."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()
        self.left: list[threading.Event] = []

    def __call__(self, *_given: object) -> None:
        ended = threading.Event()
        self.left.append(ended)
        self.begun.set()
        try:
            self.release.wait(5)  # so that a run which does wait for it fails its test soon
        finally:
            ended.set()


@pytest.fixture
def stubborn() -> Iterator[Any]:
    """Make a function that ignores that it is cancelled, until the test is over."""
    function = Stubborn()
    yield function
    function.release.set()
    assert all(ended.wait(PATIENCE) for ended in function.left)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write an executable file."""

    def script(name: str, text: str, mode: int = 0o755) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    return script


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start an interpreter of its own that runs a program; its stdout can be read line by line."""
    hosts: list[subprocess.Popen[str]] = []

    def host(program: str) -> subprocess.Popen[str]:
        path = tmp_path / f"host_{len(hosts)}.py"
        path.write_text(textwrap.dedent(program))
        command = [sys.executable, "-W", "error", str(path)]
        environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
        started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
        hosts.append(started)
        return started

    yield host
    for started in hosts:
        if started.poll() is None:
            started.kill()
        started.wait()
        if started.stdout is not None:
            started.stdout.close()

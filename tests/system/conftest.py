# The functions of `os` are what these tests are about.
# ruff: noqa: PTH123
"""What the tests of the system layer share: each mechanism on and off, children that are always reaped."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from penstock.system import executables, fds, features, process, spawn
from penstock.system.spawn_request import SpawnRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class Start(Protocol):
    def __call__(
        self,
        *argv: str | bytes,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | None = None,
        stdout: int = 1,
        stderr: int = 2,
        group: bool = True,
        mark: str | None = None,
    ) -> process.Process: ...


@pytest.fixture(params=["glibc", "subprocess"])
def spawner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Start children by either mechanism; gives its name."""
    name: str = request.param
    if name == "glibc" and not features.GLIBC_SPAWN:
        pytest.skip("no glibc of 2.34 or later here")
    monkeypatch.setattr(features, "GLIBC_SPAWN", name == "glibc")
    return name


@pytest.fixture(params=["pidfd", "no pidfd"])
def pidfd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Hold processes by descriptors, or do without."""
    wanted: bool = request.param == "pidfd"
    if wanted and not features.PIDFD:
        pytest.skip("no pidfds here")
    monkeypatch.setattr(features, "PIDFD", wanted)
    return wanted


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a child, on /dev/null unless told otherwise; it is killed, with its group, and reaped."""
    started: list[process.Process] = []

    def start(
        *argv: str | bytes,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | None = None,
        stdout: int = 1,
        stderr: int = 2,
        group: bool = True,
        mark: str | None = None,
    ) -> process.Process:
        name = argv[0] if isinstance(argv[0], str) else os.fsdecode(argv[0])
        executable = executables.resolve(name, path=os.environ["PATH"], cwd=cwd)
        environment = os.environ if env is None else env
        pid = spawn.spawn(SpawnRequest(executable, argv, environment, cwd, (stdin, stdout, stderr), group))
        child = process.Process(pid, group=group, mark=mark)
        started.append(child)
        return child

    yield start
    for child in started:
        child.send_signal(signal.SIGKILL)
        finish(child)


@pytest.fixture
def speaking(start: Start) -> Iterator[Callable[..., tuple[process.Process, bytes]]]:
    """Start a shell script, and return it with the first line that it writes."""
    readers: list[fds.Fd] = []

    def speaking(script: str, **options: Any) -> tuple[process.Process, bytes]:
        reader, writer = fds.pipe()
        readers.append(reader)
        try:
            child = start("sh", "-c", script, stdout=writer.fileno(), **options)
        finally:
            writer.close()
        line = b""
        while not line.endswith(b"\n"):
            piece = os.read(reader.fileno(), 1)
            assert piece, f"the script ended after {line!r}"
            line += piece
        return child, line.strip()

    yield speaking
    for reader in readers:
        reader.close()


def finish(child: process.Process) -> process.ExitStatus | None:
    """Wait until the child has ended, and reap it; None where somebody else has."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    try:
        return child.reap()
    except ChildProcessError:
        return None


@pytest.fixture(name="finish")
def _finish() -> Callable[[process.Process], process.ExitStatus | None]:
    """Wait until a child has ended, and reap it."""
    return finish


@pytest.fixture
def output(start: Start) -> Callable[..., bytes]:
    """Run a program to its end, and return what it wrote to stdout."""

    def output(*argv: str | bytes, cwd: str | None = None, env: Mapping[str, str] | None = None) -> bytes:
        reader, writer = fds.pipe()
        try:
            child = start(*argv, cwd=cwd, env=env, stdout=writer.fileno())
            writer.close()
            with open(reader.detach(), "rb") as file:
                data = file.read()
            status = finish(child)
            assert status is not None
            assert status.returncode == 0
            return data
        finally:
            reader.close()
            writer.close()

    return output

"""Processes that are not children of the test process: what commands start, and what may outlive them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from tests.support.waiting import DEADLINE, until

from penstock import command

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock import Pipeline

__all__ = ["Strays", "alive", "gone", "kill_survivors", "reaped", "sh", "write_calls"]


def alive(pid: int) -> bool:
    """Tell whether a process runs at this moment. A zombie does not: an orphan's init may never reap it."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def gone(pid: int, timeout: float = DEADLINE) -> bool:
    """Tell whether a process ends within `timeout` seconds, reaped or not: SIGKILL takes a moment.

    The end of any process is a readable pidfd, so nothing sleeps here.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))
    finally:
        os.close(pidfd)


def reaped(pid: int) -> bool:
    """Tell whether no such process is left, not even a zombie."""
    return not psutil.pid_exists(pid)


def kill_survivors(pids: Iterable[int], timeout: float) -> list[int]:
    """Return the processes that have not ended after `timeout` seconds; kill them first."""
    deadline = time.monotonic() + timeout
    survivors = [pid for pid in pids if not gone(pid, max(0.0, deadline - time.monotonic()))]
    for pid in survivors:
        os.kill(pid, signal.SIGKILL)
    return survivors


class Strays:
    """Processes that a test's children start, and that may outlive them; killed after the test.

    A script writes their pids, one on a line, to the file that `$PIDS` names.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    @property
    def env(self) -> dict[str, str]:
        """Return the variable that the script needs in its environment."""
        return {"PIDS": str(self.path)}

    def pids(self, count: int = 1) -> list[int]:
        """Wait until `count` pids are written; return them."""
        until(lambda: self.path.read_bytes().count(b"\n") >= count)
        return [int(line) for line in self.path.read_bytes().split()]

    def kill(self) -> None:
        """Kill the processes that still run; if a test fails, they may go on to fork."""
        killed: set[int] = set()
        while left := set(self.pids(0)) - killed:
            for pid in left:
                killed.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def sh(script: str, strays: Strays | None = None, **options: Any) -> Pipeline:
    """Make a command of a shell script, which finds the file of `strays` as `$PIDS`."""
    env = None if strays is None else strays.env
    return command("sh", "-c", script, env=env, **options)


def write_calls() -> int:
    """Return how many writes this process has asked the kernel for."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["syscw"])

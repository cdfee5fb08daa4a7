"""Worker processes for stages that are to have a core of their own, and the pool of those that are idle.

A worker is a bare interpreter of our own starting (never a fork), which runs `serving`. Its stdin is one end
of a socket; whatever else it needs comes through that: the job, with the stage's streams as descriptors. It
serves one stage at a time. One that has ended its stage well stays for `_IDLE_TIMEOUT_S` seconds, and at most
`_MAX_IDLE_WORKERS` of them do, those that were used last; one whose stage was cancelled is killed by who used
it.

Idle workers hold nothing of the host's: no pipe, no terminal. They end by themselves when the host has died,
since their socket then ends. The supervisor sends them away when their time is over, and reaps them; in a
forked copy of the host they are simply somebody else's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from penstock.isolation.channel import Channel
from penstock.runtime.idle_pool import IdlePool
from penstock.runtime.reaper import OrphanReaper
from penstock.system.fd_passing import socket_pair
from penstock.system.process import Process
from penstock.system.spawn import spawn
from penstock.system.spawn_launcher import interpreter
from penstock.system.spawn_request import SpawnRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.system.spawn_request import SpawnRecord

__all__ = ["Worker", "acquire", "idle_descriptors", "idle_pids", "release", "shutdown"]

_IDLE_TIMEOUT_S = 10.0
"""Seconds that an idle worker stays."""
_MAX_IDLE_WORKERS = max(4, os.cpu_count() or 1)
"""Workers that may be idle at once."""

# `-P` keeps the current folder out of the first imports; the host's sys.path comes with the first job.
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); import penstock; del sys.path[0]; "
    "from penstock.isolation.worker_main import main; main()"
)


class Worker:
    """One worker process, in the hands of one stage or idle."""

    __slots__ = ("channel", "process", "sent_state", "used")

    def __init__(self, process: Process, channel: Channel) -> None:
        self.process = process
        self.channel = channel
        self.sent_state: dict[str, Any] = {}
        """What it has been told of the host: sys.path, the environment and so on."""
        self.used = (0.0, 0.0)
        """User and system seconds that its former stages have used."""

    @property
    def pid(self) -> int:
        """Its pid, as a `SpawnRecord` asks for it."""
        return self.process.pid

    def state_delta(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """What it has not been told yet."""
        delta = {name: value for name, value in state.items() if self.sent_state.get(name) != value}
        self.sent_state.update(delta)
        return delta

    def terminate(self) -> None:
        """Kill it and leave it to the supervisor to be reaped."""
        self.process.send_signal(signal.SIGKILL)
        self.channel.close()
        OrphanReaper(self.process, ()).watch()


def acquire(record: SpawnRecord) -> Worker:
    """A worker for one stage, an idle one or a new one. OSError where none can be started.

    It is put into `record` before it can be lost to an interrupt.
    """
    while (worker := _idle.take(record.add)) is not None:
        if not worker.process.exited():
            return worker
        record.discard(worker.pid)  # killed by somebody while it was idle
        worker.channel.close()
        OrphanReaper(worker.process, ()).watch()
    return _start(record)


def release(worker: Worker) -> None:
    """Take back a worker that has ended its stage well, or has not begun it."""
    _idle.put(worker)


def shutdown() -> None:
    """End all idle workers, and return when they are dead and reaped."""
    workers = _idle.take_all()
    _kill(workers)
    for worker in workers:
        worker.process.kill_and_reap()
        worker.channel.close()


def idle_pids() -> set[int]:
    """The processes that are here although no run goes on, for who counts what a run leaves behind."""
    return {worker.pid for worker in _idle.items()}


def idle_descriptors() -> set[int]:
    """The descriptors that belong to them."""
    found: set[int | None] = set()
    for worker in _idle.items():
        with contextlib.suppress(ValueError):  # the supervisor has just sent it away
            found |= {worker.channel.fileno(), worker.process.fileno()}
    return {fd for fd in found if fd is not None}


def _kill(workers: list[Worker]) -> None:
    """Send SIGKILL. At the interpreter's end that is all: the kernel hands the dead to init."""
    for worker in workers:
        worker.process.send_signal(signal.SIGKILL)


def _start(record: SpawnRecord) -> Worker:
    python = interpreter()
    if python is None:
        raise RuntimeError("isolate='process' needs a Python interpreter, but sys.executable is not set")
    ours, theirs = socket_pair()
    try:
        # As multiprocessing does: what this interpreter was told by its own command line.
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001
        root = os.path.dirname(sys.modules["penstock"].__path__[0])  # noqa: PTH120 - pathlib is dear to import
        pid = spawn(
            SpawnRequest(
                python,
                [python, *flags, "-P", "-c", _PROGRAM, root],
                dict(os.environ),
                # Until the first job brings the host's own, and where an interpreter that does not even start
                # says why.
                stdio=(theirs.fileno(), 2, 2),
                process_group=False,  # else it could not read a terminal
            ),
            record,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Worker(Process(pid, group=False), Channel(ours))


_idle: IdlePool[Worker] = IdlePool(_MAX_IDLE_WORKERS, _IDLE_TIMEOUT_S, close=Worker.terminate, at_exit=_kill)

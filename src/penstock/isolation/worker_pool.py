"""Worker processes for stages that are to have a core of their own, and the pool of those that are idle.

A worker is a bare interpreter of our own starting (never a fork), which runs `serving`. Its stdin is one end
of a socket; whatever else it needs comes through that: the job, with the stage's streams as descriptors. It
serves one stage at a time. One that has ended its stage well stays for `_IDLE_TIMEOUT_S` seconds, and at most
`_MAX_IDLE_WORKERS` of them do, those that were used last; one whose stage was cancelled is killed by who used
it.

Idle workers hold nothing of the host's: no pipe, no terminal. They end by themselves when the host has died,
since their socket then ends. The supervisor sends them away when their time is over, and reaps them; in a
forked copy of the host they are simply somebody else's. `_lock` guards the stack of idle ones and is never
held while anything is called that may block.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from penstock.isolation.channel import Channel
from penstock.runtime.reaper import OrphanReaper
from penstock.runtime.supervisor import supervisor
from penstock.system.fd_passing import socket_pair
from penstock.system.fork_guard import reset_in_child
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

_lock = threading.Lock()
_idle: list[Worker] = []
_sweeping = False


class Worker:
    """One worker process, in the hands of one stage or idle."""

    __slots__ = ("channel", "idle_since", "process", "sent_state", "used")

    def __init__(self, process: Process, channel: Channel) -> None:
        self.process = process
        self.channel = channel
        self.idle_since = 0.0
        self.sent_state: dict[str, Any] = {}
        """What it has been told of the host: sys.path, the environment and so on."""
        self.used = (0.0, 0.0)
        """User and system seconds that its former stages have used."""

    @property
    def pid(self) -> int:
        """Its pid, as a `SpawnRecord` asks for it."""
        return self.process.pid

    def state_delta(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """What it has not been told yet."""
        news = {name: value for name, value in known.items() if self.sent_state.get(name) != value}
        self.sent_state.update(news)
        return news

    def terminate(self) -> None:
        """Kill it and leave it to the supervisor to be reaped."""
        self.process.send_signal(signal.SIGKILL)
        self.channel.close()
        OrphanReaper(self.process, ()).watch()


def acquire(record: SpawnRecord) -> Worker:
    """A worker for one stage, an idle one or a new one. OSError where none can be started.

    It is put into `record` before it can be lost to an interrupt.
    """
    while True:
        with _lock:
            if not _idle:
                break
            worker = _idle[-1]
            record.add(worker)
            _idle.pop()
        if not worker.process.exited():
            return worker
        record.discard(worker.pid)  # killed by somebody while it was idle
        worker.channel.close()
        OrphanReaper(worker.process, ()).watch()
    return _start(record)


def release(worker: Worker) -> None:
    """Take back a worker that has ended its stage well, or has not begun it."""
    global _sweeping
    worker.idle_since = time.monotonic()
    with _lock:
        _idle.append(worker)
        surplus = _idle.pop(0) if len(_idle) > _MAX_IDLE_WORKERS else None
        start, _sweeping = not _sweeping, True
    if surplus is not None:
        surplus.terminate()
    if start:
        supervisor().call_at(worker.idle_since + _IDLE_TIMEOUT_S, _sweep)


def shutdown() -> None:
    """End all idle workers, and return when they are dead and reaped."""
    with _lock:
        workers, _idle[:] = _idle[:], []
    for worker in workers:
        worker.process.send_signal(signal.SIGKILL)
    for worker in workers:
        worker.process.kill_and_reap()
        worker.channel.close()


def idle_pids() -> set[int]:
    """The processes that are here although no run goes on, for who counts what a run leaves behind."""
    with _lock:
        return {worker.process.pid for worker in _idle}


def idle_descriptors() -> set[int]:
    """The descriptors that belong to them."""
    with _lock:
        numbers = [(worker.channel.fileno(), worker.process.fileno()) for worker in _idle]
    return {number for pair in numbers for number in pair if number is not None}


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


def _sweep() -> None:
    """In the supervisor's thread: send away those whose time is over."""
    global _sweeping  # noqa: PLW0603
    now = time.monotonic()
    with _lock:
        over = [worker for worker in _idle if worker.idle_since + _IDLE_TIMEOUT_S <= now]
        _idle[:] = [worker for worker in _idle if worker not in over]
        again = min((worker.idle_since + _IDLE_TIMEOUT_S for worker in _idle), default=None)
        _sweeping = again is not None
    for worker in over:
        worker.terminate()
    if again is not None:
        supervisor().call_at(again, _sweep)


def _at_exit() -> None:
    """The kernel hands the dead to init."""
    for worker in tuple(_idle):
        worker.process.send_signal(signal.SIGKILL)


def _after_fork_in_child() -> None:
    global _lock, _sweeping  # noqa: PLW0603 - it may have been held by a thread that is not here
    _lock = threading.Lock()
    _sweeping = False
    _idle.clear()


atexit.register(_at_exit)
reset_in_child(_after_fork_in_child, "state")

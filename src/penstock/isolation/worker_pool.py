"""Worker processes for isolated stages, and the pool of idle ones.

A worker is a fresh interpreter (never a fork) that runs `isolation.worker_main`. Its stdin is one end of a
socket; everything else comes through that: the job, with the stage's streams as file descriptors. It serves
one stage at a time. A worker whose stage ended well stays idle for `timing.worker_idle_s` seconds. At most
`_MAX_IDLE_WORKERS` do, those that were used last. A worker whose stage was cancelled is killed by that stage.

Idle workers hold no pipe and no terminal of the host. They exit when the host has died, because their socket
then reaches EOF. The supervisor terminates and reaps them when their time is over. A forked copy of the host
forgets them, because they belong to its parent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

from penstock.core.timing import timing
from penstock.isolation.channel import Channel
from penstock.runtime.idle_pool import IdlePool
from penstock.runtime.reaper import OrphanReaper
from penstock.system.executables import explain_interpreter
from penstock.system.fd_passing import socket_pair
from penstock.system.process import Process
from penstock.system.spawn import spawn
from penstock.system.spawn_launcher import interpreter
from penstock.system.spawn_request import SpawnRequest
from penstock.system.terminal import ignored_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from penstock.system.spawn_request import SpawnRecord

__all__ = ["Worker", "acquire", "idle_descriptors", "idle_pids", "release", "shutdown"]

_MAX_IDLE_WORKERS = max(4, os.cpu_count() or 1)
"""Workers that may be idle at once."""

# `-P` keeps the current folder out of the first imports; the host's sys.path comes with the first job.
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); import penstock; del sys.path[0]; "
    "from penstock.isolation.worker_main import main; main()"
)


class Worker:
    """One worker process, used by one stage or idle."""

    __slots__ = ("channel", "process", "sent_state", "used")

    def __init__(self, process: Process, channel: Channel) -> None:
        self.process = process
        self.channel = channel
        self.sent_state: dict[str, Any] = {}
        """The host's state that it has been sent: sys.path, the environment and so on."""
        self.used = (0.0, 0.0)
        """User and system seconds of its earlier stages."""

    @property
    def pid(self) -> int:
        """The pid, as a `SpawnRecord` reads it."""
        return self.process.pid

    def state_delta(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return the part of the state that it has not been sent yet."""
        delta = {name: value for name, value in state.items() if self.sent_state.get(name) != value}
        self.sent_state.update(delta)
        return delta

    def terminate(self) -> None:
        """Kill it, and let the supervisor reap it."""
        self.process.send_signal(signal.SIGKILL)
        self.channel.close()
        OrphanReaper(self.process).watch()


def acquire(record: SpawnRecord) -> Worker:
    """Return a worker for one stage, an idle or a new one. OSError if none can be started.

    It is put into `record` before an interrupt can lose it.
    """
    while (worker := _idle.take(record.add)) is not None:
        try:
            if not worker.process.exited():
                return worker
        except Exception:
            worker.channel.close()
            worker.process.close()
            raise  # the run kills what stands in the record
        record.discard(worker.pid)  # it was killed while it was idle
        worker.channel.close()
        OrphanReaper(worker.process).watch()
    return _start(record)


def release(worker: Worker) -> None:
    """Take back a worker whose stage ended well, or was never started."""
    _idle.put(worker)


def shutdown() -> None:
    """End all idle workers, and return when they are dead and reaped."""
    workers = _idle.take_all()
    _kill(workers)
    for worker in workers:
        worker.process.kill_and_reap()
        worker.channel.close()


def idle_pids() -> set[int]:
    """Return the pids of idle workers, which a check for leaked processes must leave out."""
    return {worker.pid for worker in _idle.items()}


def idle_descriptors() -> set[int]:
    """Return the file descriptors of idle workers."""
    found: set[int | None] = set()
    for worker in _idle.items():
        with contextlib.suppress(ValueError):  # the supervisor has just terminated it
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
        # As multiprocessing does: pass on the options of this interpreter's command line.
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001
        root = os.path.dirname(sys.modules["penstock"].__path__[0])  # noqa: PTH120 - pathlib is dear to import
        pid = spawn(
            SpawnRequest(
                python,
                [python, *flags, "-P", "-c", _PROGRAM, root],
                dict(os.environ),
                # Until the first job brings the host's own; an interpreter that fails to start says why here.
                stdio=(theirs.fileno(), 2, 2),
                process_group=False,  # else it could not read a terminal
                ignored=ignored_signals(),
            ),
            record,
        )
    except OSError as error:
        ours.close()
        raise explain_interpreter(error, python, "runs stages with isolate='process'") from None
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Worker(Process(pid, group=False), Channel(ours))


_idle: IdlePool[Worker] = IdlePool(
    _MAX_IDLE_WORKERS, lambda: timing.worker_idle_s, close=Worker.terminate, at_exit=_kill
)

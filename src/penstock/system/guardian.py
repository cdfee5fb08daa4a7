"""The guardian: one process of a host, which ends the host's commands when the host has died by a signal.

A host that gets SIGKILL runs none of our code. So another process does it (`guardian_main`), which is started
with the first run that asks for it and ends with the host. It is not our child: it was started by a process
that has ended, so a host that waits for any child never sees it.

A table in shared memory (`guard_table`) tells it about runs and commands. The table stays if the guardian is
killed: the next one gets it, and guards the runs that go on. A forked copy of the host forgets all of it and
has its own guardian, if it starts runs.

A host may close all its descriptors, as daemons do. So the socket's number is used only if it is still our
socket. The guardian goes on then, because it watches the host by a pidfd.

Out of scope: which runs are guarded, and noticing the death of the guardian (`runtime.guarding`).
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import time
from _thread import RLock

from penstock.system import fd_passing, fds, features, guardian_main, process, procfs, system_calls
from penstock.system.fork_guard import reset_in_child
from penstock.system.guard_table import GuardTable, identity
from penstock.system.process_mark import VARIABLE
from penstock.system.spawn import spawn
from penstock.system.spawn_launcher import interpreter
from penstock.system.spawn_request import SpawnRecord, SpawnRequest

__all__ = ["Guardian", "ensure_guardian", "guardian_descriptors"]

_START_TIMEOUT_S = 5.0
"""Seconds that the guardian may take to start. Ten milliseconds are usual."""

# The program comes through the socket, so that the guardian depends on no file. `ps` shows its name.
_LOADER = """\
import marshal, posix, sys
name, size, host, token, variable, pidfds, table = sys.argv[1:]
code = b""
while len(code) < int(size):
    code += posix.read(0, int(size) - len(code)) or posix._exit(1)
space = {"__name__": name}
exec(marshal.loads(code), space)
space["main"](int(host), token, variable, int(table), use_pidfds=pidfds == "True")
"""


class Guardian:
    """The host's side of a guardian that runs."""

    def __init__(self, table: GuardTable, socket: fds.Fd, pid: int) -> None:
        self.table = table
        self.pid = pid
        self._socket: fds.Fd | None = socket
        self._identity = identity(socket)
        entry = procfs.read_stat(pid)
        self._started = None if entry is None else entry.started

    def fileno(self) -> int | None:
        """Return the socket, readable once the guardian has died; None if the host has closed it."""
        socket = self._socket
        if socket is None:
            return None
        try:
            fd = socket.fileno()
        except ValueError:  # another thread has just closed it
            return None
        if identity(socket) != self._identity:
            self._socket = None
            with contextlib.suppress(ValueError):  # another thread was first
                socket.detach()  # the number is somebody else's by now
            return None
        return fd

    def alive(self) -> bool:
        """Whether it runs."""
        fd = self.fileno()
        if fd is not None:
            poll = select.poll()  # a new one, because two threads may not poll by one at the same time
            poll.register(fd, select.POLLIN)
            return not poll.poll(0)
        entry = procfs.read_stat(self.pid)
        return entry is not None and entry.alive and entry.started == self._started

    def close(self) -> None:
        """Close the socket, once it is not watched any more."""
        if self.fileno() is not None and self._socket is not None:
            self._socket.close()
            self._socket = None


_current: Guardian | None = None
_lock = RLock()
"""Held while a guardian is started. Re-entrant: a signal handler may start a run in the middle of it."""


def ensure_guardian() -> tuple[Guardian, bool]:
    """Return the guardian of this process, and whether it is new: started because there was none or it died.

    Raises OSError or RuntimeError if it cannot be started.
    """
    current = _current
    if current is not None and current.alive():
        return current, False
    with _lock:
        current = _current
        if current is not None and current.alive():
            return current, False
        if current is not None and current.table.intact:
            return _start(current.table), True
        table = GuardTable()
        try:
            return _start(table), True
        except BaseException:
            if _current is None or _current.table is not table:
                table.close()
            raise


def guardian_descriptors() -> set[int]:
    """Return the descriptors that the process keeps for its guardian."""
    current = _current
    if current is None:
        return set()
    kept = {current.fileno()}
    if current.table.intact:
        kept.add(current.table.fd.fileno())
    return {number for number in kept if number is not None}


def _start(table: GuardTable) -> Guardian:
    """Start a guardian, which is the current one from the moment it guards."""
    global _current  # noqa: PLW0603 - one for the process is the point
    python = interpreter()
    if python is None:
        raise RuntimeError("it needs a Python interpreter, but sys.executable is not set")
    loader = guardian_main.__loader__
    code = marshal.dumps(loader.get_code(guardian_main.__name__))  # type: ignore[union-attr]
    words = [guardian_main.__name__, len(code), os.getpid(), table.token, VARIABLE, features.PIDFD]
    ours, theirs = fd_passing.socket_pair()
    record = SpawnRecord()
    try:
        end = theirs.fileno()
        request = SpawnRequest(
            os.path.realpath(python),  # as in `spawn_launcher`
            [python, "-I", "-S", "-c", _LOADER, *map(str, words)],
            # In which this interpreter is known to start, but nobody must take it for a command.
            {name: value for name, value in os.environ.items() if name != VARIABLE},
            "/",
            stdio=(end, end, end),  # an interpreter that fails to start says why there
            process_group=True,
            extra_fds=(table.fd.fileno(),),
        )
        pid = spawn(request, record)
        record.add(_Known(pid))
        theirs.close()
        _send(ours, code)
        guardian = Guardian(table, ours, _wait_until_ready(ours.fileno()))
        _reap(pid)
        record.discard(pid)
        _send(ours, b"g")
        _current = guardian  # nothing is called between the two, so no interrupt can lose it
    except BaseException as error:
        for pid in set(record.pids()):
            process.kill_and_reap(pid)
        _dismiss(ours)
        if isinstance(error, OSError):
            text = f"no process could be started for it: {error.strerror or error}"
            raise (OSError(text) if error.errno is None else OSError(error.errno, text)) from error
        raise
    finally:
        theirs.close()
    return guardian


def _send(socket: fds.Fd, data: bytes) -> None:
    """Send what a new socket takes at once. As a write, which no interrupt can cut short."""
    system_calls.write(socket.fileno(), data)


class _Known:
    """A child whose pid is known, for a record."""

    __slots__ = ("pid",)

    def __init__(self, pid: int) -> None:
        self.pid = pid


def _reap(pid: int) -> None:
    """Reap the process that has forked the guardian: it exits at once."""
    with contextlib.suppress(
        ChildProcessError
    ):  # the host lets the kernel reap its children, or waits for any
        os.waitpid(pid, 0)


def _dismiss(socket: fds.Fd) -> None:
    """Let a guardian that nobody will know end now, and close the socket."""
    with contextlib.suppress(OSError, ValueError):
        _send(socket, b"q")
    socket.close()


def _wait_until_ready(socket: int) -> int:
    """Return the guardian's pid, once it guards."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    poll = select.poll()
    poll.register(socket, select.POLLIN)
    said = b""
    while not (said.startswith(b"ready ") and said.endswith(b"\n")):
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError(f"it did not start within {_START_TIMEOUT_S:g} s")
        try:
            part = os.read(socket, 4096)
        except ConnectionResetError:  # it has died without reading all of its program
            part = b""
        if not part:
            text = said.decode(errors="replace").strip().rpartition("\n")[2]
            raise ChildProcessError(text or "its interpreter has died")
        said += part
    return int(said.split()[1])


def _after_fork_in_child() -> None:
    global _current, _lock  # noqa: PLW0603
    _lock = RLock()
    if _current is not None:
        _current.table.forget()
        _current = None


reset_in_child(_after_fork_in_child, "state")

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

from penstock.system import fd_passing, fds, features, guardian_main, process, procfs
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
        self._poll = select.poll()
        self._poll.register(socket.fileno(), select.POLLIN)

    def fileno(self) -> int | None:
        """Return the socket, readable once the guardian has died; None if the host has closed it."""
        socket = self._socket
        if socket is None or socket.closed:
            return None
        if identity(socket) != self._identity:
            self._socket = None
            with contextlib.suppress(ValueError):  # another thread was first
                socket.detach()  # the number is somebody else's by now
            return None
        return socket.fileno()

    def alive(self) -> bool:
        """Whether it runs."""
        if self.fileno() is not None:
            return not self._poll.poll(0)
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
    global _current  # noqa: PLW0603 - one for the process is the point
    current = _current
    if current is not None and current.alive():
        return current, False
    with _lock:
        current = _current
        if current is not None and current.alive():
            return current, False
        if current is not None and current.table.intact:
            _current = _start(current.table)
        else:
            table = GuardTable()
            try:
                _current = _start(table)
            except BaseException:
                table.close()
                raise
        return _current, True


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
        fd_passing.send_fds(ours.fileno(), memoryview(code))
        guardian = Guardian(table, ours, _wait_until_ready(ours.fileno()))
        _reap(pid)
        record.discard(pid)
        fd_passing.send_fds(ours.fileno(), memoryview(b"g"))
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
        fd_passing.send_fds(socket.fileno(), memoryview(b"q"))
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

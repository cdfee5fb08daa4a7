"""Start a child by `subprocess`, if there is no `posix_spawn` of glibc, or if it gets high descriptors.

It is slower, with the same promises but one: a KeyboardInterrupt that arrives while `Popen` forks may lose
the child.

`Popen` closes descriptors, changes the directory and makes the process group. It resets only the signals that
Python itself ignores (SIGPIPE, SIGXFSZ), and the child inherits the signal mask of the calling thread. If the
host ignores other signals, as under `nohup`, or starts children from a thread with signals blocked, a
launcher (spawn_launcher.py) resets the signals, then becomes the program. It costs some 8 ms. But it does
not run Python code between fork and exec, as `preexec_fn` does, which may deadlock beside threads, and it
does not touch the host's own signals. If no interpreter is known (a frozen or embedding program), the child
inherits the signals that the host ignores and blocks.
"""

from __future__ import annotations

import fcntl
import signal
import subprocess
from functools import partial

from penstock.system import process, spawn_launcher
from penstock.system.spawn_launcher import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from penstock.system.spawn_request import SpawnRecord, SpawnRequest

_RESTORED = frozenset(
    {signal.SIGPIPE, *(getattr(signal, name) for name in ("SIGXFZ", "SIGXFSZ") if hasattr(signal, name))}
)


class _Child(subprocess.Popen[bytes]):
    """A Popen that starts a child and then leaves it alone.

    When a plain Popen is collected before its child was reaped, it warns, and later Popens poll for that
    child. They could reap it before `process.Process` does.

    A `record` knows the pid as soon as Popen does.
    """

    pid: int = 0

    def __init__(self, record: SpawnRecord | None, *args: Any, **kwargs: Any) -> None:
        try:
            if record is not None:
                record.add(self)
            super().__init__(*args, **kwargs)
        except BaseException:
            # KeyboardInterrupt after the fork. If Popen itself failed, it has reaped the child and set
            # returncode.
            if getattr(self, "_child_created", False) and self.returncode is None:
                process.kill_and_reap(self.pid)
            if record is not None:
                record.discard(self.pid)
            raise

    def __del__(self) -> None:
        """Leave the child alone."""


def launch(request: SpawnRequest, record: SpawnRecord | None = None) -> int:
    """Start a child. A source below 3 must be its own target (`spawn` ensures that); None is /dev/null."""
    for source in (*request.stdio, *request.pass_fds):
        if source is not None:
            # EBADF if it is closed: else a pipe that `Popen` makes could get its number.
            fcntl.fcntl(source, fcntl.F_GETFD)
    # One with further descriptors is a launcher itself.
    if request.extra_fds or not _needs_launcher(request) or interpreter() is None:
        return _start(request, record)
    start = partial(_start, record=record)
    return spawn_launcher.launch(start, request, spawn_launcher.ChildSetup(), record)


def _start(request: SpawnRequest, record: SpawnRecord | None) -> int:
    """Start a child as `Popen` does, which passes `extra_fds` under their own numbers."""
    stdin, stdout, stderr = (subprocess.DEVNULL if source is None else source for source in request.stdio)
    return _Child(
        record,
        [*request.argv, *map(str, request.extra_fds)],
        executable=request.executable,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=request.cwd,
        env=request.env,
        close_fds=True,
        pass_fds=(*request.extra_fds, *request.pass_fds),
        restore_signals=True,
        process_group=0 if request.process_group else None,
    ).pid


def _needs_launcher(request: SpawnRequest) -> bool:
    """Whether the child would inherit a blocked signal, or one that is ignored against the request.

    Python does not know about changes that C code has made since the start of the interpreter.
    """
    return bool(signal.pthread_sigmask(signal.SIG_BLOCK, ())) or any(
        signal.getsignal(signum) is signal.SIG_IGN
        for signum in signal.valid_signals() - _RESTORED - set(request.ignored)
    )

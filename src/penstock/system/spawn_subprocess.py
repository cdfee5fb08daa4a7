"""Starting a child by `subprocess`, where glibc's `posix_spawn` is not to be had. Slower; the same promises.

`Popen` closes descriptors, changes the directory and makes the group. It puts back only those signals that
Python itself ignores (SIGPIPE, SIGXFSZ), and leaves the calling thread's signal mask to the child. A host
that ignores others, as under `nohup`, or that starts children from a thread with signals blocked, gets a
launcher (launcher.py), which puts the signals right, then becomes the program. That takes some 8 ms, but
neither forks with Python code in the child, as `preexec_fn`, which may deadlock beside threads, nor touches
the host's own signals. Where no interpreter can be named (a frozen or embedding program), such a child
inherits what the host ignores and blocks.
"""

from __future__ import annotations

import fcntl
import signal
import subprocess
from typing import TYPE_CHECKING, Any

from penstock.system import process, spawn_launcher
from penstock.system.spawn_launcher import interpreter

if TYPE_CHECKING:
    from penstock.system.spawn_request import SpawnRequest

_RESTORED = frozenset(
    {signal.SIGPIPE, *(getattr(signal, name) for name in ("SIGXFZ", "SIGXFSZ") if hasattr(signal, name))}
)


class _Child(subprocess.Popen[bytes]):
    """A Popen that starts a child and has nothing to do with it afterwards.

    The stock one waits, warns, and puts itself on a list that later Popens poll, when it is collected before
    its child was waited for. That would reap behind the back of `process.Process`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except BaseException:
            # KeyboardInterrupt after the fork. Where it failed by itself, it has reaped the child and set
            # returncode.
            if getattr(self, "_child_created", False) and self.returncode is None:
                process.kill_and_reap(self.pid)
            raise

    def __del__(self) -> None:
        """Leave the child alone."""


def launch(request: SpawnRequest) -> int:
    """Start a child. A source below 3 must be its own target (`spawn` sees to that); None is /dev/null."""
    for source in request.stdio:
        if source is not None:
            # EBADF, where one is closed: a pipe that is made on the way to the child could take its number.
            fcntl.fcntl(source, fcntl.F_GETFD)
    # One with further descriptors is a launcher itself.
    if request.extra_fds or not _needs_launcher() or interpreter() is None:
        return _start(request)
    return spawn_launcher.launch(_start, request, spawn_launcher.ChildSetup())


def _start(request: SpawnRequest) -> int:
    """Start a child as `Popen` does, with `extra_fds` under their own numbers."""
    stdin, stdout, stderr = (subprocess.DEVNULL if source is None else source for source in request.stdio)
    return _Child(
        [*request.argv, *map(str, request.extra_fds)],
        executable=request.executable,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=request.cwd,
        env=request.env,
        close_fds=True,
        pass_fds=request.extra_fds,
        restore_signals=True,
        process_group=0 if request.process_group else None,
    ).pid


def _needs_launcher() -> bool:
    """Whether the child would inherit an ignored or a blocked signal.

    What C code has changed since the start of the interpreter, Python does not know.
    """
    return bool(signal.pthread_sigmask(signal.SIG_BLOCK, ())) or any(
        signal.getsignal(signum) is signal.SIG_IGN for signum in signal.valid_signals() - _RESTORED
    )

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
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

from penstock.system import process, spawn_launcher
from penstock.system.spawn_launcher import interpreter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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


def launch(  # noqa: PLR0913 - as spawn's
    executable: str,
    argv: Sequence[str | bytes],
    env: Mapping[str, str],
    cwd: str | None,
    sources: tuple[int | None, int | None, int | None],
    process_group: bool,  # noqa: FBT001
) -> int:
    """Start a child. A source below 3 must be its own target (`spawn` sees to that); None is /dev/null."""
    for source in sources:
        if source is not None:
            # EBADF, where one is closed: a pipe that is made on the way to the child could take its number.
            fcntl.fcntl(source, fcntl.F_GETFD)
    if not _needs_launcher() or interpreter() is None:
        return start(executable, argv, sources, cwd, process_group, env)

    def begin(python: str, words: Sequence[str], passed: tuple[int, ...]) -> int:
        # In the host's environment, in which this interpreter is known to start.
        return start(python, [*words, *map(str, passed)], sources, cwd, process_group, os.environ, passed)

    return spawn_launcher.launch(begin, executable, argv, env, spawn_launcher.ChildSetup())


def start(  # noqa: PLR0913 - as spawn's
    executable: str,
    argv: Sequence[str | bytes],
    sources: tuple[int | None, int | None, int | None],
    cwd: str | None,
    process_group: bool,  # noqa: FBT001
    env: Mapping[str, str],
    passed: Sequence[int] = (),
) -> int:
    """Start a child as `Popen` does, with the descriptors in `passed` under their own numbers."""
    stdin, stdout, stderr = (subprocess.DEVNULL if source is None else source for source in sources)
    return _Child(
        argv,
        executable=executable,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=cwd,
        env=env,
        close_fds=True,
        pass_fds=passed,
        restore_signals=True,
        process_group=0 if process_group else None,
    ).pid


def _needs_launcher() -> bool:
    """Whether the child would inherit an ignored or a blocked signal.

    What C code has changed since the start of the interpreter, Python does not know.
    """
    return bool(signal.pthread_sigmask(signal.SIG_BLOCK, ())) or any(
        signal.getsignal(number) is signal.SIG_IGN for number in signal.valid_signals() - _RESTORED
    )

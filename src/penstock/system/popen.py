# pathlib is dear to import.
# ruff: noqa: PTH119
"""Starting a child by `subprocess`, where glibc's `posix_spawn` is not to be had. Slower; the same promises.

`Popen` closes descriptors, changes the directory and makes the group. It puts back only those signals that
Python itself ignores (SIGPIPE, SIGXFSZ), and leaves the calling thread's signal mask to the child. A host
that ignores others, as under `nohup`, or that starts children from a thread with signals blocked, gets a
launcher: a bare Python that puts the signals right, then becomes the program. That takes some 15 ms, but
neither forks with Python code in the child, as `preexec_fn`, which may deadlock beside threads, nor touches
the host's own signals. Where no interpreter can be named (a frozen or embedding program), such a child
inherits what the host ignores and blocks.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from penstock.system import fds, process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_RESTORED = frozenset(
    {signal.SIGPIPE, *(getattr(signal, name) for name in ("SIGXFZ", "SIGXFSZ") if hasattr(signal, name))}
)

# Reads path, number of arguments, arguments and environment, each ended by NUL, from its first descriptor;
# tells on its second that it has come to the execve, and its errno should that fail. Both are closed by a
# successful one.
_LAUNCHER = r"""
import os, signal, sys
order, report = int(sys.argv[1]), int(sys.argv[2])
os.set_inheritable(report, False)
with open(order, "rb") as file:
    path, count, *words = file.read().split(b"\0")[:-1]
arguments, environment = words[:int(count)], words[int(count):]
for number in signal.valid_signals():
    try:
        signal.signal(number, signal.SIG_DFL)
    except (OSError, ValueError):
        pass
signal.pthread_sigmask(signal.SIG_SETMASK, ())
os.write(report, b"0 ")
try:
    os.execve(path, arguments, dict(entry.split(b"=", 1) for entry in environment))
except OSError as error:
    os.write(report, b"%d " % error.errno)
os._exit(127)
"""


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
                process.discard(self.pid)
            raise

    def __del__(self) -> None:
        """Leave the child alone."""


def launch(  # noqa: PLR0913 - as spawn's
    executable: str,
    argv: Sequence[str | bytes],
    env: Mapping[str, str],
    cwd: str | None,
    sources: tuple[int, int, int],
    process_group: bool,  # noqa: FBT001
) -> int:
    """Start a child. A source below 3 must be its own target (`spawn` sees to that)."""
    for source in sources:
        # EBADF, where one is closed: a pipe that is made on the way to the child could take its number.
        fcntl.fcntl(source, fcntl.F_GETFD)
    python = interpreter() if _needs_launcher() else None
    if python is None:
        return _start(executable, argv, sources, cwd, process_group, env=env)
    words = [os.fsencode(executable), b"%d" % len(argv), *map(os.fsencode, argv)]
    words += [os.fsencode(f"{name}={value}") for name, value in env.items()]
    if any(b"\0" in word for word in words):
        raise ValueError("embedded null byte")
    return _start_launcher(python, b"".join(word + b"\0" for word in words), sources, cwd, process_group)


def _start(  # noqa: PLR0913
    executable: str,
    argv: Sequence[str | bytes],
    sources: tuple[int, int, int],
    cwd: str | None,
    process_group: bool,  # noqa: FBT001
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> int:
    return _Child(
        argv,
        executable=executable,
        stdin=sources[0],
        stdout=sources[1],
        stderr=sources[2],
        cwd=cwd,
        env=env,
        close_fds=True,
        pass_fds=pass_fds,
        restore_signals=True,
        process_group=0 if process_group else None,
    ).pid


def _start_launcher(
    interpreter: str,
    order: bytes,
    sources: tuple[int, int, int],
    cwd: str | None,
    process_group: bool,  # noqa: FBT001
) -> int:
    ends = [*fds.pipe(), *fds.pipe()]
    order_in, order_out, report_in, report_out = ends
    pid = 0
    try:
        inherited = (order_in.fileno(), report_out.fileno())
        command = [interpreter, "-I", "-S", "-c", _LAUNCHER, *map(str, inherited)]
        # The launcher has the host's environment, in which this interpreter is known to start.
        pid = _start(interpreter, command, sources, cwd, process_group, pass_fds=inherited)
        order_in.close()
        report_out.close()
        _write_all(order_out.fileno(), order)
        order_out.close()
        _await_program(report_in.fileno())
    except BaseException:
        if pid:
            process.discard(pid)
        raise
    finally:
        for end in ends:
            end.close()
    return pid


def _await_program(report: int) -> None:
    """Wait for the launcher to become the program, which closes its end of the report."""
    words = b""
    while chunk := os.read(report, 64):
        words += chunk
    if not words.startswith(b"0 "):
        raise ChildProcessError(
            "the launcher, which was to put the signals right, ended before the program began"
        )
    if len(words) > 2:
        number = int(words[2:])
        raise OSError(number, os.strerror(number))


def _write_all(number: int, data: bytes) -> None:
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(number, rest) :]
    except BrokenPipeError:
        pass  # the launcher has ended: its report, or the lack of one, says why


def _needs_launcher() -> bool:
    """Whether the child would inherit an ignored or a blocked signal.

    What C code has changed since the start of the interpreter, Python does not know.
    """
    return bool(signal.pthread_sigmask(signal.SIG_BLOCK, ())) or any(
        signal.getsignal(number) is signal.SIG_IGN for number in signal.valid_signals() - _RESTORED
    )


def interpreter() -> str | None:
    """Return the path of the Python that runs us; None where `sys.executable` may be something else."""
    path = sys.executable
    named = bool(path) and os.path.basename(path).startswith(("python", "pypy"))
    return path if named and not getattr(sys, "frozen", False) else None

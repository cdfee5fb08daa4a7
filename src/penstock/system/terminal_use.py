# os.stat of a magic link in /proc is not a path operation of pathlib's kind.
# ruff: noqa: PTH116
"""Find out whether some program uses a terminal at this moment: asks a question, pages, edits.

Nobody announces that, so each answer is a look: 30 microseconds, and 10 for each process.

- Another process group is in the foreground: this job is in the background, and the shell has the terminal.
- The terminal has lost its echo or its line mode: a password prompt, a pager, an editor.
- A process waits in a read of the terminal. The kernel shows the system call of our own descendants
  (/proc/PID/syscall in proc_pid_syscall(5)), on most systems; elsewhere such a read is not seen.

Out of scope: what is done about it.
"""

from __future__ import annotations

import os
import stat

from penstock.system import procfs
from penstock.system.fork_guard import late_import
from penstock.system.process_look import ProcessLook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["TerminalUse", "is_same_terminal", "terminal_size"]

_READ = {"x86_64": b"0", "aarch64": b"63", "riscv64": b"63"}.get(os.uname().machine)
"""The number of read(2) among the system calls of this machine."""
_THE_TERMINAL = os.makedev(5, 0)
"""The device /dev/tty: the controlling terminal, whichever that is."""


def is_same_terminal(target: int | str | os.PathLike[str], fd: int) -> bool:
    """Whether a descriptor or path is the terminal that `fd` is."""
    try:
        found = os.stat(target)
        return stat.S_ISCHR(found.st_mode) and found.st_rdev in (os.stat(fd).st_rdev, _THE_TERMINAL)
    except (OSError, ValueError):
        return False


def terminal_size(fd: int) -> tuple[int, int]:
    """Return the columns and rows of a terminal; 80 by 24 if it does not know."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except (OSError, ValueError):
        columns = rows = 0
    return columns or 80, rows or 24


class TerminalUse:
    """Looks at one terminal. Its modes at the first moment are those that nobody else has set."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._device = os.stat(fd).st_rdev
        self._modes = self._line_modes()

    def by_others(self, pids: Iterable[int]) -> bool:
        """Whether the terminal is in use: by a process of these, by a descendant, or by a shell."""
        try:
            if os.tcgetpgrp(self._fd) != os.getpgrp():
                return True
        except OSError:  # it is not our controlling terminal: then it has no shell, and sends no signals
            pass
        if self._modes & ~self._line_modes():
            return True
        if _READ is None:
            return False
        roots = [os.getpid(), *pids]  # a thread of this process may ask something too
        return any(map(self._reads, roots)) or any(map(self._reads, ProcessLook().descendants(roots[1:], {})))

    def _reads(self, pid: int) -> bool:
        """Whether the main thread of a process waits in a read of the terminal."""
        number, _, arguments = procfs.system_call(pid).partition(b" ")
        if number != _READ:
            return False
        try:
            fd = int(arguments.split(b" ", 1)[0], 16)
            found = os.stat(b"/proc/%d/fd/%d" % (pid, fd))
        except (OSError, ValueError):  # gone
            return False
        return stat.S_ISCHR(found.st_mode) and found.st_rdev in (self._device, _THE_TERMINAL)

    def _line_modes(self) -> int:
        """Return which of echo and line mode the terminal has."""
        with late_import:
            import termios  # noqa: PLC0415 - an extension module, of use only at a terminal

        try:
            return int(termios.tcgetattr(self._fd)[3]) & (termios.ECHO | termios.ICANON)
        except termios.error:  # it is gone
            return 0

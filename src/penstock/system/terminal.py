"""The controlling terminal of this process, and the modes that it has.

A terminal stops a process that is not in its foreground process group when that process reads from it
(SIGTTIN) or sets its modes (SIGTTOU), and it sends its signals (Ctrl-C, Ctrl-Z, a hang-up) to that group
alone (termios(3)). So the process group of a child matters only if there is such a terminal. Its standard
streams do not tell: all three may be redirected, and a program still asks for a password at /dev/tty.

A host may ignore such a signal: under `nohup`, or as a background job of a shell without job control. A child
in its group must then ignore it too, or it would die of a hang-up that its host survives.

The answer changes when the host calls setsid(2), loses its terminal or forks, so it is never cached. Opening
/dev/tty is one system call, and fails with ENXIO if there is no controlling terminal.

Out of scope: the process groups themselves (`process`), and when modes are restored.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal

from penstock.system import system_calls
from penstock.system.fds import open_fd
from penstock.system.fork_guard import late_import
from penstock.system.process import signal_group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import Any, TypeVar

    T = TypeVar("T")

__all__ = ["TerminalModes", "has_controlling_terminal", "ignored_signals", "not_stopped_by_output"]

# Without O_NONBLOCK, the open of a serial line would wait for its carrier.
_FLAGS = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC

_SIGNALS = signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGHUP
"""The signals that a terminal sends to its foreground group, if it is asked to or closed."""


def has_controlling_terminal() -> bool:
    """Whether this process has a controlling terminal."""
    try:
        _look(bool)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EIO):  # none, or one that is being hung up
            return False
        # No descriptor is free, or a container has no /dev/tty: a terminal may be there all the same.
        return error.errno == errno.EBUSY or _is_at_standard_stream()
    return True


def ignored_signals() -> tuple[int, ...]:
    """Return the signals of a terminal that this process ignores."""
    return tuple([signum for signum in _SIGNALS if signal.getsignal(signum) is signal.SIG_IGN])


@contextlib.contextmanager
def not_stopped_by_output() -> Iterator[None]:
    """Write to a terminal in this block, and not be stopped for it, even from the background.

    With `stty tostop` the terminal would stop our whole process group (SIGTTOU). It lets a thread write that
    blocks the signal (tty_ioctl(4)).
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class TerminalModes:
    """The modes of the controlling terminal at one moment, in which this process was in the foreground.

    A program that is killed leaves the terminal as it was using it: without echo after a password prompt,
    without line editing after a pager, or, after a shell with job control, in the hands of a group that has
    no process any more.
    """

    __slots__ = ("_modes",)

    def __init__(self, modes: list[Any]) -> None:
        self._modes = modes

    @classmethod
    def read(cls) -> TerminalModes | None:
        """Read them; None without a terminal, or in the background. Loads the module that `restore` needs."""
        try:
            modes = _look(_foreground_modes)
        except OSError:
            return None
        return None if modes is None else cls(modes)

    def restore(self) -> None:
        """Give the terminal these modes, if it has others now.

        Only in the foreground: from the background it would stop us, and another program owns the modes then.
        But a foreground group without any process is replaced by ours, which was there before.
        """
        with contextlib.suppress(OSError):  # the terminal is gone, or there is no descriptor
            _look(self._restore)

    def _restore(self, fd: int) -> None:
        if _is_abandoned(os.tcgetpgrp(fd)):
            _take_foreground(fd)
        if _foreground_modes(fd) not in (None, self._modes):
            termios = _termios()
            with contextlib.suppress(termios.error):  # it is gone
                termios.tcsetattr(fd, termios.TCSANOW, self._modes)


def _foreground_modes(fd: int) -> list[Any] | None:
    """Return the modes of the terminal; None in the background, or if the terminal is gone."""
    termios = _termios()
    try:
        return list(termios.tcgetattr(fd)) if os.tcgetpgrp(fd) == os.getpgrp() else None
    except (OSError, termios.error):
        return None


def _is_abandoned(group: int) -> bool:
    """Whether a process group has no process."""
    try:
        signal_group(group, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        pass
    return False


def _take_foreground(fd: int) -> None:
    """Make our process group the foreground group of the terminal."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])  # else it would stop us for that
    try:
        os.tcsetpgrp(fd, os.getpgrp())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _termios() -> ModuleType:
    with late_import:
        import termios  # noqa: PLC0415 - an extension module, of use only at a terminal
    return termios


def _look(at: Callable[[int], T]) -> T:
    """Return `at(fd)` for a descriptor of the terminal. OSError if it cannot be opened."""
    fd = open_fd(system_calls.open_path, "/dev/tty", _FLAGS)
    try:
        return at(fd.fileno())
    finally:
        fd.close()


def _is_at_standard_stream() -> bool:
    """Whether one of the standard streams is the controlling terminal. Needs no descriptor."""
    for fd in (0, 1, 2):
        try:
            os.tcgetpgrp(fd)  # ENOTTY for a terminal that is not the controlling one
        except OSError:
            continue
        return True
    return False

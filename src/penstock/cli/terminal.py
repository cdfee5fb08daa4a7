"""The terminal that the command line runs on, if any.

Commands that share a terminal with us stay in our process group. In a group of their own they would be in the
background, and the terminal would stop them when they read from it or change its modes (SIGTTIN, SIGTTOU in
termios(3)).

Out of scope: any decision about a signal.
"""

from __future__ import annotations

import os
import termios

__all__ = ["Terminal"]


class Terminal:
    """The terminal of this process. It borrows a standard stream and owns no file descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._modes = termios.tcgetattr(fd)

    @classmethod
    def find(cls) -> Terminal | None:
        """Return the first of stdin, stderr and stdout that is a terminal, or None."""
        for fd in (0, 2, 1):
            try:
                return cls(fd)
            except termios.error:  # not a terminal, or not open
                continue
        return None

    @property
    def taken_over(self) -> bool:
        """Return whether a program has since switched off line mode, as `less` and every line editor do.

        Such a program handles Ctrl-C itself: it ends a search or clears a line, and must not die of it.
        """
        try:
            modes = termios.tcgetattr(self._fd)
        except termios.error:  # the terminal is gone
            return False
        return bool(self._modes[3] & ~modes[3] & termios.ICANON)

    def restore(self) -> None:
        """Restore the modes that the terminal had, if a program that was killed left others.

        Only in the foreground: from the background it would stop us, and another program owns the modes then.
        """
        try:
            if os.tcgetpgrp(self._fd) == os.getpgrp() and termios.tcgetattr(self._fd) != self._modes:
                termios.tcsetattr(self._fd, termios.TCSANOW, self._modes)
        except (OSError, termios.error):  # the terminal is gone, or is not our controlling terminal
            return

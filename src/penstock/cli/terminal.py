"""What the command line must know of the terminal, if it runs on one.

Commands that share a terminal with us stay in our process group: in a group of their own they would be in the
background, and stopped as soon as they read from the terminal or change its modes (SIGTTIN, SIGTTOU in
termios(3)).

What may not live here: any decision about what to do with a signal.
"""

from __future__ import annotations

import os
import termios

__all__ = ["Terminal"]


class Terminal:
    """The terminal that this process stands on. It borrows a standard stream and owns no descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._modes = termios.tcgetattr(fd)

    @classmethod
    def find(cls) -> Terminal | None:
        """Give the first of stdin, stderr and stdout that is a terminal."""
        for fd in (0, 2, 1):
            try:
                return cls(fd)
            except termios.error:  # not a terminal, or not open
                continue
        return None

    @property
    def taken_over(self) -> bool:
        """Whether a program has switched off the line discipline since, as `less` and every line editor do.

        Such a program gets Ctrl-C for itself: it ends a search or clears a line, and is not meant to die of
        it.
        """
        try:
            modes = termios.tcgetattr(self._fd)
        except termios.error:  # the terminal is gone
            return False
        return bool(self._modes[3] & ~modes[3] & termios.ICANON)

    def restore(self) -> None:
        """Give the terminal the modes that it had, where a program that was killed left others.

        Only in the foreground: from the background that would stop us, and the modes are another's then.
        """
        try:
            if os.tcgetpgrp(self._fd) == os.getpgrp() and termios.tcgetattr(self._fd) != self._modes:
                termios.tcsetattr(self._fd, termios.TCSANOW, self._modes)
        except (OSError, termios.error):  # the terminal is gone, or not the one that controls us
            return

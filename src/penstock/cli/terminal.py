"""The controlling terminal of the command line, if any.

It is found by /dev/tty: the standard streams may all be redirected, and the commands may ask there all the
same. The commands of a run share our process group there, so the terminal sends Ctrl-C to them too.

Out of scope: any decision about a signal, and giving the terminal its modes back, which a run does itself.
"""

from __future__ import annotations

import os
import termios
from typing import Any

__all__ = ["Terminal"]


class Terminal:
    """The terminal of this process, with the modes that it had at first. It owns no file descriptor."""

    def __init__(self, modes: list[Any]) -> None:
        self._modes = modes

    @classmethod
    def find(cls) -> Terminal | None:
        """Return the controlling terminal, or None."""
        modes = _read_modes()
        return None if modes is None else cls(modes)

    @property
    def taken_over(self) -> bool:
        """Return whether a program has since switched off line mode, as `less` and every line editor do.

        Such a program handles Ctrl-C itself: it ends a search or clears a line, and must not die of it.
        """
        modes = _read_modes()
        return modes is not None and bool(self._modes[3] & ~modes[3] & termios.ICANON)


def _read_modes() -> list[Any] | None:
    """Return the modes of the controlling terminal; None if there is none, or if it is gone."""
    try:
        fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return termios.tcgetattr(fd)
    except termios.error:
        return None
    finally:
        os.close(fd)

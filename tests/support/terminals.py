"""Programs on terminals of their own: a pseudo-terminal, the session on it, and the user who types there."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import termios
import textwrap
import time
from typing import TYPE_CHECKING, Any

import psutil
from tests.support.hosts import PYTHON_OPTIONS
from tests.support.screens import TerminalScreen
from tests.support.waiting import DEADLINE, until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

__all__ = ["PROMPT", "Desk", "Terminal", "is_stopped", "until_stopped"]

# Makes its stdin the controlling terminal, then becomes what its arguments say: what login(1) does.
_LOGIN = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
_PRELUDE = """\
import os, signal, subprocess, sys, threading, time
from penstock import *

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

"""
PROMPT = rb"ready\$ "


def is_stopped(pid: int) -> bool:
    """Tell whether a process is stopped at this moment."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    return False


def until_stopped(pids: Iterable[int]) -> None:
    """Wait until all of these are stopped: a shell waits for its own child only."""
    until(lambda: all(map(is_stopped, pids)))


class Terminal:
    """The user's side of a terminal on which a program leads the session."""

    def __init__(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None, **streams: Any
    ) -> None:
        """`streams` are stdin, stdout and stderr of the program where they are not to be the terminal.

        `size` among them is that of the window, in columns and rows.
        A program without a terminal as its stdin is started through a shell that opens one: see `Desk.shell`.
        """
        self.master, slave = pty.openpty()
        columns, rows = streams.get("size", (0, 0))
        termios.tcsetwinsize(slave, (rows, columns))
        self.seen = b""
        self.everything = b""
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _LOGIN, *arguments],
                stdin=slave,
                stdout=streams.get("stdout", slave),
                stderr=streams.get("stderr", slave),
                cwd=cwd,
                start_new_session=True,
                env={**os.environ, "TERM": "vt100", "LESS": "", "LESSHISTFILE": "-", **(env or {})},
            )
        finally:
            os.close(slave)

    def type(self, text: bytes | str) -> None:
        """Press keys."""
        os.write(self.master, text.encode() if isinstance(text, str) else text)

    def wait_for(self, pattern: bytes) -> re.Match[bytes]:
        """Read what is written to the terminal until it matches; what comes after the match is kept."""
        end = time.monotonic() + DEADLINE
        while (match := re.search(pattern, self.seen)) is None:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"{pattern!r} did not come: {self.everything!r}"
            try:
                self._read()
            except OSError as error:  # EIO: nobody has the terminal open any more
                raise AssertionError(
                    f"{pattern!r} did not come before the end: {self.everything!r}"
                ) from error
        self.seen = self.seen[match.end() :]
        return match

    def pids(self, pattern: bytes = rb"pids ([\d ]+)\r\n") -> list[int]:
        """Wait for a line with pids; return them."""
        return [int(word) for word in self.wait_for(pattern)[1].split()]

    def modes(self) -> int:
        """Return the local modes of the terminal."""
        return int(termios.tcgetattr(self.master)[3])

    def resize(self, columns: int, rows: int) -> None:
        """Make the window larger or smaller; its program gets SIGWINCH."""
        termios.tcsetwinsize(self.master, (rows, columns))

    def foreground(self) -> int:
        """Return the foreground process group."""
        return os.tcgetpgrp(self.master)

    def status(self, timeout: float = DEADLINE) -> int:
        """Wait for the end, reading what is still written; return the exit status."""
        end = time.monotonic() + timeout
        while self.process.poll() is None:
            assert time.monotonic() < end, f"did not end: {self.everything[-2000:]!r}"
            if select.select([self.master], [], [], 0.05)[0]:
                try:
                    self._read()
                except OSError:
                    self.process.wait(DEADLINE)
        self.read_ready()
        return self.process.returncode

    def read_ready(self) -> None:
        """Read what was written by now."""
        while select.select([self.master], [], [], 0)[0]:
            try:
                self._read()
            except OSError:  # EIO, as above
                break

    def hang_up(self) -> None:
        """Close the terminal, as a closed window does."""
        os.close(self.master)
        self.master = -1

    def close(self) -> None:
        """End what is left: the leader, and by the hang-up its foreground group."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.master >= 0:
            self.hang_up()

    def _read(self) -> None:
        data = os.read(self.master, 4096)
        if not data:
            raise OSError
        self.seen += data
        self.everything += data


class Desk:
    """Starts programs on terminals; closes all of them after the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._terminals: list[Terminal] = []
        self._count = 0

    def start(self, *arguments: str, **options: Any) -> Terminal:
        """Start a program on a terminal."""
        self._terminals.append(Terminal(arguments, **{"cwd": self._folder, **options}))
        return self._terminals[-1]

    def python(self, program: str, **options: Any) -> Terminal:
        """Start a Python program with the public names of Penstock; it leads the session."""
        return self.start(*self.python_words(program), **options)

    def screen(self, program: str, columns: int = 80, rows: int = 24, **options: Any) -> TerminalScreen:
        """Start such a program on a terminal with a screen, whose cursor can be moved."""
        env = {"TERM": "xterm-256color", **options.pop("env", {})}
        terminal = self.python(program, env=env, size=(columns, rows), **options)
        return TerminalScreen(terminal, columns, rows)

    def python_words(self, program: str) -> list[str]:
        """Return the command line of such a program."""
        return [sys.executable, *PYTHON_OPTIONS, self.script(program)]

    def shell(self, **options: Any) -> Terminal:
        """Start an interactive bash with job control, and wait for its prompt (`PROMPT`)."""
        env = {"PS1": "ready$ ", "PYTHON": sys.executable, **options.pop("env", {})}
        terminal = self.start("bash", "--norc", "--noprofile", "--noediting", "-i", env=env, **options)
        terminal.wait_for(PROMPT)
        return terminal

    def script(self, program: str) -> str:
        """Write a Python program with the prelude; return its path."""
        self._count += 1
        path = self._folder / f"program_{self._count}.py"
        path.write_text(_PRELUDE + textwrap.dedent(program), encoding="utf-8")
        return str(path)

    def close(self) -> None:
        """Close every terminal."""
        for terminal in self._terminals:
            terminal.close()

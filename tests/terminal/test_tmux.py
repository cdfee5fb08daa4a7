"""The same in tmux: a terminal with a screen, on which a user's shell runs a program."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.support.terminals import is_stopped
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.terminals import Desk

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
    pytest.mark.skipif(shutil.which("less") is None, reason="less is not installed"),
]


class Tmux:
    """One window of 80 by 20 with a shell."""

    def __init__(self, folder: Path) -> None:
        self._server = ["tmux", "-f", "/dev/null", "-S", str(folder / "tmux")]
        shell = f"env PS1='ready> ' PYTHON={sys.executable} LESS= bash --norc --noprofile"
        self.call("new-session", "-d", "-s", "window", "-x", "80", "-y", "20", shell)
        self.wait_for("ready>")

    def call(self, *words: str) -> str:
        """Send a command to the server; return what it says."""
        return subprocess.run([*self._server, *words], check=True, stdout=subprocess.PIPE, text=True).stdout

    def screen(self) -> str:
        """Return what stands on the screen."""
        return self.call("capture-pane", "-p", "-t", "window")

    def type(self, *keys: str) -> None:
        """Press keys, by tmux's names for them."""
        self.call("send-keys", "-t", "window", *keys)

    def jobs(self) -> list[int]:
        """Return the processes that the shell has started."""
        shell = int(self.call("display-message", "-p", "-t", "window", "#{pane_pid}"))
        return [process.pid for process in psutil.Process(shell).children(recursive=True)]

    def wait_for(self, text: str) -> None:
        """Wait until a text stands on the screen."""
        try:
            until(lambda: text in self.screen())
        except AssertionError as error:
            raise AssertionError(f"{text!r} did not come: {self.screen()}") from error


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    """Start a tmux server, and end it with all that runs there."""
    tmux = Tmux(tmp_path)
    yield tmux
    tmux.call("kill-server")


def test_a_pager_at_the_end_of_a_pipeline(tmux: Tmux, desk: Desk) -> None:
    script = desk.script('(command("seq", "1000") | command("less")).run(); say("paged", "well")')
    tmux.type(f"clear; $PYTHON {script}", "Enter")
    tmux.wait_for("\n19\n")
    tmux.type("Space")
    tmux.wait_for("\n38\n")
    tmux.type("/^777", "Enter")
    tmux.wait_for("777\n778\n")
    tmux.type("q")
    tmux.wait_for("paged well\nready>")


def test_ctrl_z_in_a_pager_and_fg(tmux: Tmux, desk: Desk) -> None:
    """The pager gives the screen back, and draws it again."""
    script = desk.script('(command("seq", "1000") | command("less")).run(); say("paged", "well")')
    tmux.type(f"clear; $PYTHON {script}", "Enter")
    tmux.wait_for("\n19\n")
    tmux.type("C-z")
    # The shell waits for Python alone, so less may give the screen back after the shell has said "Stopped".
    until(lambda: all(map(is_stopped, tmux.jobs())))
    tmux.type("clear; echo in be''tween", "Enter")
    tmux.wait_for("in between")
    tmux.type("fg", "Enter")
    tmux.wait_for("\n19\n")
    tmux.type("q")
    tmux.wait_for("paged well\nready>")


def test_a_password_in_the_middle_of_the_command_line(tmux: Tmux) -> None:
    ask = "import getpass, sys; print(len(getpass.getpass()), len(sys.stdin.read()))"
    tmux.type(f"clear; $PYTHON -m penstock run \"seq 9 | $PYTHON -c '{ask}' | cat -A\"", "Enter")
    tmux.wait_for("Password:")
    tmux.type("secret", "Enter")
    tmux.wait_for("6 18$")
    assert "secret" not in tmux.screen()

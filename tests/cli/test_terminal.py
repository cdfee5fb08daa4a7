"""The command line on a terminal of its own: programs that talk to it, and Ctrl-C."""

from __future__ import annotations

import shutil
import sys
import termios
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import alive

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.terminals import Desk, Terminal

pytestmark = pytest.mark.slow


# The command line, with all the time in the world for what ends by a Ctrl-C in its own way.
_PATIENT = """
import sys
from penstock.cli import main, signals
signals._CLOSE_TIMEOUT_S = 1000
sys.exit(main.main())
"""


@pytest.fixture
def screen(folder: Path, desk: Desk) -> Any:
    """Give a function that starts the command line as the leader of a session on a new terminal."""

    def start(*arguments: str, patient: bool = False) -> Terminal:
        program = ("-c", _PATIENT) if patient else ("-m", "penstock")
        return desk.start(sys.executable, *program, *arguments, cwd=folder)

    return start


def test_a_program_reads_the_terminal(screen: Any) -> None:
    """It is not stopped for reading in the background, and Ctrl-D is the end of its input."""
    job = screen("run", "cat")
    job.type(b"hello\n")
    job.wait_for(rb"hello\r\nhello\r\n")
    job.type(b"\x04")
    assert job.status() == 0


def test_a_function_reads_the_terminal(screen: Any) -> None:
    """Python stages read it too, line by line, as they are typed."""
    job = screen("run", "map:tools:upper")
    job.type(b"hello\n")
    job.wait_for(rb"HELLO\r\n")
    job.type(b"\x04")
    assert job.status() == 0


@pytest.mark.parametrize(
    "line",
    ["cat", "map:tools:upper | cat", "cat | map:tools:upper", "cat - <(sleep 101)", "tee >(sleep 101) | cat"],
)
def test_ctrl_c_leaves_no_child(screen: Any, line: str) -> None:
    """The key reaches commands and penstock alike; the status says so, and nobody complains."""
    job = screen("run", f"sh -c 'echo pid $$ >&2; exec sleep 100' | {line}")
    pid = int(job.wait_for(rb"pid (\d+)\r\n")[1])
    job.type(b"\x03")
    assert job.status() == 130
    assert job.seen.replace(b"^C", b"").strip() == b""
    assert not alive(pid)


def test_ctrl_c_on_a_program_that_ignores_it(screen: Any) -> None:
    """It is cancelled after a moment, and its children with it, though they lead no group of their own."""
    job = screen("run", "sh -c 'trap \"\" INT; sleep 100 & echo pids $$ $!; wait'")
    pids = job.wait_for(rb"pids (\d+) (\d+)\r\n").groups()
    job.type(b"\x03")
    assert job.status() == 130
    assert not any(alive(int(pid)) for pid in pids)


def test_ctrl_c_lets_a_program_say_goodbye(screen: Any) -> None:
    """A program that ends by it in its own way, as ping does, is given the time for that."""
    job = screen(
        "run",
        "sh -c 'trap \"echo good; echo bye; exit 0\" INT; echo ready; while :; do sleep 0.05; done'",
        patient=True,
    )
    job.wait_for(rb"ready")
    job.type(b"\x03")
    job.wait_for(rb"good\r\nbye\r\n")
    assert job.status() == 130


def test_ctrl_c_while_the_rest_is_being_started(screen: Any) -> None:
    """The first command, which got the signal too, is given its time all the same."""
    first = "sh -c 'trap \"sleep 0.2; echo bye >&2; exit 0\" INT; kill -INT 0; while :; do sleep 0.05; done'"
    job = screen("run", " | ".join([first, *["cat"] * 15]), patient=True)
    job.wait_for(rb"bye\r\n")
    assert job.status() == 130


def test_ctrl_c_reaches_a_function(screen: Any) -> None:
    """A pipeline without any command is cancelled as well."""
    job = screen("run", "-v", "py:tools:f")
    job.type(b"x\n")
    job.wait_for(rb"<x>")
    job.type(b"\x03")
    assert job.status() == 130


def test_a_password_prompt(screen: Any) -> None:
    """A program switches the echo off and reads, and penstock does not get in its way."""
    program = "import getpass; print(len(getpass.getpass()))"
    job = screen("run", f"{sys.executable} -c '{program}' | map:tools:upper")
    job.wait_for(rb"Password: ")
    job.type(b"secret\n")
    job.wait_for(rb"6\r\n")
    assert job.status() == 0


def test_the_terminal_gets_its_modes_back(screen: Any) -> None:
    """Also where a program that had changed them was killed."""
    job = screen("run", "--timeout", "1", "sh -c 'stty -echo; echo ready; exec sleep 100'")
    before = job.modes()
    job.wait_for(rb"ready")
    assert not job.modes() & termios.ECHO
    assert job.status() == 124
    assert job.modes() == before


@pytest.mark.skipif(shutil.which("less") is None, reason="less is not installed")
def test_less(screen: Any) -> None:
    """A pager takes the terminal over, shrugs off Ctrl-C, and ends by its own key."""
    job = screen("run", "seq 1000 | less")
    job.wait_for(rb"\r\n20\r\n")
    job.wait_for(rb":")
    job.type(b"\x03")
    job.wait_for(rb":")
    job.type(b" ")
    job.wait_for(rb"\r\n40\r\n")
    job.type(b"q")
    assert job.status() == 0
    assert job.modes() & termios.ICANON


@pytest.mark.skipif(shutil.which("vi") is None, reason="no vi is installed")
def test_vi(screen: Any, folder: Path) -> None:
    """An editor edits."""
    job = screen("run", "vi -u NONE note")
    job.wait_for(rb"note")
    job.type(b"ihello\x1b:wq\r")
    assert job.status() == 0
    assert (folder / "note").read_text() == "hello\n"

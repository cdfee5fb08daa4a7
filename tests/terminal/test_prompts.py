"""Programs that use the caller's terminal, in any place of a pipeline: prompts, pagers, editors."""

from __future__ import annotations

import shutil
import termios
from typing import TYPE_CHECKING

import pytest
from tests.support.terminals import PROMPT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.terminals import Desk


def _needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


_ASK = 'sh", "-c", "printf \'name? \' >/dev/tty; read x </dev/tty; cat; echo got=$x'


@pytest.mark.parametrize(
    "pipeline",
    [
        f'command("{_ASK}")',
        f'command("echo", "in") | command("{_ASK}")',
        f'command("{_ASK}") | map_lines(bytes.strip) | command("cat")',
        f'command("echo", "in") | command("{_ASK}") | command("cat")',
        f'command("true") | Pipeline(command("cat") | command("{_ASK}"), timeout=60) | command("cat")',
    ],
)
def test_a_question_at_the_terminal_in_any_place(desk: Desk, pipeline: str) -> None:
    """The child was stopped by SIGTTIN, for ever."""
    terminal = desk.python(f"({pipeline}).run()")
    terminal.wait_for(rb"name\? ")
    terminal.type("me\n")
    terminal.wait_for(rb"got=me")
    assert terminal.status() == 0


def test_a_password_prompt(desk: Desk) -> None:
    terminal = desk.python(
        """
        ask = command(sys.executable, "-c", "import getpass; print(len(getpass.getpass()))")
        say("length", (command("yes") | ask | command("cat")).text())
        """
    )
    terminal.wait_for(rb"Password: ")
    assert not terminal.modes() & termios.ECHO
    terminal.type("secret\n")
    terminal.wait_for(rb"length 6\r\n")
    assert terminal.status() == 0
    assert terminal.modes() & termios.ECHO


@_needs("less")
def test_a_pager_pages(desk: Desk) -> None:
    """It was stopped by SIGTTOU when it set the modes of the terminal."""
    terminal = desk.python('(command("seq", "1000") | command("less")).run()')
    terminal.wait_for(rb"\r\n20\r\n")
    terminal.type(" ")
    terminal.wait_for(rb"\r\n40\r\n")
    terminal.type("q")
    assert terminal.status() == 0
    assert terminal.modes() & termios.ICANON


@_needs("less")
def test_a_pager_of_a_file(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("".join(f"line {number}\n" for number in range(100)))
    terminal = desk.python('command("less", "f").run()')
    terminal.wait_for(rb"line 20\r\n")
    terminal.type("q")
    assert terminal.status() == 0


@_needs("vim")
def test_an_editor_edits(desk: Desk, tmp_path: Path) -> None:
    """Its stdin must be the terminal."""
    terminal = desk.python('command("vim", "-u", "NONE", "note").run(stdin=INHERIT)')
    terminal.wait_for(rb"note")
    terminal.type("ihello\x1b:wq\r")
    assert terminal.status() == 0
    assert (tmp_path / "note").read_text() == "hello\n"


def test_tostop_hangs_nothing(desk: Desk) -> None:
    """A3: a command in the background would be stopped by SIGTTOU when it writes."""
    terminal = desk.python(
        'os.system("stty tostop"); command("echo", "hi").run(); command("echo", "ho").run(stderr=INHERIT)'
    )
    terminal.wait_for(rb"hi\r\nho\r\n")
    assert terminal.status() == 0


@_needs("pv")
def test_progress_is_shown(desk: Desk) -> None:
    """A4: pv shows nothing in the background."""
    terminal = desk.python(
        '(command("head", "-c", "100000", "/dev/zero") | command("pv", "-fb") | command("wc", "-c"))'
        ".run(stderr=INHERIT)"
    )
    terminal.wait_for(rb"KiB")
    assert terminal.status() == 0


def test_a_shell_sees_its_prompt_again(desk: Desk) -> None:
    """As a job of an interactive shell."""
    shell = desk.shell()
    script = desk.script(f'(command("echo", "in") | command("{_ASK}")).run()')
    shell.type(f"$PYTHON {script}\n")
    shell.wait_for(rb"name\? ")
    shell.type("me\n")
    shell.wait_for(rb"got=me")
    shell.wait_for(PROMPT)

"""Programs that use the caller's terminal, in any place of a pipeline: prompts, pagers, editors."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.terminals import PROMPT
from tests.support.waiting import until

if TYPE_CHECKING:
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


@_needs("ssh")
@pytest.mark.skipif(not Path("/usr/sbin/sshd").exists() or os.geteuid() != 0, reason="needs sshd, as root")
def test_ssh_asks_about_an_unknown_host(desk: Desk, tmp_path: Path) -> None:
    """In the middle of a pipeline; the server is at the other end of a pipe."""
    Path("/run/sshd").mkdir(exist_ok=True)
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    server = f"ProxyCommand=/usr/sbin/sshd -i -q -f /dev/null -h {key}"
    options = ["-F", "/dev/null", "-o", "UserKnownHostsFile=/dev/null", "-o", server]
    terminal = desk.python(
        f"""
        ssh = command("ssh", *{options!r}, "nobody@unknown", "cat")
        result = (command("echo", "in") | ssh | command("cat")).run(check=False)
        say("ended", result.returncodes)
        """
    )
    terminal.wait_for(rb"continue connecting \(yes/no")
    terminal.type("no\n")
    terminal.wait_for(rb"ended \(0, 255, 0\)|ended \(-13, 255, 0\)")
    assert terminal.status() == 0


@pytest.mark.slow
@_needs("sudo")
@_needs("runuser")
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes an ordinary user")
def test_sudo_asks_and_ctrl_c_ends_it(desk: Desk) -> None:
    """It reads the password from /dev/tty, without echo, which comes back."""
    terminal = desk.python(
        """
        sudo = command("runuser", "-u", "nobody", "--", "sudo", "-p", "word? ", "true")
        try:
            (command("yes") | sudo | command("cat")).run()
        except KeyboardInterrupt:
            say("interrupted")
        """
    )
    terminal.wait_for(rb"word\? ")
    until(lambda: not terminal.modes() & termios.ECHO)
    terminal.type(b"\x03")
    terminal.wait_for(rb"interrupted")
    assert terminal.modes() & termios.ECHO


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("IPython") is None, reason="IPython is not installed")
def test_ipython_keeps_its_prompt(desk: Desk, tmp_path: Path) -> None:
    """It manages the terminal itself. A question, a killed prompt, Ctrl-C, and a run in the background."""
    ask = desk.script(f'command("{_ASK}").run()')
    mute = desk.script(
        'command("sh", "-c", "stty -echo </dev/tty; exec sleep 99").run(timeout=0.3, check=False)'
    )
    wait = desk.script('say("wai", "ting"); command("sleep", "1000").run()')
    start = desk.script('run = command("sleep", "1000").start(); say("star", "ted")')
    terminal = desk.start(
        *(sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor"),
        env={"IPYTHONDIR": str(tmp_path), "HOME": str(tmp_path), "PROMPT_TOOLKIT_NO_CPR": "1"},
    )

    def prompt(number: int) -> None:
        terminal.wait_for(rb"In \[%d\]:" % number)

    prompt(1)
    terminal.type(f"%run {ask}\r")
    terminal.wait_for(rb"name\? ")
    terminal.type("me\n")
    terminal.wait_for(rb"got=me")
    prompt(2)
    terminal.type(f"%run {mute}\r")
    prompt(3)
    terminal.type(f"%run {wait}\r")
    terminal.wait_for(rb"wai ting")
    terminal.type(b"\x03")
    terminal.wait_for(rb"KeyboardInterrupt")
    prompt(4)
    terminal.type(f"%run {start}\r")
    terminal.wait_for(rb"star ted")
    prompt(5)
    terminal.type(b"\x03")  # a key of its line editor
    terminal.type("print('done', run.done()); run.cancel()\r")
    terminal.wait_for(rb"done False")
    terminal.type("exit\r")
    assert terminal.status() == 0

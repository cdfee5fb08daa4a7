"""A run gives the terminal the modes back that a killed command has changed; else it leaves them alone."""

from __future__ import annotations

import termios
from typing import TYPE_CHECKING

import pytest
from tests.support.terminals import PROMPT

if TYPE_CHECKING:
    from tests.support.terminals import Desk, Terminal

# A prompt without echo, which is up when it has said so.
_MUTE = """
mute = command("sh", "-c", "stty -echo </dev/tty; echo u'p' >/dev/tty; exec sleep 1000")
"""


def _echo(terminal: Terminal) -> bool:
    return bool(terminal.modes() & termios.ECHO)


WAYS = {
    "timeout": "mute.run(timeout=0.5, check=False)",
    "output": "(mute | command('cat')).start(stdout=CAPTURE, timeout=0.5).wait(check=False)",
    "killed": (
        "threading.Timer(0.5, lambda: os.kill(run.pids[0], 9)).start()\n"
        "run = mute.start(); run.wait(check=False)"
    ),
    "cancelled": "threading.Timer(0.5, cancel_all).start(); mute.run(check=False)",
    "with": (
        "import contextlib\n"
        "with contextlib.suppress(KeyError), mute.start() as run:\n"
        "    while not hasattr(run, 'x'):\n"
        "        time.sleep(0.5); raise KeyError"
    ),
    "beside a function": "(source([b'x']) | mute | map_lines(bytes.upper)).run(timeout=0.5, check=False)",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_killed_prompt_does_not_leave_the_terminal_mute(desk: Desk, way: str) -> None:
    terminal = desk.python(_MUTE + WAYS[way] + "\nsay('over'); sys.stdin.readline()")
    terminal.wait_for(rb"up\r\n")
    assert not _echo(terminal)
    terminal.wait_for(rb"over\r\n")
    assert _echo(terminal)
    terminal.type("\n")
    assert terminal.status() == 0


def test_ctrl_c_at_a_prompt_gives_the_modes_back(desk: Desk) -> None:
    """Before the KeyboardInterrupt is raised."""
    terminal = desk.python(
        _MUTE + "try: mute.run()\nexcept KeyboardInterrupt: say('over'); sys.stdin.readline()"
    )
    terminal.wait_for(rb"up\r\n")
    terminal.type(b"\x03")
    terminal.wait_for(rb"over\r\n")
    assert _echo(terminal)
    terminal.type("\n")
    assert terminal.status() == 0


def test_a_killed_shell_does_not_keep_the_foreground(desk: Desk) -> None:
    """A shell with job control moves the terminal to a group of its own, which dies with it."""
    terminal = desk.python(
        """
        shell = command("bash", "--norc", "--noprofile", "--noediting", "-i", env={"PS1": "inner: "})
        shell.run(stdin=INHERIT, stderr=INHERIT, timeout=1, grace=0.1, check=False)
        say("over", os.tcgetpgrp(0) == os.getpgrp())
        say("read", sys.stdin.readline())
        """
    )
    terminal.wait_for(rb"inner: ")
    assert terminal.foreground() != terminal.process.pid
    terminal.wait_for(rb"over True\r\n")
    terminal.type("line\n")
    terminal.wait_for(rb"read line")
    assert terminal.status() == 0


UNTOUCHED = {
    "by itself": "command('stty', '-F', '/dev/tty', '-echo').run()",
    "failed": "command('sh', '-c', 'stty -echo </dev/tty; exit 3').run(check=False)",
    "broken pipe": "(command('sh', '-c', 'stty -echo </dev/tty; exec yes') | command('true')).run()",
    "other thread": (
        "thread = threading.Thread(target=lambda: mute.run(timeout=0.5, check=False))\n"
        "thread.start(); thread.join()"
    ),
    "event loop": "import asyncio; asyncio.run(mute.arun(timeout=0.5, check=False))",
    "poll": (
        "run = mute.start(timeout=0.5)\n"
        "while not run.done():\n"
        "    try: run.wait(0.05, check=False)\n"
        "    except TimeoutError: pass"
    ),
    "other run": ("other = command('sleep', '1000').start()\nmute.run(timeout=0.5, check=False)"),
}


@pytest.mark.parametrize("way", UNTOUCHED)
def test_modes_that_may_be_somebodys_intention_are_left_alone(desk: Desk, way: str) -> None:
    """A command that ended by itself, a host that does something else meanwhile, another run."""
    terminal = desk.python(_MUTE + UNTOUCHED[way] + "\nsay('over'); sys.stdin.readline()")
    terminal.wait_for(rb"over\r\n")
    assert not _echo(terminal)
    terminal.type("\n")
    assert terminal.status() == 0


def test_modes_that_the_host_has_set_itself_stay(desk: Desk) -> None:
    """An editor that runs a command which is killed finds its own modes again."""
    terminal = desk.python(
        """
        import tty
        before = tty.tcgetattr(0)
        tty.setcbreak(0)
        command("sh", "-c", "stty sane </dev/tty; exec sleep 1000").run(timeout=0.5, check=False)
        say("over")
        os.read(0, 1)
        tty.tcsetattr(0, tty.TCSANOW, before)
        """
    )
    terminal.wait_for(rb"over")
    assert not terminal.modes() & (termios.ICANON | termios.ECHO)
    terminal.type("x")
    assert terminal.status() == 0


def test_a_run_in_the_background_leaves_the_terminal_to_others(desk: Desk) -> None:
    """It would be stopped, and the modes are those of the program in front."""
    shell = desk.shell()
    script = desk.script(
        """
        command("sh", "-c", "exec sleep 1000").run(timeout=0.5, check=False)
        say("over")
        """
    )
    shell.type(f"$PYTHON {script} & stty -echo; wait; echo do'ne'\n")
    shell.wait_for(rb"over\r\n")
    shell.wait_for(rb"done\r\n")
    assert not _echo(shell)
    shell.wait_for(PROMPT)


def test_without_descriptors_the_modes_stay_and_the_run_ends(desk: Desk) -> None:
    """The last descriptor was taken while the command ran."""
    terminal = desk.python(
        """
        import resource
        command("sleep", "1000").run(timeout=0.01, check=False)
        mute = command("sh", "-c", "stty -echo </dev/tty; echo u'p' >/dev/tty; exec sleep 1000")
        run = mute.start(timeout=1)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 4096))
        result = run.wait(check=False)
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 4096))
        say("over", type(result.error).__name__)
        """
    )
    terminal.wait_for(rb"over PipelineTimeout")
    assert terminal.status() == 0

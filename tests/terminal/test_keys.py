"""Keys and other signals of the terminal: Ctrl-C, Ctrl-Z and fg, Ctrl-Backslash, a hang-up, and jobs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests.support.processes import alive, gone
from tests.support.terminals import PROMPT, is_stopped, until_stopped
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.terminals import Desk, Terminal

# Three commands and their Python; each says its pid.
_RUN = """
say("pids", os.getpid())
cry = 'echo "pids $$" >/dev/tty; exec '
pipeline = command("sh", "-c", cry + "sleep 1000") | command("sh", "-c", cry + "cat") | map_lines(bytes.upper)
"""


def _started(terminal: Terminal) -> list[int]:
    """Wait for the pids of the Python and its two commands."""
    return [pid for _ in range(3) for pid in terminal.pids()]


WAYS = {
    "run": "pipeline.run()",
    "start": "pipeline.start().wait()",
    "with": "with pipeline.start() as run:\n    time.sleep(1000)",
    "iter": "list(pipeline.iter_lines())",
    "async": "import asyncio; asyncio.run(pipeline.arun())",
}


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_is_raised_and_leaves_nothing(desk: Desk, way: str) -> None:
    """The commands get the key too, and whatever they make of it, the host gets KeyboardInterrupt."""
    program = f"""
try:
{"".join(f"    {line}{chr(10)}" for line in WAYS[way].splitlines())}
except KeyboardInterrupt:
    say("interrupted", flush())
"""
    terminal = desk.python(_RUN + "flush = lambda: ''\n" + program)
    pids = _started(terminal)
    terminal.type(b"\x03")
    terminal.wait_for(rb"interrupted")
    assert terminal.status() == 0
    assert not any(map(alive, pids))


@pytest.mark.parametrize("way", ["run", "start", "async"])
def test_ctrl_z_stops_the_pipeline_and_fg_continues_it(desk: Desk, way: str) -> None:
    """A5: Python stopped, and the commands went on at full speed."""
    shell = desk.shell()
    shell.type(f"$PYTHON {desk.script(_RUN + WAYS[way])}\n")
    pids = _started(shell)
    shell.type(b"\x1a")
    shell.wait_for(PROMPT)
    until_stopped(pids)
    shell.type("fg\n")
    until(lambda: not any(map(is_stopped, pids)))
    shell.type(b"\x03")
    shell.wait_for(PROMPT)
    assert all(map(gone, pids))


def test_a_question_goes_on_after_ctrl_z(desk: Desk) -> None:
    """The answer is typed after `fg`."""
    script = desk.script(
        """
        ask = command("sh", "-c", "read x; printf 'name? ' >/dev/tty; read x </dev/tty; echo got=$x")
        say("pids", os.getpid())
        r, w = os.pipe()
        run = (ask | command("cat")).start(stdin=r)
        say("pids", *run.pids)
        os.write(w, b"\\n")  # not before both are started: see docs/gotchas.md about Ctrl-Z meanwhile
        run.wait()
        """
    )
    shell = desk.shell()
    shell.type(f"$PYTHON {script}\n")
    pids = [*shell.pids(), *shell.pids()]
    shell.wait_for(rb"name\? ")
    shell.type(b"\x1a")
    shell.wait_for(PROMPT)
    until_stopped(pids)  # one that is not yet may take the first character
    shell.type("fg\n")
    shell.wait_for(rb"PYTHON .*\r\n")  # bash says which job it is
    shell.type("me\n")
    shell.wait_for(rb"got=me")
    shell.wait_for(PROMPT)


@pytest.mark.parametrize("key", [b"\x1c", None], ids=["quit", "hang-up"])
def test_ctrl_backslash_and_a_closed_terminal_end_all(desk: Desk, key: bytes | None) -> None:
    """A6: Python died, and the commands lived on."""
    terminal = desk.python(
        "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))" + _RUN + WAYS["run"]
    )
    pids = _started(terminal)
    if key is None:
        terminal.hang_up()
    else:
        terminal.type(key)
    assert all(map(gone, pids))


def test_a_closed_terminal_ends_the_job_of_a_shell(desk: Desk) -> None:
    """The shell passes the hang-up on to its jobs, also to those in the background."""
    shell = desk.shell()
    shell.type(f"$PYTHON {desk.script(_RUN + WAYS['run'])} &\n")
    pids = _started(shell)
    shell.hang_up()
    assert all(map(gone, pids))


@pytest.mark.parametrize(
    "way", ["wait", "Pipeline(wait, limits=Limits(open_files=100))", "function(run, isolate='process')"]
)
@pytest.mark.parametrize("spawner", ["glibc", "subprocess"])
def test_a_host_under_nohup_keeps_its_commands(desk: Desk, tmp_path: Path, way: str, spawner: str) -> None:
    """A host that ignores the hang-up has commands that ignore it too."""
    os.mkfifo(tmp_path / "gate")
    script = desk.script(
        f"""
        from penstock.system import features
        features.GLIBC_SPAWN = {spawner == "glibc"}

        wait = command("sh", "-c", "echo pids $$ >/dev/tty; read x <gate; echo $x >result")

        def run(ctx, stdin, stdout):
            wait.run()

        if __name__ == "__main__":
            {way}.run()
        """
    )
    shell = desk.shell()
    shell.type(f"nohup $PYTHON {script} &\n")
    shell.pids()
    shell.hang_up()
    shell.process.wait()  # by now it has passed the signal on
    with (tmp_path / "gate").open("r+b", 0) as gate:
        gate.write(b"on\n")
        until((tmp_path / "result").exists)


def test_a_job_in_the_background_runs_and_asks_when_it_is_in_front(desk: Desk) -> None:
    """As any job of a shell: it stops when it asks, the shell says so, and `fg` lets it go on."""
    script = desk.script(
        """
        say("sum", (command("seq", "3") | command("wc", "-l")).text())
        command("sh", "-c", "read x </dev/tty; echo got=$x").run()
        """
    )
    shell = desk.shell()
    shell.type(f"$PYTHON {script} &\n")
    shell.wait_for(rb"sum 3")
    shell.type("wait %1; jobs\n")
    shell.wait_for(rb"Stopped")
    shell.type("fg\n")
    shell.type("me\n")
    shell.wait_for(rb"got=me")
    shell.wait_for(PROMPT)


def test_a_forced_group_is_left_alone_by_the_keys(desk: Desk) -> None:
    """`process_group=True`: Ctrl-C reaches Python alone, which ends the command in its own way."""
    terminal = desk.python(
        """
        guarded = command("sh", "-c", "trap 'echo INT' INT; trap 'echo TERM; exit' TERM; "
                          "echo up; while :; do sleep 0.05; done", process_group=True)
        try:
            with guarded.start():
                say("started")  # an interrupt of the start gives no grace
        except KeyboardInterrupt:
            say("interrupted")
        """
    )
    terminal.wait_for(rb"up\r\nstarted|started\r\nup")
    terminal.type(b"\x03")
    terminal.wait_for(rb"TERM\r\ninterrupted")
    assert b"INT\r" not in terminal.everything
    assert terminal.status() == 0


def test_two_threads_one_of_which_asks(desk: Desk) -> None:
    """The runs share the terminal as programs of one shell job do."""
    terminal = desk.python(
        """
        from concurrent.futures import ThreadPoolExecutor
        ask = command("sh", "-c", "printf 'name? ' >/dev/tty; read x </dev/tty; echo got=$x")
        work = command("sh", "-c", "read x; echo worked=$x")
        r, w = os.pipe()
        with ThreadPoolExecutor(2) as pool:
            working = pool.submit(work.text, stdin=r)
            asking = pool.submit(ask.text)
            answer = asking.result()
            os.write(w, b"on\\n")
            say(answer.strip(), working.result().strip())
        """
    )
    terminal.wait_for(rb"name\? ")
    terminal.type("me\n")
    terminal.wait_for(rb"got=me worked=on")
    assert terminal.status() == 0

"""Isolated stages in whole programs: functions of `__main__`, the end of the interpreter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow


SCRIPT = """
import os, sys
from penstock import *

class Odd(Exception):
    pass

def shout(line):
    return line.upper() + b"!"

def fail(ctx, stdin, stdout):
    raise Odd("from main")

def block(ctx, stdin, stdout):
    print(os.getpid(), flush=True)
    while True:
        pass
"""
GUARD = '\nif __name__ == "__main__":\n    '


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script, from another folder than its own."""

    def run(
        text: str, *arguments: str, folder: str = "scripts", stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        path = tmp_path / folder / "program.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        command = [sys.executable, *(arguments or (str(path),))]
        source = str(Path(__file__).parents[2] / "src")
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": f"{source}:{path.parent}"},
        )  # fmt: skip

    return run


@pytest.mark.parametrize("arguments", [(), ("-m", "program")])
def test_functions_of_main_work(
    program: Callable[..., subprocess.CompletedProcess[str]], arguments: tuple[str, ...]
) -> None:
    """As with multiprocessing's spawn method; exceptions of classes of `__main__` are the program's own."""
    lines = (
        'print((echo("hi") | map_lines(shout, isolate="process")).text(), end="")',
        "try:",
        '    function(fail, isolate="process").run()',
        "except PipelineError as error:",
        "    print(type(error.cause) is Odd, error.cause)",
    )
    done = program(SCRIPT + GUARD + "\n    ".join(lines), *arguments)
    assert (done.stdout, done.stderr) == ("HI!\nTrue from main\n", "")


def test_a_script_without_its_guard_is_told_so(
    program: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Its import in the worker would start further workers, without end."""
    done = program(SCRIPT + '\nprint((echo("hi") | map_lines(shout, isolate="process")).text())\n')
    assert done.returncode == 1
    assert "put the code that runs pipelines under `if __name__ == '__main__':`" in done.stderr
    assert "could not be loaded in its worker process" in done.stderr


def test_a_function_of_a_session_is_refused(
    program: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """No other process could import it."""
    done = program(SCRIPT, "-c", SCRIPT + '\nmap_lines(shout, isolate="process")')
    assert "TypeError: stage 'shout' cannot be sent to another process" in done.stderr
    assert "it is defined in an interactive session" in done.stderr


@pytest.mark.parametrize("how", ["idle", "busy", "killed"])
def test_the_end_of_the_host_is_the_end_of_its_workers(
    program: Callable[..., subprocess.CompletedProcess[str]], how: str
) -> None:
    """Promptly, whether they are idle or busy, and also where the host has no time to say so."""
    idle = 'function(tell, isolate="process").run()'
    lines = {
        "idle": (idle,),
        "busy": ('run = function(block, isolate="process").start(stdout=DEVNULL)', "sys.stdin.readline()"),
        "killed": (idle, "os.kill(os.getpid(), 9)"),
    }[how]
    text = SCRIPT + "\ndef tell(ctx, stdin, stdout):\n    stdout.write(b'%d\\n' % os.getpid())\n"
    done = program(text + GUARD + "\n    ".join(lines), stdin="\n" if how != "busy" else None)
    assert done.stderr == ""
    assert done.returncode == (-signal.SIGKILL if how == "killed" else 0)
    for pid in map(int, done.stdout.split()):
        try:
            psutil.Process(pid).wait(5)
        except psutil.NoSuchProcess:
            continue

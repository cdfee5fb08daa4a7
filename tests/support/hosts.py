"""Programs that host runs: each is a Python interpreter of its own, started by a test."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

from tests.support.waiting import DEADLINE

__all__ = ["PYTHON_OPTIONS", "Ended", "Host", "others_may_read"]

PROGRAM_DEADLINE = 3 * DEADLINE
"""Seconds for a whole program: most of them start many runs."""

# From Python 3.12 on the interpreter warns of each fork of a process with threads; some programs fork so.
PYTHON_OPTIONS = ["-W", "ignore:This process:DeprecationWarning"]
PRELUDE = """\
import io, os, signal, sys, threading, time
from penstock import *

def copy(ctx, stdin, stdout):
    for chunk in stdin.chunks():
        stdout.write(chunk)

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

"""


class Ended(NamedTuple):
    """How a program ended."""

    returncode: int
    out: str
    err: str
    files: list[str]
    """The names of the files that it left in its folder for temporary files."""
    result: str
    """The text that it wrote to the file named by `$RESULT`."""


class Host:
    """Starts host programs whose files lie in one folder.

    `run` and `output` put the prelude before a program; `talk` and `start` run the program as it is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[str]] = []
        self._count = 0

    def run(
        self,
        program: str,
        *,
        shell: str = "",
        prelude: str = PRELUDE,
        timeout: float = PROGRAM_DEADLINE,
    ) -> Ended:
        """Run a program to its end; a hang fails the test after `timeout` seconds.

        `shell` is a line for the shell that becomes the program, such as a limit; it may `exec "$@"` itself.
        """
        script = self._script(prelude + textwrap.dedent(program))
        folder = script.with_suffix("")
        temporary, result = folder / "temporary", folder / "result"
        temporary.mkdir(parents=True)
        result.touch()
        # To files, not to pipes: a child that survives its host would keep a pipe open.
        with (folder / "out").open("w+b") as out, (folder / "err").open("w+b") as err:
            ended = subprocess.run(
                ["/bin/sh", "-c", f'{shell}\nexec "$@"', "sh", sys.executable, *PYTHON_OPTIONS, str(script)],
                env={**os.environ, "TMPDIR": str(temporary), "RESULT": str(result)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=timeout,
                check=False,
            )
            out.seek(0)
            err.seek(0)
            files = [path.name for path in temporary.rglob("*")]
            said = out.read().decode(), err.read().decode()
            return Ended(ended.returncode, *said, files, result.read_text(encoding="utf-8"))

    def output(self, program: str, *, timeout: float = PROGRAM_DEADLINE) -> str:
        """Run a program that must succeed and be silent on stderr; return what it wrote to stdout."""
        ended = self.run(program, timeout=timeout)
        said = f"it ended with {ended.returncode} and said {ended.err!r}"
        assert (ended.returncode, ended.err) == (0, ""), said
        return ended.out

    def talk(self, program: str, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a program that must succeed, over pipes, with the public names imported."""
        return subprocess.run(
            [sys.executable, "-c", "import sys\nfrom penstock import *\n" + program, *args],
            input=stdin,
            capture_output=True,
            check=True,
            timeout=PROGRAM_DEADLINE,
        )

    def start(self, program: str) -> subprocess.Popen[str]:
        """Start a program in which warnings are errors; its stdout can be read line by line."""
        started = subprocess.Popen(
            [sys.executable, "-W", "error", *PYTHON_OPTIONS, str(self._script(textwrap.dedent(program)))],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._started.append(started)
        return started

    def close(self) -> None:
        """Kill what `start` has started and still runs; close its stdout."""
        for started in self._started:
            if started.poll() is None:
                started.kill()
            started.wait()
            if started.stdout is not None:
                started.stdout.close()

    def _script(self, text: str) -> Path:
        self._count += 1
        script = self._folder / f"host_{self._count}.py"
        script.write_text(text, encoding="utf-8")
        return script


def others_may_read(place: str) -> bool:
    """Whether every user may reach a file: then a program that becomes another one can load modules there."""
    path = Path(place).resolve()
    return bool(path.stat().st_mode & 0o4) and all(folder.stat().st_mode & 0o1 for folder in path.parents)

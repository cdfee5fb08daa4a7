"""The peers that have to be found or built first: go-pipe's own program, and libraries from the bench extra.

Each may be missing; then the works go on without it, and the notice says what is not in the table.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from benchmarks.measure import WrongResult, expect

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NO_V2", "Drainer", "GoPipe", "build_go", "library"]

HERE = Path(__file__).parent
RESULTS = HERE / "results"

NO_V2 = (
    "go-pipe v2 is not compared: it could not be fetched as a Go module, so go-pipe stands for v1.0.2 alone"
)


def library(name: str) -> Any:
    """Return a library of the bench extra, or None if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def build_go() -> str:
    """Build the Go program; return the reason if that failed, or an empty text."""
    go = shutil.which("go")
    if go is None:
        return "there is no Go on PATH"
    RESULTS.mkdir(exist_ok=True)
    built = subprocess.run(
        [go, "build", "-buildvcs=false", "-o", str(RESULTS / "gopipe"), "."],
        cwd=HERE / "gopipe",
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode == 0:
        return ""
    return "its Go program did not build: " + (built.stderr.strip().splitlines() or ["no message"])[-1]


class GoPipe:
    """go-pipe, in a process that answers requests."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [str(RESULTS / "gopipe")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process as process:
            if process.stdin is not None:
                process.stdin.close()

    def ask(self, kind: str, count: int, size: int = 0, where: str = "-") -> tuple[float, int]:
        """Return the seconds per item, and the bytes that the last one delivered."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise WrongResult("go-pipe's program has no pipes")
        stdin.write(f"{kind} {count} {size} {where}\n")
        stdin.flush()
        words = stdout.readline().split()
        if len(words) != 2:
            raise WrongResult(f"go-pipe's program failed at {kind!r}")
        return float(words[0]), int(words[1])

    def round(
        self, kind: str, count: int, size: int = 0, where: str = "-", *, wanted: int
    ) -> Callable[[], float]:
        """Return a contender that raises WrongResult if an item does not deliver `wanted` bytes."""

        def timed() -> float:
            seconds, delivered = self.ask(kind, count, size, where)
            expect(delivered, wanted)
            return seconds

        return timed

    def peak(self) -> int:
        """Return its peak resident size in bytes, or 0 without /proc."""
        return status(self._process.pid, "VmHWM")


class Drainer:
    """A process that reads what comes over TCP on loopback, and answers how much that was."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.drain"],
            cwd=HERE.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stdout = self._process.stdout
        self.port = int(stdout.readline()) if stdout is not None else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process as process:
            if process.stdin is not None:
                process.stdin.close()


def status(pid: int | str, key: str) -> int:
    """Return a size from /proc/PID/status in bytes, or a count; 0 if it is missing."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == key:
            words = value.split()
            return int(words[0]) * (1024 if words[-1] == "kB" else 1)
    return 0

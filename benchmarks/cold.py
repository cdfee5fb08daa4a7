"""The cold start: what the first run of a process costs over an interpreter that does nothing.

Fresh interpreters take turns, and the best time of each counts, because a busy machine only adds. Bytecode is
compiled into a separate folder in a first round that is dropped.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.measure import Figure, Limit, Work, WrongResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.context import Context

__all__ = ["works"]

CODE = {
    "bare": "",
    "subprocess": "import subprocess; subprocess.run(['true'], check=True)",
    "run": "from penstock import command; command('true').run()",
    "asyncio": """
import asyncio
async def main():
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0
asyncio.run(main())
""",
    "anyio": """
import asyncio, anyio.lowlevel
async def main():
    anyio.lowlevel.current_token(), anyio.Event()
asyncio.run(main())
""",
    "arun": "import asyncio; from penstock import command; asyncio.run(command('true').arun())",
}


def works(context: Context) -> Iterator[Work]:
    """One work, with the three ways to a first run."""
    rounds = 3 if context.quick else 10
    title = "the first `true` of a process, over the bare interpreter"
    yield Work("cold", title, probe=lambda: _figures(rounds, context.scratch / "bytecode"))


def _figures(rounds: int, bytecode: os.PathLike[str]) -> list[Figure]:
    argvs = {name: ["-c", code] for name, code in CODE.items()}
    argvs["command line"] = ["-m", "penstock", "run", "true"]
    environ = {**os.environ, "PYTHONPYCACHEPREFIX": os.fspath(bytecode)}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    taken: dict[str, list[float]] = {name: [] for name in argvs}
    for turn in range(rounds + 1):
        for name, argv in argvs.items():
            seconds = _seconds(argv, environ)
            if turn > 0:
                taken[name].append(seconds)
    best = {name: (min(values) - min(taken["bare"])) * 1000 for name, values in taken.items()}

    def ratio(ours: str, theirs: str, limit: float) -> Figure:
        note = f"{best[ours]:.1f} ms over {best[theirs]:.1f} ms"
        return Figure(f"{ours}, against {theirs}", best[ours] / best[theirs], "x", Limit(limit), note)

    return [
        ratio("run", "subprocess", 2),
        ratio("arun", "asyncio", 1.3),
        Figure("command line", best["command line"], "ms", Limit(60)),
        Figure("asyncio, with one Event of anyio", best["anyio"], "ms"),
    ]


def _seconds(argv: list[str], environ: dict[str, str]) -> float:
    began = time.perf_counter()
    pid = os.posix_spawn(sys.executable, [sys.executable, *argv], environ)
    _, status = os.waitpid(pid, 0)
    if status:
        raise WrongResult(f"{argv} ended with status {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - began

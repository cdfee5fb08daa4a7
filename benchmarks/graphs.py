"""Graphs: a copy into a branch, into ten files, and a name of a pipe in the place of a pipe.

The peers are bash with its process substitution and the `tee` of coreutils. A name of a pipe is compared with
a line of the same two commands, which has one pipe less.
"""

from __future__ import annotations

import atexit
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import OURS, Bar, Work, repeat
from penstock import DEVNULL, command, reading, tee

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.context import Context

__all__ = ["works"]

FILES = 10


def works(context: Context) -> Iterator[Work]:
    """The copies, then the name of a pipe."""
    yield _branch(context)
    yield _files(context)
    yield _reading(context)


def _branch(context: Context) -> Work:
    source = ["head", "-c", str(context.size), "/dev/zero"]
    graph = command(*source) | tee(command("cat").to(DEVNULL)) | command("cat")
    line = f"{shlex.join(source)} | tee >(cat >/dev/null) | cat >/dev/null"

    def bash() -> None:
        subprocess.run(["bash", "-c", line], check=True)

    contenders = {OURS: repeat(1, lambda: graph.run(stdout=DEVNULL)), "bash": repeat(1, bash)}
    title = f"{context.size >> 20} MiB: `head | tee(cat) | cat`"
    return Work("graph-tee", title, contenders, (Bar("bash", "throughput", 1.0),), volume=context.size)


def _files(context: Context) -> Work:
    size = context.size // 8
    # In memory, because a disk that writes back takes longer than either copy.
    memory = Path("/dev/shm")  # noqa: S108 - a file system, and the folder in it is private
    folder = Path(tempfile.mkdtemp(prefix="penstock-bench-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    paths = [str(folder / str(number)) for number in range(FILES)]
    source = ["head", "-c", str(size), "/dev/zero"]
    graph = command(*source) | tee(*paths)
    line = f"{shlex.join(source)} | tee {shlex.join(paths)} >/dev/null"

    def coreutils() -> None:
        subprocess.run(["bash", "-c", line], check=True)

    contenders = {OURS: repeat(1, lambda: graph.run(stdout=DEVNULL)), "coreutils": repeat(1, coreutils)}
    title = f"{size >> 20} MiB into {FILES} files by `head | tee`"
    return Work("graph-files", title, contenders, (Bar("coreutils", "throughput", 0.95),), volume=size)


def _reading(context: Context) -> Work:
    count = 20 if context.quick else 100
    graph = command("cat", reading(command("true")))
    line = command("true") | command("cat")
    contenders = {
        OURS: repeat(count, lambda: graph.run(stdout=DEVNULL)),
        "a line": repeat(count, lambda: line.run(stdout=DEVNULL)),
    }
    return Work("graph-reading", "`cat` of `reading(true)`", contenders, ())

"""A mark by which the processes of one command are known, if its process group is not its own.

A command that shares the terminal of the host stays in the host's group. A descendant whose parent has died
is then a child of init and in a group with strangers. So such a command gets a variable in its environment,
which everything that it starts inherits, and which /proc shows. A run inside a run adds its mark to that of
the outer one. A program that clears its environment, or writes over it, loses the mark.

In the middle of an exec a process has neither environment nor arguments, for some microseconds. Nothing tells
when that is over, so it is read again, for `_EXEC_S` at most.

Out of scope: processes of other users, whose environment we may not read.
"""

from __future__ import annotations

import itertools
import os
import time

from penstock.system import procfs
from penstock.system.fork_guard import reset_in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["VARIABLE", "marked", "marked_children", "marks_of", "with_mark"]

VARIABLE = "PENSTOCK_TREE"
"""The variable: marks separated by colons, the outermost first."""

marked_children: set[int] = set()
"""Our children that have a mark and were not reaped yet. So nobody reads a mark that is known."""

_PREFIX = f"\0{VARIABLE}=".encode()
_EXEC_S = 0.02
"""Seconds that an exec may take."""
_host = ""
_serial = itertools.count()


def marked(environ: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Return the environment with a mark that no other command on this machine has, and the mark."""
    global _host  # noqa: PLW0603 - one for the process is the point
    if not _host:
        _host = os.urandom(8).hex()
    mark = f"{_host}.{next(_serial)}"
    return with_mark(environ, mark), mark


def with_mark(environ: Mapping[str, str], mark: str) -> dict[str, str]:
    """Return the environment with a further mark."""
    outer = environ.get(VARIABLE)
    return {**environ, VARIABLE: f"{outer}:{mark}" if outer else mark}


def marks_of(pid: int) -> list[str]:
    """Return the marks of a process; empty if its environment cannot be read. May block for `_EXEC_S`."""
    environment = procfs.environ(pid)
    if not environment:
        deadline = time.monotonic() + _EXEC_S
        while procfs.is_in_exec(pid) and time.monotonic() < deadline:
            time.sleep(_EXEC_S / 100)
        environment = procfs.environ(pid)
    _, found, rest = (b"\0" + environment).partition(_PREFIX)
    return rest.partition(b"\0")[0].decode("ascii", "replace").split(":") if found else []


def _after_fork_in_child() -> None:
    global _host  # noqa: PLW0603
    _host = ""
    marked_children.clear()


reset_in_child(_after_fork_in_child, "state")

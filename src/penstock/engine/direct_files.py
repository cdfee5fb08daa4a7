"""Which files of branches a program does not get itself, although nothing but it writes to them.

`writing("f")` gives the program the file as `/dev/fd/N`, without a pipe and a relay. The program opens that
name, as it would open a pipe's: for a regular file this makes a new open file description (open(2)), which
begins at offset 0 and has the flags of the program. So these keep the pipe, and the relay behind it:

* a descriptor or a file object: its position, its O_APPEND and its content are the caller's, who goes on at
  that position. The program would begin at 0, and mostly cut the file (O_TRUNC);
* `appending(path)`: the same O_TRUNC would empty the file;
* a FIFO, a socket, a terminal, most devices: a second open waits, is refused or has effects of its own. A
  file of /proc may mean its writer;
* a file that another output of the run writes to as well: two positions would overwrite each other;
* a file that the program might not be allowed to open (`system.reopening`);
* a name that is to be a FIFO (`via="fifo"`), and each edge of a run with `keep`.

The last one and those that can be told by their type are the builder's to see (`Branch.is_plain_file`). The
others depend on the options of a run and on what is there, so they are looked at for each plan. Looking opens
nothing.
"""

from __future__ import annotations

import contextlib
import os
import stat

from penstock.core.constants import DEVNULL
from penstock.core.file_targets import FileTarget
from penstock.engine.run_outputs import given_descriptor, status_of
from penstock.system.reopening import can_be_reopened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from penstock.stages.branch import Branch

__all__ = ["branches_to_relay"]


def branches_to_relay(direct: Sequence[Branch], outputs: Sequence[tuple[str, Any]]) -> frozenset[int]:
    """Return the ids of those branches whose files a program may not have.

    `outputs` are the names and values of all outputs of the run, those branches among them, or nothing if
    there is only one.
    """
    uses: dict[object, int] = {}
    for option, value in outputs:
        for key in _identities(option, value):
            uses[key] = uses.get(key, 0) + 1
    return frozenset(id(branch) for branch in direct if _needs_relay(branch.options["stdout"], uses))


def _needs_relay(target: Any, uses: dict[object, int]) -> bool:
    if target is DEVNULL:
        return False
    is_shared = any(uses.get(key, 0) > 1 for key in _identities("", target))
    return is_shared or not can_be_reopened(_path_of(target))


def _identities(option: str, value: Any) -> Iterator[object]:
    """Yield what an output has in common with others that are the same regular file.

    A path without a file has its name only; a descriptor has a file only.
    """
    path = _path_of(value)
    if isinstance(path, str | os.PathLike):
        status = status_of(path)
        if status is None:
            with contextlib.suppress(OSError):  # of a working directory that is gone; the start will say so
                yield os.path.realpath(os.fsdecode(path))
    else:
        number = given_descriptor(option, value)
        status = None if number is None else status_of(number)
    if status is not None and stat.S_ISREG(status.st_mode):
        yield status.st_dev, status.st_ino


def _path_of(value: Any) -> Any:
    return value.path if isinstance(value, FileTarget) else value

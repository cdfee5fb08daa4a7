"""The methods that may carry a copy between two descriptors, best first.

`choose_methods` is a pure table. `methods_for` asks it about two descriptors. `best_method` and
`best_method_to_path` ask about ends that a plan only looks at.

A regular file that others write to as well is not spliced to. `splice` and `copy_file_range` read the
position of the description first, and set it after the write, without the lock that write(2) takes. So a
child that writes meanwhile overwrites what was spliced, or is overwritten.

A pipe is not spliced to a socket, although the kernel can do that: the pooled loop, which asks a pipe of
256 KiB for all that it may hold at once, is faster. Medians of two series of 5 and 7 interleaved rounds,
`head -c 512M` to a non-blocking TCP socket on loopback, against a loop that reads and sends 64 KiB (1.16 and
1.23 GiB/s; two cores):

    pipe of      64 KiB   128 KiB   256 KiB   512 KiB   1 MiB
    spliced      x 1.06    x 1.23    x 1.19    x 1.28   x 1.19
    pooled       x 0.95    x 1.26    x 1.46    x 1.42   x 1.31

The machine was quiet. Under the load of other work the loop ran at 2.7 and 1.7 GiB/s in two more series. A
pooled pipe of 64 KiB then had x 0.94 and x 1.00 of that, one of 256 KiB (1.8 and 1.6 GiB/s) x 0.65 and x
0.85. In a later series on a quiet machine splicing had x 0.82, 0.88 and 0.85 (64, 256, 1024 KiB), and a
pooled pipe of 256 KiB x 1.16; a socket passed to `head` itself, without a copy, had x 1.2. So the gain of the
larger pipe does not hold everywhere. Why the loop's own speed varies is not known.

In the other direction, from a TCP socket into a pipe, splice has three times the throughput of the loop.

Out of scope: the copy itself (`transfer`).
"""

from __future__ import annotations

import fcntl
import os
import stat

from penstock.system import splice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Final

__all__ = [
    "FILE",
    "OTHER",
    "PIPE",
    "POOLED",
    "SOCKET",
    "best_method",
    "best_method_to_path",
    "choose_methods",
    "kind_of",
    "methods_for",
]

POOLED: Final = "pooled"
FILE, PIPE, SOCKET, OTHER = "file", "pipe", "socket", "other"


def choose_methods(
    source: str, sink: str, *, append: bool, movers: Collection[str], shared: bool = False
) -> list[str]:
    """Return the methods for a pair of "file", "pipe", "socket" and "other" (a device), best first.

    `append`: the sink is O_APPEND. `shared`: somebody else may have the open file description of the sink.
    `movers` are those that the platform has. "pooled" is always the last.

    >>> choose_methods("file", "socket", append=False, movers={"splice", "sendfile"})
    ['sendfile', 'pooled']
    """
    found: list[str] = []
    # With O_APPEND the sink may only be a pipe; anything else is EINVAL or EBADF (splice(2), sendfile(2),
    # copy_file_range(2)).
    if sink == PIPE:
        # From a file `splice` is better than `sendfile`, whose waiting goes by the pipe's flags.
        found = ["splice", "sendfile"] if source == FILE else ["splice"]
    elif not append and not (shared and sink == FILE):
        if source == PIPE and sink != SOCKET:
            found = ["splice"]
        elif source == FILE:
            found = ["copy-file-range", "sendfile"] if sink == FILE else ["sendfile"]
    # If neither side is a pipe or a file: two splices through our own pipe are no faster than the pooled loop
    # between TCP sockets, and if they stop half-way, that pipe would have to be drained by hand.
    return [*(method for method in found if method in movers), POOLED]


def methods_for(source: int, sink: int, *, shared: bool = False) -> list[str]:
    """Return the methods for two open descriptors, best first. Raises OSError if one is not open."""
    append = bool(fcntl.fcntl(sink, fcntl.F_GETFL) & os.O_APPEND)
    return choose_methods(
        kind_of(source), kind_of(sink), append=append, movers=splice.movers(), shared=shared
    )


def best_method(number: int, *, to_pipe: bool) -> str:
    """Return the best method between a descriptor that the caller gave and a pipe that is yet to be made."""
    if to_pipe:
        return choose_methods(kind_of(number), PIPE, append=False, movers=splice.movers())[0]
    append = bool(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_APPEND)
    return choose_methods(PIPE, kind_of(number), append=append, movers=splice.movers(), shared=True)[0]


def best_method_to_path(path: str | bytes | os.PathLike[str], *, append: bool, shared: bool) -> str:
    """Return the best method from a pipe into the file that has that path, or is to have it."""
    try:
        kind = kind_of(path)
    except (OSError, ValueError):
        kind = FILE
    return choose_methods(PIPE, kind, append=append, movers=splice.movers(), shared=shared)[0]


def kind_of(target: int | str | bytes | os.PathLike[str]) -> str:
    """Return "file", "pipe", "socket" or "other"."""
    mode = os.stat(target).st_mode  # noqa: PTH116 - pathlib is dear to import
    if stat.S_ISREG(mode):
        return FILE
    if stat.S_ISFIFO(mode):
        return PIPE
    return SOCKET if stat.S_ISSOCK(mode) else OTHER

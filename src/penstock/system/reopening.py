# pathlib is slow to import, and knows no descriptors.
# ruff: noqa: PTH116
"""Say whether a program may open a file again by `/dev/fd/N`, once we have opened it by its path.

On Linux such an open asks for the permissions of the file anew, and starts at offset 0. A program may ask for
more than we did: it opens for reading too, say. A pipe allows both to the user who made it, so a file stands
in for a pipe only if it does so as well.

A device may allow one open only, or rewind when it is closed. Those of the driver of /dev/null keep no state.
A file of /proc may ask who writes to it.
"""

from __future__ import annotations

import os
import re
import stat

from penstock.system import features

__all__ = ["can_be_reopened"]

_READ_WRITE = stat.S_IRUSR | stat.S_IWUSR


def can_be_reopened(path: str | os.PathLike[str]) -> bool:
    """Whether the file at `path`, or one that is made there, may be opened again. True if nobody can know."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return not _umask() & _READ_WRITE
    except (OSError, ValueError):  # the start will say what is wrong
        return True
    if stat.S_ISCHR(status.st_mode):
        return os.major(status.st_rdev) == os.major(os.stat(os.devnull).st_rdev)
    if not stat.S_ISREG(status.st_mode) or (features.PROCFS and status.st_dev == os.stat("/proc").st_dev):
        return False
    effective = os.access in os.supports_effective_ids
    return os.access(path, os.R_OK | os.W_OK, effective_ids=effective)


def _umask() -> int:
    """Return the umask of this process; 0 if it cannot be read. umask(2) would set it, for all threads."""
    if not features.PROCFS:
        return 0
    try:
        with open("/proc/self/status", "rb", buffering=0) as file:  # noqa: PTH123 - as above
            found = re.search(rb"^Umask:\s*([0-7]+)$", file.read(), re.MULTILINE)
    except OSError:
        return 0
    return 0 if found is None else int(found[1], 8)

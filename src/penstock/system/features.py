# pathlib is dear to import.
# ruff: noqa: PTH115
"""What this platform can do, asked once, at import.

Plain module attributes, which the code that branches on them reads at each use, so that a test (or a person
on an odd kernel) switches a mechanism off by setting its name to False; everything must then hold by slower
means. A name is true only where the call was seen to work, or is certain to: a sandbox may refuse what the C
library offers.

Nothing else in the package asks `sys.platform` or `hasattr(os, ...)`. What may not live here: any use of a
feature.
"""

from __future__ import annotations

import os
import select
import sys
from typing import Final

if sys.platform == "win32":
    raise ImportError(
        "penstock runs on POSIX systems only: Windows has neither POSIX pipes nor POSIX signals"
    )


def _has_pidfd() -> bool:
    """Whether a process descriptor can be had (Linux 5.3, Python built against headers that know it)."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):  # EMFILE too: who is out of descriptors gets the slower means
        return False
    return True


def _has_eventfd() -> bool:
    try:
        os.close(os.eventfd(0))
    except (AttributeError, OSError):
        return False
    return True


def _has_procfs() -> bool:
    """Whether /proc is there and shows our own pid namespace: it then counts processes as `getpid` does."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def _has_glibc_spawn() -> bool:
    """Whether this is a glibc whose `posix_spawn` can close and chdir; the lookup in `glibc.py` decides."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        major, minor = version.split(".")[:2]
        return name == "glibc" and (int(major), int(minor)) >= (2, 34)
    except (AttributeError, ValueError, OSError):
        return False


def _has_gil() -> bool:
    """Whether one thread at a time runs Python code, so that all see what it writes in one order."""
    enabled = getattr(sys, "_is_gil_enabled", None)
    return enabled is None or bool(enabled())


GIL: bool = _has_gil()
PIDFD: bool = _has_pidfd()
EVENTFD: bool = _has_eventfd()
EPOLL: bool = hasattr(select, "epoll")
PROCFS: bool = _has_procfs()
GLIBC_SPAWN: bool = _has_glibc_spawn()
QUICK_READS: bool = PROCFS  # by ctypes; the first use decides
WAITID: bool = hasattr(os, "waitid")  # macOS has the call, but Python offers it there only since 3.13
SPLICE: bool = hasattr(os, "splice")
SENDFILE: bool = hasattr(os, "sendfile")
COPY_FILE_RANGE: bool = hasattr(os, "copy_file_range")
CGROUPS: bool = os.access("/proc/self/cgroup", os.R_OK)

# `ru_maxrss` counts kilobytes, except on macOS: getrusage(2) of each.
MAX_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024

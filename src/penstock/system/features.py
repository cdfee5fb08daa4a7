# pathlib is slow to import.
# ruff: noqa: PTH115, PTH116
"""The features of this platform, detected once, at import.

They are plain module attributes, read at each use. So a test (or a user on an unusual kernel) can switch a
mechanism off by setting its name to False, and everything must then work by slower means. A name is true only
if the call was seen to work or certainly does: a sandbox may refuse a call that the C library offers.

No other module of the package asks `sys.platform` or `hasattr(os, ...)`. Out of scope: any use of a feature.
"""

from __future__ import annotations

import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

if sys.platform == "win32":
    raise ImportError(
        "penstock runs on POSIX systems only: Windows has neither POSIX pipes nor POSIX signals"
    )


def _has_pidfd() -> bool:
    """Whether pidfds work (Linux 5.3, and a Python that was built against headers with them)."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):  # also EMFILE: a process without free descriptors uses the slower means
        return False
    return True


def _has_eventfd() -> bool:
    try:
        os.close(os.eventfd(0))
    except (AttributeError, OSError):
        return False
    return True


def _has_procfs() -> bool:
    """Whether /proc is mounted and shows our own pid namespace, so that its pids are those of `getpid`."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def _has_child_lists() -> bool:
    """Whether the kernel lists the children of each process (CONFIG_PROC_CHILDREN)."""
    return PROCFS and os.access(f"/proc/self/task/{os.getpid()}/children", os.R_OK)


def _has_last_pid() -> bool:
    """Whether /proc/loadavg is the kernel's own. lxcfs mounts another file there, which is seconds old."""
    try:
        return PROCFS and os.stat("/proc/loadavg").st_dev == os.stat("/proc").st_dev
    except OSError:
        return False


def _has_glibc_spawn() -> bool:
    """Whether this glibc's `posix_spawn` can close and chdir; the import of `spawn_glibc` decides."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        major, minor = version.split(".")[:2]
        return name == "glibc" and (int(major), int(minor)) >= (2, 34)
    except (AttributeError, ValueError, OSError):
        return False


def _has_gil() -> bool:
    """Whether there is a GIL, so that all threads see writes in one order."""
    enabled = getattr(sys, "_is_gil_enabled", None)
    return enabled is None or bool(enabled())


def machine() -> str:
    """Return the processor's architecture, such as "x86_64", by which the kernel numbers its calls."""
    return os.uname().machine


GIL: bool = _has_gil()
PIDFD: bool = _has_pidfd()
EVENTFD: bool = _has_eventfd()
EPOLL: bool = hasattr(select, "epoll")
PROCFS: bool = _has_procfs()
CHILD_LISTS: bool = _has_child_lists()
LAST_PID: bool = _has_last_pid()
GLIBC_SPAWN: bool = _has_glibc_spawn()
QUICK_READS: bool = PROCFS  # by ctypes; the first use decides
WAITID: bool = hasattr(os, "waitid")  # macOS has the call, but Python offers it there only since 3.13
SPLICE: bool = hasattr(os, "splice")
TEE: bool = SPLICE  # by ctypes; the first use decides
SENDFILE: bool = hasattr(os, "sendfile")
COPY_FILE_RANGE: bool = hasattr(os, "copy_file_range")
CGROUPS: bool = os.access("/proc/self/cgroup", os.R_OK)

# `ru_maxrss` counts kilobytes, except on macOS: getrusage(2) of each.
MAX_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024

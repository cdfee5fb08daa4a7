"""Files without a name, for bytes that must leave memory for a while, and the folder to make them in.

The kernel frees such a file when its last descriptor is closed, however this process ends.

Out of scope: how much may be stored.
"""

# pathlib and tempfile are slow to import.
# ruff: noqa: PTH108, PTH112, PTH116, PTH123

from __future__ import annotations

import contextlib
import os

from penstock.system.fds import open_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.system.fds import Fd

__all__ = ["free_bytes", "open_unnamed", "storage_folder"]

_ON_DISK = "/var/tmp"  # noqa: S108 - only files without a name are made there


def storage_folder() -> str:
    """Return the folder for large temporary files: TMPDIR, or /var/tmp if that one is in memory."""
    folder = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - as above
    usable = os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)
    if (not usable or _is_in_memory(folder)) and os.access(_ON_DISK, os.W_OK | os.X_OK):
        return _ON_DISK
    return folder


def free_bytes(folder: str) -> int:
    """Return how many bytes this user may still store in a folder's file system."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def open_unnamed(folder: str) -> Fd:
    """Return a new file in `folder`, without a name, for reading and writing by this process alone."""
    with contextlib.suppress(AttributeError, OSError):  # not every file system has such files
        return open_path(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    path = os.path.join(folder, f".penstock-{os.getpid()}-{os.urandom(8).hex()}")  # noqa: PTH118
    try:
        return open_path(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _is_in_memory(folder: str) -> bool:
    """Whether the folder's file system is a tmpfs or ramfs; False if procfs does not tell."""
    device = os.stat(folder).st_dev
    number = b"%d:%d" % (os.major(device), os.minor(device))
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            for line in file:
                # proc_pid_mountinfo(5): the device is the third field, the type the first one after " - "
                mount, _, rest = line.partition(b" - ")
                if mount.split()[2] == number:
                    return rest.split()[0] in {b"tmpfs", b"ramfs"}
    except (OSError, IndexError):
        pass
    return False

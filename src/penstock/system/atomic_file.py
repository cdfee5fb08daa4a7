# pathlib is slow to import, and knows no descriptors.
# ruff: noqa: PTH105, PTH108, PTH116, PTH118, PTH120
"""A file that is written beside its target and takes the place of the target when it is complete.

The part lies in the folder of the target, because a rename cannot cross file systems. It is open twice. The
process that writes gets one open file description. The other one is the host's own and carries the lock, so
the lock is free as soon as the host has died, even if a command goes on writing. The inode is compared after
the lock was taken, because a program that removes forgotten parts may have been faster.

Before the rename the content is synced, and after it the folder: so after a power failure the old file or the
new one is there. `os.replace` of a synced file is the only step that others can see.

Out of scope: when to commit or discard (`engine.outputs`), and which thread may wait for the disk.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import os
import stat

from penstock.system import fds
from penstock.system.fork_guard import reset_in_child
from penstock.system.working_directory import explain_missing

__all__ = ["AtomicFile", "check_target", "target_of"]

_ATTEMPTS = 100
"""Names to try for a part: somebody else may take or remove each."""
_NAME_MAX = 255
"""Bytes of a file's name that every usual file system allows."""
_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
"""Errors of file systems without locks. A part there is as good, but others cannot know that it is in use."""

_open_files: set[AtomicFile] = set()
"""Those that were neither committed nor discarded."""


class AtomicFile:
    """One part and its target. `commit` or `discard` ends it, once, and may wait for the disk."""

    _ended = True

    def __init__(self, path: str, files: list[AtomicFile]) -> None:
        """Create the part. Raise OSError, naming the target, if that or keeping mode and owner fails.

        It is put into `files` first, so that an interrupt cannot lose it.
        """
        files.append(self)
        self._owner = os.getpid()
        self._part = ""
        self._lock: fds.Fd | None = None
        self.target = target_of(path)
        self._ended = False
        _open_files.add(self)
        try:
            before = _existing(self.target)
            self._lock = self._create(0o666 if before is None else 0o600)
            self.output: fds.Fd = self._open_again(self._lock.fileno())
            """For the process or stage that writes, which closes it."""
            if before is not None:
                _keep_mode_and_owner(self._lock.fileno(), before, self.target)
        except BaseException:
            self.discard()
            raise

    def __repr__(self) -> str:
        return f"<AtomicFile {self.target!r}>"

    def sync(self) -> None:
        """Have everything that was written stand on the disk. OSError if that fails."""
        if self._lock is not None and not self._ended:
            os.fsync(self._lock.fileno())

    def commit(self) -> None:
        """Put the part in the place of its target. OSError if that fails; then the target is as it was."""
        if self._ended or os.getpid() != self._owner:
            return
        os.replace(self._part, self.target)
        self._end()
        _sync_folder(os.path.dirname(self.target))

    def discard(self) -> None:
        """Remove the part. Do nothing in a forked copy."""
        if self._ended or os.getpid() != self._owner:
            return
        if self._part:
            with contextlib.suppress(OSError):  # somebody else has removed it, or the folder
                os.unlink(self._part)
        self._end()
        output = getattr(self, "output", None)
        if output is not None:
            output.close()

    def _end(self) -> None:
        self._ended = True
        _open_files.discard(self)
        if self._lock is not None:
            self._lock.close()

    def _create(self, mode: int) -> fds.Fd:
        folder, name = os.path.split(self.target)
        for _ in range(_ATTEMPTS):
            suffix = f".{os.urandom(6).hex()}.part"
            short = os.fsdecode(os.fsencode(name)[: _NAME_MAX - len(suffix)])
            self._part = os.path.join(folder, short + suffix)
            try:
                made = fds.open_path(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            except FileExistsError:
                continue
            except OSError as error:
                self._part = ""
                raise _named(error, self.target) from None
            if _lock(made.fileno()) and _is_at(self._part, made.fileno()):
                return made
            made.close()
        self._part = ""
        raise FileExistsError(errno.EEXIST, "no free name for its part", self.target)

    def _open_again(self, lock: int) -> fds.Fd:
        mode = stat.S_IMODE(os.fstat(lock).st_mode)
        if not mode & stat.S_IWUSR:  # an unusual umask
            os.fchmod(lock, mode | stat.S_IWUSR)
        again = fds.open_path(self._part, os.O_WRONLY | os.O_NOFOLLOW)
        if not mode & stat.S_IWUSR:
            os.fchmod(lock, mode)
        if os.path.samestat(os.fstat(again.fileno()), os.fstat(lock)):
            return again
        again.close()
        raise FileNotFoundError(errno.ENOENT, "its part was replaced", self.target)


def target_of(path: str) -> str:
    """Return the absolute path of the file that is to be replaced, without symlinks, or raise OSError."""
    try:
        return os.path.realpath(path)
    except FileNotFoundError as error:
        raise explain_missing(error, path) from None


def check_target(option: str, path: str) -> None:
    """Raise ValueError, naming the option, if there is something at `path` that is not a regular file."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # missing, or opening it will say what is wrong
        return
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "a pipe, device or socket"
        raise ValueError(f"{option}=atomic(...) replaces regular files only, and {path!r} is {kind}")


def _existing(target: str) -> os.stat_result | None:
    """Return the status of the target; None if there is none yet."""
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", target)
    # A rename asks for the folder's permission only; but whoever may not write to a file may not replace it.
    if not os.access(target, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), target)
    return status


def _keep_mode_and_owner(fd: int, before: os.stat_result, target: str) -> None:
    now = os.fstat(fd)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        try:
            os.fchown(fd, before.st_uid, before.st_gid)
        except OSError as error:
            text = f"its owner or group cannot be kept ({error.strerror}): write to the path itself"
            raise type(error)(error.errno, text, target) from None
    os.fchmod(fd, stat.S_IMODE(before.st_mode))  # last: a change of the owner clears some bits


def _lock(fd: int) -> bool:
    """Lock it. Return False if another process has."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            return False
    return True


def _is_at(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except OSError:
        return False


def _sync_folder(folder: str) -> None:
    try:
        fd = fds.open_path(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # one that may be written but not read
        return
    try:
        os.fsync(fd.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # a file system that does not sync folders
            raise
    finally:
        fd.close()


def _named(error: OSError, target: str) -> OSError:
    """Return the error with the name of the target instead of that of its part."""
    return type(error)(error.errno, error.strerror, target)


def _discard_all() -> None:
    """Remove the parts of runs that the interpreter's end cuts short."""
    for file in list(_open_files):
        file.discard()


atexit.register(_discard_all)
reset_in_child(_open_files.clear, "state")

"""File descriptors: their owners, how they are made, and what a fork of the host program does to them.

An `Fd` owns one descriptor and forgets its number before it closes it, because the kernel may give the number
to another file at once. A register holds all open ones by owner, since a number may have its next owner
before the last one has left the register. Descriptors are made and closed under the fork guard
(fork_guard.py). So a forked copy knows every descriptor that it has inherited from us, and closes it before
anything else runs there. Otherwise our pipes would show no EOF while the copy lives. (Children that we start
close everything from 3 up.) The fork guard does not exclude threads from each other: if two close one `Fd`,
the first to delete its `_close_token` does it.

A descriptor must not leak between the call that makes it and the `Fd` that owns it, because a signal handler
may raise there (KeyboardInterrupt). The interpreter runs handlers after a call, at a function's start and at
a backward jump, not between other steps. So `_adopt` lets `list.extend` make the call in C, after which the
except clause finds the descriptor in the list. The steps that hand it over to its `Fd` call nothing.

Every descriptor is close-on-exec from the start, and above 2: in a host that runs with 0, 1 or 2 closed, a
pipe that got such a number would become the stdin of all children. Out of scope: reading and writing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
import warnings
from _weakref import ref  # not from `weakref`: see `fork_guard`
from itertools import chain, starmap

from penstock.core.public import half_made_too
from penstock.system import features, system_calls
from penstock.system.fork_guard import fork_guard, reset_in_child
from penstock.system.working_directory import explain_missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol, TypeAlias, TypeVar

    from penstock.system.pipe_capacity import PipeCapacityLease

    Path: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"
    _Owner = TypeVar("_Owner", bound="Fd")
else:
    Protocol = object


class Owner(Protocol):
    """An owner of a descriptor, as the register sees it."""

    def abandon(self) -> None:
        """Close this copy of the descriptor and forget it. In a forked process, whose parent owns it."""


_owners: dict[int, tuple[int, ref[Owner]]] = {}
"""Descriptor and owner, by the id of the owner."""


def register(fd: int, owner: Owner) -> None:
    """Register the owner of `fd`. The caller must have held `fork_guard` since before `fd` was made."""
    _owners[id(owner)] = fd, ref(owner)


def unregister(owner: Owner) -> None:
    """Take `owner` out of the register. The caller must hold `fork_guard` until its descriptor is closed."""
    _owners.pop(id(owner), None)


def _start_clean_after_fork() -> None:
    for fd, reference in list(_owners.values()):
        owner = reference()
        if owner is None:  # a thread that does not exist here was running its finalizer
            _close_quietly(fd)
        else:
            owner.abandon()
    _owners.clear()


reset_in_child(_start_clean_after_fork, "descriptors")


class Fd:
    """The owner of one open descriptor.

    If it is collected while open, it closes itself with a `ResourceWarning`, as files and sockets do.
    """

    __slots__ = ("__weakref__", "_close_token", "_fd", "pages")

    def __init__(self, fd: int | None = None) -> None:
        self._fd = -1
        self._close_token = True
        self.pages: PipeCapacityLease | None = None
        """The pages that a pipe took from the budget. `close` gives them back, `detach` does not."""
        if fd is None:  # made closed, to own a descriptor that is yet to be made
            return
        if fd < 0:
            raise ValueError(f"not a descriptor: {fd}")
        with fork_guard:
            self._fd = fd
            register(fd, self)

    def fileno(self) -> int:
        """Return the descriptor; ValueError once it is closed."""
        fd = self._fd
        if fd < 0:
            raise ValueError("the descriptor is closed")
        return fd

    @property
    def closed(self) -> bool:
        """Whether the descriptor is forgotten, by `close` or `detach`."""
        return self._fd < 0

    def close(self) -> None:
        """Close the descriptor. Idempotent, also from several threads."""
        with fork_guard:
            fd = self._fd
            if fd >= 0:
                unregister(self)
                try:  # nothing is called from here to the close, so no signal handler can make it leak
                    del self._close_token
                except AttributeError:  # another thread was first
                    return
                self._fd = -1
                os.close(fd)
        if self.pages is not None:
            self.pages.release()

    def detach(self) -> int:
        """Return the descriptor and forget it: the caller must close it."""
        with fork_guard:
            fd = self.fileno()
            unregister(self)
        try:  # nothing is called from here to the return, so no signal handler can make it leak
            del self._close_token
        except AttributeError:
            raise ValueError("the descriptor is closed") from None
        self._fd = -1
        return fd

    def abandon(self) -> None:
        """Close this copy in a forked process, and leave the register to the caller."""
        fd, self._fd = self._fd, -1
        _close_quietly(fd)

    @half_made_too
    def __repr__(self) -> str:
        return "<Fd closed>" if self._fd < 0 else f"<Fd {self._fd}>"

    # At interpreter exit, the names of this module may be gone before the last object; the kernel closes it.
    def __del__(self, _finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        fd = getattr(self, "_fd", -1)  # an interrupt may have come before it was set
        if fd >= 0 and not _finalizing():
            _close_for_good(self)  # first, since the warning may be an exception
            warnings.warn(f"descriptor {fd} was never closed", ResourceWarning, source=self, stacklevel=2)


def _close_for_good(fd: Fd) -> None:
    """Close it in its finalizer, the last chance; try again if an interrupt arrives meanwhile."""
    try:
        fd.close()
    except BaseException:
        fd.close()
        raise


class _SharedFd(Fd):
    """A descriptor that is closed on purpose by dropping the last reference: see `Waker`."""

    __slots__ = ()

    def __del__(self, _finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if getattr(self, "_fd", -1) >= 0 and not _finalizing():
            _close_for_good(self)


def open_fd(call: Callable[..., int], *arguments: object) -> Fd:
    """Return the descriptor that `call(*arguments)` makes. `call` must be a function in C, and not block."""
    with fork_guard:
        (fd,) = _adopt((Fd(),), starmap(call, (arguments,)))
        return fd


def pipe() -> tuple[Fd, Fd]:
    """Return the ends of a new pipe, (read, write), blocking and close-on-exec."""
    with fork_guard:
        reader, writer = _adopt((Fd(), Fd()), chain.from_iterable(starmap(system_calls.pipe, ((),))))
        return reader, writer


def pipe_capacity(fd: int) -> int:
    """Return the capacity of a pipe in bytes; 64 KiB, the default of Linux, if the platform cannot tell."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    except (AttributeError, OSError):
        return 65536


def duplicate(fd: int, least: int = 3) -> Fd:
    """Return a second descriptor of the same open file description, so position and flags are shared.

    It is at least `least`.
    """
    return open_fd(fcntl.fcntl, fd, fcntl.F_DUPFD_CLOEXEC, least)


def open_again(pipe_end: int) -> Fd | None:
    """Return another open file description for reading the same pipe, non-blocking; None without procfs."""
    try:
        return open_path(f"/proc/self/fd/{pipe_end}", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None


def open_read(path: Path) -> Fd:
    """Open a file for reading; IsADirectoryError for a directory, which open(2) alone would accept."""
    fd = open_path(path, os.O_RDONLY)
    if stat.S_ISDIR(os.fstat(fd.fileno()).st_mode):
        fd.close()
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    return fd


def open_write(path: Path, *, append: bool = False, waits: bool = False, truncate: bool = True) -> Fd:
    """Open a file for writing, truncated or at its end. A missing file is created, 0o666 under the umask.

    Without `truncate` it keeps its content, and the position is its beginning.
    A FIFO without a reader is an error (ENXIO), unless `waits` is set: then the call waits for a reader.
    """
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC if truncate else 0)
    if waits:
        return open_path(path, flags)
    fd = open_path(path, flags | os.O_NONBLOCK)  # fifo(7): then it does not wait
    os.set_blocking(fd.fileno(), True)
    return fd


def open_both(path: Path) -> Fd:
    """Open a FIFO for reading and writing, which does not wait, and never changes a regular file."""
    return open_path(path, os.O_RDWR | os.O_NONBLOCK)


def null(*, writable: bool) -> Fd:
    """Open /dev/null, for one direction."""
    return open_path(os.devnull, os.O_WRONLY if writable else os.O_RDONLY)


def set_nonblocking(fd: int) -> None:
    """Set O_NONBLOCK. It belongs to the open file description, so all who share that are affected."""
    os.set_blocking(fd, False)


def is_open(fd: int) -> bool:
    """Whether `fd` is open in this process."""
    try:
        fcntl.fcntl(fd, fcntl.F_GETFD)
    except OSError:
        return False
    return True


def is_nonblocking(fd: int) -> bool:
    """Whether O_NONBLOCK is set."""
    return not os.get_blocking(fd)


def is_regular(fd: int) -> bool:
    """Whether it is a regular file, which always polls as ready, even if its disk is slow."""
    return stat.S_ISREG(os.fstat(fd).st_mode)


class Waker:
    """A pollable object that any thread or signal handler can make readable.

    `wake` takes no lock, because the thread that a signal handler interrupts might hold it. It must not write
    to a descriptor that `close` has just closed. So `close` only drops its reference, and the descriptors are
    closed with the last reference: at once, or when a `wake` in another thread returns.
    """

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends: tuple[Fd, Fd] | None
        with fork_guard:
            if features.EVENTFD:
                making = starmap(os.eventfd, ((0, os.EFD_CLOEXEC | os.EFD_NONBLOCK),))
                (event,) = _adopt((_SharedFd(),), making)
                self._ends = event, event
            else:
                pair = chain.from_iterable(starmap(system_calls.pipe, ((),)))
                reader, writer = _adopt((_SharedFd(), _SharedFd()), pair)
                self._ends = reader, writer
                set_nonblocking(reader.fileno())
                set_nonblocking(writer.fileno())

    def fileno(self) -> int:
        """Return the descriptor to poll for reading; ValueError once it is closed."""
        ends = self._ends
        if ends is None:
            raise ValueError("the waker is closed")
        return ends[0].fileno()

    def wake(self) -> None:
        """Make it readable. Do nothing if it already is, or is closed."""
        ends = self._ends
        if ends is None:
            return
        try:
            # `features` may have changed; the kind of descriptor has not.
            os.write(ends[1]._fd, _ONE)  # noqa: SLF001 - it is -1 in a forked copy, hence the EBADF
        except BlockingIOError:
            pass  # full of wake-ups: it is readable
        except OSError as error:
            if error.errno != errno.EBADF:
                raise

    def clear(self) -> None:
        """Make it unreadable until the next `wake`. Look for the cause of the wake-up after this."""
        fd = self.fileno()
        try:
            while len(os.read(fd, 4096)) == 4096:
                pass  # only a pipe holds so much; an eventfd gives its 8 bytes and is then empty
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close it; the caller removes it from every poller first. Idempotent, and safe during `wake`."""
        self._ends = None


# An eventfd takes a native 8-byte integer, a pipe any bytes. This suits both, in either byte order.
_ONE = b"\1" * 8


def open_path(path: Path, flags: int, mode: int = 0o666) -> Fd:
    """Open a file, close-on-exec; one that is created gets `mode` under the umask."""
    # Outside the guard, because opening a FIFO may wait for its other end. If the host forks in the instant
    # before the guard is taken, the copy keeps the descriptor.
    opening = starmap(system_calls.open_path, ((path, flags | os.O_CLOEXEC | os.O_NOCTTY, mode),))
    try:
        (fd,) = _adopt((Fd(),), opening)
    except FileNotFoundError as error:
        raise explain_missing(error, path) from None
    return fd


def _adopt(owners: tuple[_Owner, ...], new_fds: Iterable[int]) -> tuple[_Owner, ...]:
    """Give each of the closed `owners` one of the descriptors that iterating over `new_fds` makes."""
    made: list[int] = []
    try:
        made.extend(new_fds)
        with fork_guard:
            _move_above_stdio(made)
            for place, owner in enumerate(owners):
                owner._fd = made[place]  # noqa: SLF001 - the other half of its constructor
                made[place] = -1
                register(owner._fd, owner)  # noqa: SLF001
    except BaseException:
        try:
            _close_all(owners, made)
        except BaseException:  # a second interrupt
            _close_all(owners, made)
            raise
        raise
    return owners


def _close_all(owners: tuple[Fd, ...], made: list[int]) -> None:
    for owner in owners:
        owner.close()
    for place in range(len(made)):
        fd, made[place] = made[place], -1  # nothing is called from here to the close
        if fd >= 0:
            os.close(fd)


def _move_above_stdio(made: list[int]) -> None:
    """Move new descriptors out of the range 0 to 2. The list holds all of them at any time."""
    if min(made) > 2:
        return
    for place in range(len(made)):
        if made[place] <= 2:
            made.extend(starmap(fcntl.fcntl, ((made[place], fcntl.F_DUPFD_CLOEXEC, 3),)))
            made[place], made[-1] = made[-1], made[place]
    for place in range(len(made)):
        fd = made[place]
        if fd <= 2:
            made[place] = -1
            os.close(fd)


def _close_quietly(fd: int) -> None:
    with contextlib.suppress(OSError):
        os.close(fd)

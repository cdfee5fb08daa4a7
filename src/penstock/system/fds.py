"""Descriptors: who owns one, how one is made, and what becomes of them in a fork of the host program.

An `Fd` owns one number and forgets it before it closes it, so that nobody can hit a stranger who got the
number next. All open ones stand in a register, by owner: a number may have the next owner before the last one
has left it. Descriptors are made and closed while forks of the host are kept out (forks.py): so a forked copy
knows every descriptor that it has inherited from us, and closes it before anything else runs there; else a
copy that lives on would keep our pipes from ever showing EOF. (Children that we start do not come through
there: they close everything from 3 up.) Threads do not exclude each other by that. Where two close one `Fd`,
the one that is first to delete its `_close_token` does it.

A number must not be lost between the call that makes it and the `Fd` that owns it, for what a signal handler
raises (KeyboardInterrupt) may come in between. The interpreter runs handlers after a call, at a function's
start and at a jump back, not between other steps. So `_adopt` has the call made in C, by `extend`,
after which the number is in a list that the except clause knows, and hands it over in steps that call
nothing.

Every descriptor is close-on-exec from birth and above 2: in a host that runs with 0, 1 or 2 closed, a pipe
that took such a number would become the stdin of all children. What may not live here: reading and writing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
import warnings
from itertools import chain, starmap
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar
from weakref import ref

from penstock.system import features
from penstock.system.fork_guard import fork_guard, reset_in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from penstock.system.pipe_capacity import PipeCapacityLease

    Path: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"


class Owner(Protocol):
    """Whatever owns a descriptor, as the register sees it."""

    def abandon(self) -> None:
        """Close the descriptor and forget its number: this is a forked copy, and it belongs to the parent."""


_owners: dict[int, tuple[int, ref[Owner]]] = {}
"""Number and owner, by the owner's id."""


def register(fd: int, owner: Owner) -> None:
    """Register `owner` as the one who owns `number`; `guard` must be held since before it was made."""
    _owners[id(owner)] = fd, ref(owner)


def unregister(owner: Owner) -> None:
    """Take `owner` out of the register; `guard` must be held until its number is closed."""
    _owners.pop(id(owner), None)


def _start_clean_after_fork() -> None:
    for fd, reference in list(_owners.values()):
        owner = reference()
        if owner is None:  # its finalizer was under way in a thread that does not exist here
            _close_quietly(fd)
        else:
            owner.abandon()
    _owners.clear()


reset_in_child(_start_clean_after_fork, "descriptors")


class Fd:
    """The owner of one open descriptor. Made from a number, it takes that number over.

    One that is collected while open closes itself, with a `ResourceWarning`, as files and sockets do.
    """

    __slots__ = ("__weakref__", "_close_token", "_fd", "pages")

    def __init__(self, fd: int | None = None) -> None:
        self._fd = -1
        self._close_token = True
        self.pages: PipeCapacityLease | None = None
        """What a pipe took of the budget for its size; given back when this is closed. `detach` leaves it."""
        if fd is None:  # it is made closed, to own one that is yet to come
            return
        if fd < 0:
            raise ValueError(f"not a descriptor: {fd}")
        with fork_guard:
            self._fd = fd
            register(fd, self)

    def fileno(self) -> int:
        """Return the number; ValueError once it is closed."""
        fd = self._fd
        if fd < 0:
            raise ValueError("the descriptor is closed")
        return fd

    @property
    def closed(self) -> bool:
        """Whether the number is forgotten, by `close` or `detach`."""
        return self._fd < 0

    def close(self) -> None:
        """Close the descriptor; the second time, and from a second thread, nothing happens."""
        with fork_guard:
            fd = self._fd
            if fd >= 0:
                unregister(self)
                try:  # nothing is called from here to the close, so no handler of a signal loses the number
                    del self._close_token
                except AttributeError:  # another thread was quicker
                    return
                self._fd = -1
                os.close(fd)
        if self.pages is not None:
            self.pages.release()

    def detach(self) -> int:
        """Return the number and forget it: closing it is the caller's from now on."""
        with fork_guard:
            fd = self.fileno()
            unregister(self)
        try:  # nothing is called from here to the return, so no handler of a signal loses the number
            del self._close_token
        except AttributeError:
            raise ValueError("the descriptor is closed") from None
        self._fd = -1
        return fd

    def abandon(self) -> None:
        """Close this copy in a forked process; the register does the rest."""
        fd, self._fd = self._fd, -1
        _close_quietly(fd)

    def __repr__(self) -> str:
        return "<Fd closed>" if self._fd < 0 else f"<Fd {self._fd}>"

    # At the interpreter's end the names of this module may go before the last object; the kernel closes then.
    def __del__(self, _finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        fd = getattr(self, "_fd", -1)  # an interrupt may have come before it was set
        if fd >= 0 and not _finalizing():
            _close_for_good(self)  # first, since the warning may be an exception
            warnings.warn(f"descriptor {fd} was never closed", ResourceWarning, source=self, stacklevel=2)


def _close_for_good(fd: Fd) -> None:
    """Close it in its finalizer, after which nobody can: once more where an interrupt falls into that."""
    try:
        fd.close()
    except BaseException:
        fd.close()
        raise


_Owner = TypeVar("_Owner", bound=Fd)


class _SharedFd(Fd):
    """One that is closed by dropping the last reference to it, on purpose: see `Waker`."""

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
        reader, writer = _adopt((Fd(), Fd()), chain.from_iterable(starmap(os.pipe, ((),))))
        return reader, writer


def pipe_capacity(fd: int) -> int:
    """Return how many bytes a pipe holds at the most; 64 KiB, Linux's usual size, where it cannot be
    asked.
    """
    try:
        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    except (AttributeError, OSError):
        return 65536


def duplicate(fd: int, least: int = 3) -> Fd:
    """Return a second descriptor of the same open file description: its position and its flags are shared.

    Its number is at least `least`.
    """
    return open_fd(fcntl.fcntl, fd, fcntl.F_DUPFD_CLOEXEC, least)


def open_read(path: Path) -> Fd:
    """Open a file for reading; IsADirectoryError for a folder, which open(2) alone would let through."""
    fd = _open(path, os.O_RDONLY)
    if stat.S_ISDIR(os.fstat(fd.fileno()).st_mode):
        fd.close()
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    return fd


def open_write(path: Path, *, append: bool = False, waits: bool = False) -> Fd:
    """Open a file for writing, emptied or at its end; a missing one is made, 0o666 under the umask.

    A FIFO that nobody reads is an error (ENXIO), unless it `waits` for a reader.
    """
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC)
    if waits:
        return _open(path, flags)
    fd = _open(path, flags | os.O_NONBLOCK)  # fifo(7): then it does not wait
    os.set_blocking(fd.fileno(), True)
    return fd


def open_both(path: Path) -> Fd:
    """Open a FIFO for reading and writing, which waits for nobody, and never changes a file."""
    return _open(path, os.O_RDWR | os.O_NONBLOCK)


def null(*, writable: bool) -> Fd:
    """Open /dev/null, for one direction."""
    return _open(os.devnull, os.O_WRONLY if writable else os.O_RDONLY)


def set_nonblocking(fd: int) -> None:
    """Set O_NONBLOCK, which belongs to the open file description: everyone who shares it is affected."""
    os.set_blocking(fd, False)


def is_open(fd: int) -> bool:
    """Whether the number is that of an open descriptor."""
    try:
        fcntl.fcntl(fd, fcntl.F_GETFD)
    except OSError:
        return False
    return True


def is_nonblocking(fd: int) -> bool:
    """Whether O_NONBLOCK is set."""
    return not os.get_blocking(fd)


def is_regular(fd: int) -> bool:
    """Whether it is a file, which always polls as ready, however long its disk may take."""
    return stat.S_ISREG(os.fstat(fd).st_mode)


class Waker:
    """Something to poll for, which any thread or signal handler makes readable.

    `wake` takes no lock, since the thread that a signal handler interrupts might hold it. Nor may it write to
    a number that `close` has just given back to the system. So `close` only drops its reference, and the
    descriptors are closed when the last one goes: at once, or when a `wake` that is under way in another
    thread has let go of its own.
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
                pair = chain.from_iterable(starmap(os.pipe, ((),)))
                reader, writer = _adopt((_SharedFd(), _SharedFd()), pair)
                self._ends = reader, writer
                set_nonblocking(reader.fileno())
                set_nonblocking(writer.fileno())

    def fileno(self) -> int:
        """Return the number to poll for reading; ValueError once it is closed."""
        ends = self._ends
        if ends is None:
            raise ValueError("the waker is closed")
        return ends[0].fileno()

    def wake(self) -> None:
        """Make it readable; nothing happens where it already is, or is closed."""
        ends = self._ends
        if ends is None:
            return
        try:
            # Whatever the platform says now, the kind of descriptor was settled when it was made.
            os.write(ends[1]._fd, _ONE)  # noqa: SLF001 - a forked copy's number is -1, hence the EBADF
        except BlockingIOError:
            pass  # full of wake-ups: it is readable
        except OSError as error:
            if error.errno != errno.EBADF:
                raise

    def clear(self) -> None:
        """Make it unreadable until the next `wake`. Look for what the wake-up was about after this."""
        fd = self.fileno()
        try:
            while len(os.read(fd, 4096)) == 4096:
                pass  # only a pipe holds so much; an eventfd gives its 8 bytes and is then empty
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close it; take it out of every poller first. Idempotent, and safe while others call `wake`."""
        self._ends = None


# An eventfd takes a native 8-byte number, a pipe any bytes; both are satisfied by this, whatever the byte
# order.
_ONE = b"\1" * 8


def _open(path: Path, flags: int) -> Fd:
    # Outside the lock, since to open a FIFO may wait for its other end. What a fork in the host copies in the
    # instant before the lock is taken, it keeps.
    (fd,) = _adopt((Fd(),), starmap(os.open, ((path, flags | os.O_CLOEXEC | os.O_NOCTTY, 0o666),)))
    return fd


def _adopt(owners: tuple[_Owner, ...], new_fds: Iterable[int]) -> tuple[_Owner, ...]:
    """Give each of `owners`, which are closed, one of the numbers that are made by looking at `numbers`."""
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
    """Move descriptors that were just made out of the range 0 to 2; the list holds them all at any time."""
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

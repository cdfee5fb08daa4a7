# pathlib is slow to import.
# ruff: noqa: PTH108
"""The table by which a host tells its guardian which processes are to end with it.

It lies in memory that both have mapped. The host writes a word when a run or a command starts and clears it
at the end. A write needs no system call and wakes nobody. The memory outlives the host. The words of a run:
its mark, which all its commands have in their environment before they exist; the process groups that they
lead; and worker processes. So no command is unknown at any moment of its start.

Out of scope: the guardian (`guardian`), and which runs are guarded (`runtime.guarding`).
"""

from __future__ import annotations

import ctypes
import itertools
import os
from functools import partial

from penstock.core.noop import noop
from penstock.system import fds, guardian_main
from penstock.system.process_mark import with_mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

__all__ = ["Guard", "GuardTable", "identity"]

_WORDS = 65536
"""Words in the table, one for each run and each of its commands. Pages that are not used take no memory."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class GuardTable:
    """Words that the guardian sees too."""

    def __init__(self) -> None:
        self.token = os.urandom(8).hex()
        """Begins the marks of the runs that the table knows."""
        self._serial = itertools.count(1)
        self.fd = _shared_memory(_WORDS * 8)
        self._identity = identity(self.fd)
        self._address = _map(self.fd.fileno(), _WORDS * 8)
        # One store writes a word, so the guardian never sees half of one.
        self._words: Any = (ctypes.c_uint64 * _WORDS).from_address(self._address)
        self._unused = itertools.count()
        self._free: list[int] = []

    @property
    def intact(self) -> bool:
        """Whether another guardian can be given it, because the host has not closed the descriptor."""
        return identity(self.fd) == self._identity

    def next_serial(self) -> int:
        """Return a number that no run before had."""
        return next(self._serial)

    def reserve(self) -> int:
        """Return a free place. OSError if there is none."""
        try:
            place = self._free.pop()
        except IndexError:
            place = next(self._unused)
        if place >= _WORDS:
            raise OSError("too many runs with orphans='kill' at one time") from None
        return place

    def write(self, place: int, kind: int, number: int) -> None:
        """Write the word at a reserved place."""
        self._words[place] = number << 2 | kind

    def clear(self, place: int) -> None:
        """Clear the word at a place."""
        self._words[place] = 0

    def release(self, place: int) -> None:
        """Give a cleared place to others."""
        self._free.append(place)

    def close(self) -> None:
        """Release it, because no guardian could be started."""
        self.forget()
        self.fd.close()

    def forget(self) -> None:
        """Write no more into the memory, which in a forked copy still belongs to the parent."""
        self._words = {}
        _libc.munmap(self._address, _WORDS * 8)


class Guard:
    """The words of one run. `close` clears them; afterwards nothing of the run is ended with the host.

    An interrupt may come between any two steps. So a word is written when its place is noted already, and its
    place is forgotten when the word is cleared already.
    """

    __slots__ = ("_places", "_table", "mark")

    _table: GuardTable

    def __init__(self) -> None:
        """Make a guard that guards nothing yet, so that its owner knows it before there is anything."""
        self._places: set[int] = set()
        self.mark = ""
        """Stands in the environment of all processes of the run."""

    def begin(self, table: GuardTable) -> None:
        """Guard the processes that have the mark. OSError if the table is full."""
        serial = table.next_serial()
        self._table = table
        self.mark = f"{table.token}.{serial}"
        self._add(guardian_main.MARK, serial)

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return an environment with the mark."""
        return with_mark(environ, self.mark)

    def add_group(self, pid: int) -> Callable[[], None]:
        """Add the process group that a command leads. Call the result once the command has been reaped."""
        return self._try_to_add(guardian_main.GROUP, pid)

    def add_process(self, pid: int) -> Callable[[], None]:
        """Add a process that did not get the mark at its start. Call the result once its task is done."""
        return self._try_to_add(guardian_main.PROCESS, pid)

    def close(self) -> None:
        """Clear all words. Idempotent."""
        for place in list(self._places):
            self._discard(place)

    def _try_to_add(self, kind: int, number: int) -> Callable[[], None]:
        try:
            return partial(self._discard, self._add(kind, number))
        except OSError:  # the table is full; the mark will do
            return noop

    def _add(self, kind: int, number: int) -> int:
        place = self._table.reserve()
        self._places.add(place)
        self._table.write(place, kind, number)
        return place

    def _discard(self, place: int) -> None:
        if place in self._places:
            self._table.clear(place)
            self._places.discard(place)
            self._table.release(place)


def identity(fd: fds.Fd) -> tuple[int, int] | None:
    """Return what a descriptor refers to; None if it is closed."""
    try:
        status = os.fstat(fd.fileno())
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _shared_memory(size: int) -> fds.Fd:
    """Return memory that another process can map, by a descriptor above 4: a child gets it as 3."""
    made = _memory_file()
    try:
        os.ftruncate(made.fileno(), size)
        return fds.duplicate(made.fileno(), 5)
    finally:
        made.close()


def _memory_file() -> fds.Fd:
    create = getattr(os, "memfd_create", None)
    if create is not None:
        return fds.open_fd(create, "penstock-guardian")
    import tempfile  # noqa: PLC0415 - only where the kernel has no files without a name

    number, path = tempfile.mkstemp()
    os.unlink(path)
    return fds.Fd(number)


def _map(fd: int, size: int) -> int:
    """Map it, without keeping a descriptor as `mmap.mmap` does."""
    address: int | None = _libc.mmap(None, size, 3, 1, fd, 0)  # PROT_READ | PROT_WRITE, MAP_SHARED
    if address is None or address == ctypes.c_void_p(-1).value:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return address

"""What the tests of faults share: calls that fail.

`fail` makes one kind of call of the package's own code fail, at chosen times. The patched calls of other code
(the tests', pytest's) go through, and so do those of the package that the kernel cannot refuse: a waker's.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from penstock.runtime import supervisor, taps
from penstock.streams import bulk_read
from penstock.system import poller, spawn

if TYPE_CHECKING:
    import select
    from collections.abc import Callable, Iterator


# Where the package finds each call; those that it has imported by name are replaced there too.
PLACES: dict[str, list[tuple[Any, str]]] = {
    "pipe": [(os, "pipe")],
    "open": [(os, "open")],
    "posix_spawn": [(spawn, "_launch")],
    "pidfd_open": [(os, "pidfd_open")],
    "read": [(os, "read"), (os, "readv"), (taps, "read")],
    "write": [(os, "write"), (os, "writev"), (taps, "write")],
    "splice": [(os, "splice")],
    "poll": [(poller.EpollPoller, "poll"), (poller.PollPoller, "poll")],
}
WAKERS = {("fds.py", "wake"), ("fds.py", "clear")}


class Failing:
    """A call that fails at times: how often it was made, and what was raised."""

    def __init__(self, number: int, when: Callable[[int], bool]) -> None:
        self._number = number
        self._when = when
        self._turns = itertools.count(1)
        self.calls = 0
        self.raised: list[OSError] = []

    def step(self) -> None:
        """Count a call; raise where it is its turn."""
        self.calls = turn = next(self._turns)
        if self._when(turn):
            error = OSError(self._number, os.strerror(self._number))
            self.raised.append(error)
            raise error


class Fail(Protocol):
    def __call__(
        self, call: str, number: int, when: Callable[[int], bool]
    ) -> contextlib.AbstractContextManager[Failing]: ...


@pytest.fixture(scope="session")
def fail() -> Fail:
    """Make a call of the package's fail with an errno wherever `when(turn)`, which counts from 1."""
    return _fail


@contextlib.contextmanager
def _fail(call: str, number: int, when: Callable[[int], bool]) -> Iterator[Failing]:
    failing = Failing(number, when)
    with pytest.MonkeyPatch.context() as patch:
        if call == "epoll_ctl":
            polled: Any = supervisor.supervisor()._poller
            if isinstance(polled, poller.EpollPoller):
                patch.setattr(polled, "_epoll", _Epoll(polled._epoll, failing))
        else:
            for owner, name in PLACES[call]:
                if hasattr(owner, name):
                    patch.setattr(owner, name, _wrapped(getattr(owner, name), failing))
        if call == "read":
            patch.setattr(bulk_read, "FileIO", partial(_Raw, failing))
        yield failing


class _Epoll:
    """The supervisor's epoll object, whose type cannot be patched."""

    def __init__(self, real: select.epoll, failing: Failing) -> None:
        self._real = real
        self._failing = failing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def register(self, *arguments: Any) -> None:
        """Register a descriptor, or fail."""
        self._failing.step()
        self._real.register(*arguments)


class _Raw(io.FileIO):
    """What many reads are gathered through, in C."""

    def __init__(self, failing: Failing, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._failing = failing

    def readinto(self, buffer: Any, /) -> int:
        """Read, or fail; None, as ever, where it would block."""
        try:
            self._failing.step()
        except BlockingIOError:
            return None  # type: ignore[return-value]
        return super().readinto(buffer)


def _wrapped(real: Callable[..., Any], failing: Failing) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        code = sys._getframe(1).f_code
        folder, _, file = code.co_filename.rpartition("/")
        if "/penstock/" in folder + "/" and (file, code.co_name) not in WAKERS:
            failing.step()
        return real(*arguments, **options)

    return call

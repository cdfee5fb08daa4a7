"""System calls that fail at chosen times, wherever the package makes them.

`failing` replaces one kind of call in `penstock.system.system_calls`; other code (the tests', pytest's) does
not go through that module. Starting a process is the one call that is patched in place: `spawn` chooses
between several mechanisms, and there is nothing below it that all of them share.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from penstock.system import spawn, system_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Failing", "failing"]

PLACES: dict[str, list[tuple[Any, str]]] = {
    "pipe": [(system_calls, "pipe")],
    "open": [(system_calls, "open_path")],
    "posix_spawn": [(spawn, "_launch")],
    "pidfd_open": [(system_calls, "pidfd_open")],
    "read": [(system_calls, "read"), (system_calls, "readv")],
    "write": [(system_calls, "write"), (system_calls, "writev")],
    "splice": [(system_calls, "splice"), (system_calls, "tee")],
    "poll": [(system_calls, "epoll_wait"), (system_calls, "poll_wait")],
    "epoll_ctl": [(system_calls, "epoll_register")],
}


class Failing:
    """A call that fails at times: how often it was made, and what was raised."""

    def __init__(self, number: int, when: Callable[[int], bool]) -> None:
        self._number = number
        self._when = when
        self._turns = itertools.count(1)
        self.calls = 0
        self.raised: list[OSError] = []

    def step(self) -> None:
        """Count a call; raise if it is its turn."""
        self.calls = turn = next(self._turns)
        if self._when(turn):
            error = OSError(self._number, os.strerror(self._number))
            self.raised.append(error)
            raise error


@contextlib.contextmanager
def failing(call: str, number: int, when: Callable[[int], bool]) -> Iterator[Failing]:
    """Let a kind of call fail with an errno whenever `when(turn)` is true; turns count from 1."""
    failing = Failing(number, when)
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in PLACES[call]:
            patch.setattr(owner, name, _wrapped(getattr(owner, name), failing))
        if call == "read":
            patch.setattr(system_calls, "FileIO", partial(_FailingFile, failing))
        yield failing


def _wrapped(real: Callable[..., Any], failing: Failing) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        failing.step()
        return real(*arguments, **options)

    return call


class _FailingFile(io.FileIO):
    """Fails as often as the reads of the streams do, for those that are made in bulk, in C."""

    def __init__(self, failing: Failing, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._failing = failing

    def readinto(self, buffer: Any, /) -> int:
        """Read, or fail; None if it would block, as ever."""
        try:
            self._failing.step()
        except BlockingIOError:
            return None  # type: ignore[return-value]
        return super().readinto(buffer)

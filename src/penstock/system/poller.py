"""Waiting for many descriptors at once: by epoll, or by poll(2) where there is none.

Both report the same masks. They differ in what a change means to a thread that is asleep in `poll`: epoll's
sleeper sees it at once, poll's does not before it is woken, which `notices_changes` tells. What may not live
here: what is done about an event.
"""

from __future__ import annotations

import errno
import math
import select
import time
from typing import Final, Protocol

from penstock.system import fds, features
from penstock.system.fork_guard import fork_guard

READ: Final = select.POLLIN
WRITE: Final = select.POLLOUT
# Reported without being asked for. POLLNVAL is a descriptor that was closed before it was removed.
HANGUP: Final = select.POLLHUP | select.POLLERR | select.POLLNVAL

# A sleep longer than this ends early, with nothing to report; the kernel counts milliseconds in a C int.
_MAX_TIMEOUT_S: Final = 1e6
_REFUSALS: Final = (errno.ENOMEM, errno.ENOSPC)
_FALLBACK_POLL_INTERVAL_S: Final = 0.01
"""Seconds between two looks at what epoll does not take."""


class Poller(Protocol):
    """A set of descriptors with the events each is watched for. The descriptors stay their owners'."""

    @property
    def notices_changes(self) -> bool:
        """Whether what was added or removed reaches a thread that is already asleep in `poll`."""
        raise NotImplementedError

    def add(self, fd: int, events: int) -> None:
        """Watch one; 0 watches for HANGUP alone.

        PermissionError from epoll for a regular file, which is always ready; poll(2) takes it.
        """

    def modify(self, fd: int, events: int) -> None:
        """Watch a descriptor that was added for other events."""

    def remove(self, fd: int) -> None:
        """Stop watching; one that is unknown is ignored.

        Do it before the descriptor is closed: a forked process's copy would keep the registration alive.
        """

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Return (number, events) of those that are ready, after at most `timeout` seconds; None waits.

        The list may be empty before the time is over.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Give back what the poller itself holds. Idempotent."""


class EpollPoller:
    """By epoll(7); descriptors may be added and removed by other threads while one is asleep.

    The kernel takes no more of them than it has memory for, and than the user may watch in all (ENOMEM,
    ENOSPC: epoll_ctl(2)). Those it refuses are looked at by poll(2), every few milliseconds.
    """

    def __init__(self) -> None:
        self._refused: dict[int, int] = {}
        with fork_guard:
            self._epoll = select.epoll()
            fds.register(self._epoll.fileno(), self)

    @property
    def notices_changes(self) -> bool:
        """A sleeper does, except of those that were refused."""
        return not self._refused

    def add(self, fd: int, events: int) -> None:
        """Watch one."""
        try:
            self._epoll.register(fd, events)
        except FileExistsError:  # by a call that was interrupted
            self._epoll.modify(fd, events)
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
            self._refused[fd] = events

    def modify(self, fd: int, events: int) -> None:
        """Watch it for other events."""
        if fd in self._refused:
            self._refused[fd] = events
        else:
            self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Stop watching."""
        if self._refused.pop(fd, None) is not None:
            return
        try:  # noqa: SIM105 - `suppress` takes longer than the rest of this
            self._epoll.unregister(fd)
        except (OSError, ValueError):
            pass  # unknown, closed (then the kernel has removed it), or the poller itself is closed

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait."""
        if not self._refused:
            return self._epoll.poll(None if timeout is None else min(max(timeout, 0), _MAX_TIMEOUT_S))
        end = time.monotonic() + (_MAX_TIMEOUT_S if timeout is None else timeout)
        while True:
            ready = self._poll_refused()
            left = end - time.monotonic()
            ready += self._epoll.poll(0 if ready else max(0, min(left, _FALLBACK_POLL_INTERVAL_S)))
            if ready or left <= 0:
                return ready

    def _poll_refused(self) -> list[tuple[int, int]]:
        """Ask about those that were refused."""
        poll = select.poll()
        for fd, events in self._refused.copy().items():
            poll.register(fd, events)
        return poll.poll(0)

    def close(self) -> None:
        """Close the descriptor of the epoll set."""
        with fork_guard:
            if not self._epoll.closed:
                fds.unregister(self)
                self._epoll.close()

    def abandon(self) -> None:
        """Close the copy in a forked process. The parent's set is not touched by that."""
        self._epoll.close()


class PollPoller:
    """By poll(2), without a descriptor of its own. A sleeper must be woken to notice a change."""

    @property
    def notices_changes(self) -> bool:
        """It does not."""
        return False

    def __init__(self) -> None:
        self._poll = select.poll()

    def add(self, fd: int, events: int) -> None:
        """Watch one."""
        self._poll.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        """Watch it for other events."""
        self._poll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Stop watching."""
        try:  # noqa: SIM105 - as above
            self._poll.unregister(fd)
        except KeyError:
            pass

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait."""
        return self._poll.poll(
            None if timeout is None else math.ceil(min(max(timeout, 0), _MAX_TIMEOUT_S) * 1000)
        )

    def close(self) -> None:
        """Forget all descriptors."""
        self._poll = select.poll()


def new_poller() -> Poller:
    """Return the best kind that this platform has."""
    return EpollPoller() if features.EPOLL else PollPoller()

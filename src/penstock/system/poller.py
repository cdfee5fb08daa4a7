"""Wait for many descriptors at once: by epoll, or by poll(2) if there is no epoll.

Both report the same masks. They differ when a set changes while a thread sleeps in `poll`: epoll notices the
change at once, poll(2) not before the thread is woken. `notices_changes` tells which. Out of scope: the
reaction to an event.
"""

from __future__ import annotations

import errno
import fcntl
import math
import select
import time

from penstock.system import fds, features, system_calls
from penstock.system.fork_guard import fork_guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Protocol
else:
    Protocol = object

READ: Final = select.POLLIN
WRITE: Final = select.POLLOUT
# Always reported. POLLNVAL means that the descriptor was closed before it was removed.
HANGUP: Final = select.POLLHUP | select.POLLERR | select.POLLNVAL

# A sleep longer than this ends early, with nothing to report; the kernel counts milliseconds in a C int.
_MAX_TIMEOUT_S: Final = 1e6
_REFUSALS: Final = (errno.ENOMEM, errno.ENOSPC)
_FALLBACK_POLL_INTERVAL_S: Final = 0.01
"""Seconds between two polls of the descriptors that epoll does not take."""


class Poller(Protocol):
    """A set of descriptors and the events to watch for. It does not own the descriptors."""

    @property
    def notices_changes(self) -> bool:
        """Whether a thread that already sleeps in `poll` notices additions and removals."""
        raise NotImplementedError

    def add(self, fd: int, events: int) -> None:
        """Watch a descriptor. With 0, watch for HANGUP alone.

        PermissionError from epoll for a regular file, which is always ready; poll(2) takes it.
        """

    def modify(self, fd: int, events: int) -> None:
        """Watch an added descriptor for other events."""

    def remove(self, fd: int) -> None:
        """Stop watching. An unknown descriptor is ignored.

        Call it before the descriptor is closed, because a copy in a forked process keeps the registration.
        """

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Return (fd, events) of ready descriptors, after at most `timeout` seconds; None waits forever.

        The list may be empty before the time is over.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the descriptor of the poller itself. Idempotent."""


class EpollPoller:
    """By epoll(7). Other threads may add and remove descriptors while one sleeps.

    The kernel refuses a descriptor when memory or the user's limit of watches runs out (ENOMEM, ENOSPC:
    epoll_ctl(2)). Refused ones are checked by poll(2), every few milliseconds.
    """

    def __init__(self) -> None:
        self._refused: dict[int, int] = {}
        with fork_guard:
            self._epoll = _epoll_above_stdio()
            fds.register(self._epoll.fileno(), self)

    @property
    def notices_changes(self) -> bool:
        """True, unless epoll has refused a descriptor."""
        return not self._refused

    def add(self, fd: int, events: int) -> None:
        """Watch one."""
        try:
            system_calls.epoll_register(self._epoll, fd, events)
        except FileExistsError:  # added by a call that was interrupted
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
            return system_calls.epoll_wait(
                self._epoll, None if timeout is None else min(max(timeout, 0), _MAX_TIMEOUT_S)
            )
        end = time.monotonic() + (_MAX_TIMEOUT_S if timeout is None else timeout)
        while True:
            ready = self._poll_refused()
            left = end - time.monotonic()
            ready += system_calls.epoll_wait(
                self._epoll, 0 if ready else max(0, min(left, _FALLBACK_POLL_INTERVAL_S))
            )
            if ready or left <= 0:
                return ready

    def _poll_refused(self) -> list[tuple[int, int]]:
        """Poll the descriptors that epoll has refused."""
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
        """Close the copy in a forked process, which leaves the parent's set as it is."""
        self._epoll.close()


def _epoll_above_stdio() -> select.epoll:
    """Make a set above 2: in a host without stderr, it would be the stderr of all children."""
    made = select.epoll()
    if made.fileno() > 2:
        return made
    try:
        return select.epoll.fromfd(fcntl.fcntl(made.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))
    finally:
        made.close()


class PollPoller:
    """By poll(2), without a descriptor of its own. A sleeping thread must be woken to notice a change."""

    @property
    def notices_changes(self) -> bool:
        """False."""
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
        return system_calls.poll_wait(
            self._poll, None if timeout is None else math.ceil(min(max(timeout, 0), _MAX_TIMEOUT_S) * 1000)
        )

    def close(self) -> None:
        """Forget all descriptors."""
        self._poll = select.poll()


def new_poller() -> Poller:
    """Return the best poller that this platform, and the system at this moment, has to give."""
    if features.EPOLL:
        try:
            return EpollPoller()
        except OSError:  # no descriptor or memory for it, or a sandbox that refuses the call
            pass
    return PollPoller()

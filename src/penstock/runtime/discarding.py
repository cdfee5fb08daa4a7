"""Read on, for nobody, what processes write that a command has left behind.

A server that a command starts in the background has the command's stderr. Its run ends when the command does,
and nobody reads that pipe from then on. If its read end were closed, the next message would end the server by
SIGPIPE; if it were kept and not read, the server would wait for room for ever. So the supervisor reads it to
its end, and drops the bytes. This costs one descriptor as long as such a process lives. When the host ends,
the pipe does too.
"""

from __future__ import annotations

from penstock.runtime.supervisor import supervisor
from penstock.system import system_calls
from penstock.system.poller import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.runtime.reactor import Reactor
    from penstock.system.fds import Fd

__all__ = ["discard_until_end"]

_CHUNK_SIZE = 65536
_MAX_READS_PER_WAKEUP = 16
"""Reads in a row before the descriptors of runs get their turn."""


def discard_until_end(fd: Fd) -> None:
    """Read a non-blocking pipe to its end, in the supervisor's thread; then close it. From any thread."""
    try:
        _Discarder(supervisor(), fd).start()
    except (OSError, RuntimeError):  # no descriptor or no thread for a supervisor
        fd.close()


class _Discarder:
    def __init__(self, reactor: Reactor, fd: Fd) -> None:
        self._reactor = reactor
        self._fd = fd

    def start(self) -> None:
        self._reactor.watch(self._fd.fileno(), READ, self._ready)

    def _ready(self, _events: int) -> None:
        try:
            for _ in range(_MAX_READS_PER_WAKEUP):
                if not system_calls.read(self._fd.fileno(), _CHUNK_SIZE):
                    break
            else:
                return
        except BlockingIOError:
            return
        except (OSError, ValueError):  # ValueError: a call for a descriptor that had its number
            pass
        if not self._fd.closed:
            self._reactor.unwatch(self._fd.fileno())
            self._fd.close()

"""Messages between the host and one worker process, over a socket that also passes file descriptors.

A message is a length and so many bytes; the senders, `isolation.running` and `isolation.worker_main`, define
the content. The host's side never blocks: `send` queues, and `flush` writes as much as the socket takes. The
worker's side may wait for room (`send_all`), in any of its threads: `_lock` keeps messages whole.
"""

from __future__ import annotations

import select
import struct
import threading

from penstock.system import fd_passing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.system.fds import Fd

__all__ = ["Channel"]

_LENGTH = struct.Struct("!Q")
_CHUNK = 65536


class Channel:
    """One end of the socket; owns it."""

    def __init__(self, fd: Fd) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._out = bytearray()
        self._rights: Sequence[int] = ()
        self._in = bytearray()
        self.arrived: list[Fd] = []
        """File descriptors that came in; the code that takes them out owns them."""
        self.ended = False
        """Whether the peer has closed its end, or is dead."""

    def fileno(self) -> int:
        """Return the file descriptor to poll."""
        return self._fd.fileno()

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Queue a message. Descriptors travel with its first byte; keep them open until `flush` is true."""
        with self._lock:
            self._out += _LENGTH.pack(len(data))
            self._out += data
            if descriptors:
                self._rights = descriptors

    def flush(self) -> bool:
        """Write what the socket takes now. Return whether that was all, which is also true of a dead peer.

        Raises OSError if the descriptors cannot be passed (ETOOMANYREFS).
        """
        with self._lock:
            while self._out:
                try:
                    with memoryview(self._out) as view:
                        written = fd_passing.send_fds(self._fd.fileno(), view, self._rights)
                except BlockingIOError:
                    return False
                except (BrokenPipeError, ConnectionResetError):
                    written = len(self._out)
                del self._out[:written]
                self._rights = ()
            return True

    def send_all(self, data: bytes) -> None:
        """Send a message, and wait until the socket has taken it."""
        self.send(data)
        poll = select.poll()
        poll.register(self._fd.fileno(), select.POLLOUT)
        while not self.flush():
            poll.poll()

    def receive(self) -> list[bytes]:
        """Return the messages that are complete by now."""
        while not self.ended:
            try:
                data, fds = fd_passing.recv_fds(self._fd.fileno(), _CHUNK)
            except BlockingIOError:
                break
            except ConnectionResetError:
                data, fds = b"", []
            self.arrived += fds
            self._in += data
            self.ended = not data
        messages = []
        while len(self._in) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._in)
            end = _LENGTH.size + length
            if len(self._in) < end:
                break
            messages.append(bytes(self._in[_LENGTH.size : end]))
            del self._in[:end]
        return messages

    def close(self) -> None:
        """Close the socket, and the descriptors in `arrived`. Idempotent."""
        for fd in self.arrived:
            fd.close()
        self._fd.close()

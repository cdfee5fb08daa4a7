"""Bytes that are left in the pipe to the first stage when the stages have ended, and go back to their source.

They are read through a second description of the pipe's reading end, which is non-blocking: a process that a
command has left behind may have the first one, and may take the bytes at the same time.
"""

from __future__ import annotations

import contextlib
import os
import threading

from penstock.system.fds import open_again

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.system.fds import Fd

__all__ = ["PipeRest"]

_CHUNK_BYTES = 65536


class PipeRest:
    """The bytes left in a pipe, and the function that takes them."""

    __slots__ = ("_chunks", "_fd", "_give_back", "_lock")

    def __init__(self, read_end: Fd, give_back: Callable[[bytes], object]) -> None:
        self._fd = open_again(read_end.fileno())
        self._give_back: Callable[[bytes], object] | None = give_back
        self._chunks: list[bytes] = []
        self._lock = threading.Lock()

    def give_back(self, unsent: bytes = b"") -> None:
        """Give back what is in the pipe and then `unsent`, and close the descriptor. Idempotent.

        A worker and the reactor may both call it, also again after an interrupt.
        """
        with self._lock:
            fd = self._fd
            if self._give_back is None:
                return
            if fd is not None and not fd.closed:
                with contextlib.suppress(OSError):  # BlockingIOError: it is empty
                    while chunk := os.read(fd.fileno(), _CHUNK_BYTES):
                        self._chunks.append(chunk)
                fd.close()
            data = b"".join((*self._chunks, unsent))
            # Forgotten first: an interrupt may lose the bytes, but nobody gets them twice.
            give_back, self._give_back = self._give_back, None
            give_back(data)

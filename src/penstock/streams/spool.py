"""Byte queues that hold what a reader does not take yet: in memory first, then in files without a name.

All queues of a run share one `SpoolBudget`. A queue has a `window` that the budget does not count. Beyond it
each chunk is counted, and goes to a file when the run holds `memory` bytes in memory already. A queue writes
its files one after the other and closes each one that it has read, which frees the disk from the front.
A file takes 64 MiB, or a quarter of what the queue has on disk if that is more, so that a queue of 10 GiB has
about 20 descriptors.

One thread at a time uses a queue. The budget is thread-safe.

Out of scope: the decision to spool at all (`relay`).
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque

from penstock.core.errors import SpoolLimitExceeded
from penstock.system.unnamed_file import free_bytes, open_unnamed, storage_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypeAlias

    from penstock.system.fds import Fd

    Data: TypeAlias = bytes | bytearray | memoryview

__all__ = ["SpoolBudget", "SpoolQueue"]

_DEFAULT_LIMIT: Final = 10 << 30
_SEGMENT_BYTES = 64 << 20
_LOAD_BYTES: Final = 1 << 18
"""Bytes that are read from a file at once."""
_SMALL: Final = 4096
"""Chunks below this are joined: each object costs memory and a write of its own."""
_JOINED: Final = 65536


class SpoolBudget:
    """The bytes that the queues of a run may hold beyond their windows.

    `limit` is the most bytes held at one time; None means 10 GiB or half of the folder's free space,
    whichever is less, but at least `memory`. The first `memory` bytes are in memory. `held` and `peak` are
    the bytes that are held now, and the most that were held at one time.
    """

    def __init__(self, limit: int | None = None, memory: int = 64 << 20) -> None:
        self._lock = threading.Lock()
        self._limit = limit
        self._memory = memory
        self._in_memory = 0
        self._folder: str | None = None
        self.held = 0
        self.peak = 0

    def __repr__(self) -> str:
        return f"<SpoolBudget held={self.held} peak={self.peak} limit={self._limit}>"

    @property
    def forbids(self) -> bool:
        """Whether nothing may be held, `limit=0`."""
        return self._limit == 0

    def folder(self) -> str:
        """Return the folder of the files, chosen once."""
        if self._folder is None:
            self._folder = storage_folder()
        return self._folder

    def reserve(self, in_memory: int, on_disk: int) -> bool:
        """Count a chunk, and return whether it may stay in memory.

        It counts `in_memory` bytes if it may, and otherwise `on_disk` bytes. Raises SpoolLimitExceeded, and
        then counts nothing.
        """
        if self._limit is None:
            self._limit = max(self._memory, min(_DEFAULT_LIMIT, self._free_bytes() // 2))
        with self._lock:
            fits = self._in_memory + in_memory <= self._memory
            size = in_memory if fits else on_disk
            if self.held + size > self._limit:
                raise SpoolLimitExceeded(self._limit)
            if fits:
                self._in_memory += size
            self.held += size
            self.peak = max(self.peak, self.held)
        return fits

    def give_back(self, in_memory: int, on_disk: int) -> None:
        """Count bytes no longer."""
        with self._lock:
            self._in_memory -= in_memory
            self.held -= in_memory + on_disk

    def _free_bytes(self) -> int:
        try:
            return free_bytes(self.folder())
        except OSError:  # a missing folder is an error only if a file is needed
            return 0


class _Joined(bytearray):
    """A chunk that small ones are added to."""


class _Segment:
    """A file of a queue: `written` bytes are in it."""

    __slots__ = ("fd", "room", "written")

    def __init__(self, fd: Fd, room: int) -> None:
        self.fd = fd
        self.room = room
        self.written = 0

    def append(self, data: memoryview) -> None:
        done = 0
        while done < len(data):
            done += os.pwrite(self.fd.fileno(), data[done:], self.written + done)
        self.written += done


class _Stored:
    """Bytes of a segment that are yet to be read."""

    __slots__ = ("end", "segment", "start")

    def __init__(self, segment: _Segment, start: int) -> None:
        self.segment = segment
        self.start = start
        self.end = segment.written


class SpoolQueue:
    """A queue of bytes. Chunks are kept as they are given, so the caller must not change them later."""

    __slots__ = (
        "_budget", "_chunks", "_front", "_front_stored", "_in_memory", "_on_disk", "_segments", "_window",
    )  # fmt: skip

    def __init__(self, budget: SpoolBudget, window: int = 0) -> None:
        self._budget = budget
        self._window = window
        self._chunks: deque[Data | _Stored] = deque()
        self._front: memoryview = _NOTHING
        self._front_stored = False
        self._in_memory = 0
        self._on_disk = 0
        self._segments: deque[_Segment] = deque()

    def __len__(self) -> int:
        return self._in_memory + self._on_disk

    def append(self, data: Data) -> None:
        """Add bytes to the end. Raises SpoolLimitExceeded or the OSError of a file, and then adds nothing."""
        size = len(data)
        if not size:
            return
        counted = self._beyond_window(self._in_memory + size) - self._beyond_window(self._in_memory)
        if counted and not self._budget.reserve(counted, size):
            try:
                self._store(memoryview(data))
            except BaseException:
                self._budget.give_back(0, size)
                raise
            self._on_disk += size
            return
        if not (size < _SMALL and self._join(data)):
            self._chunks.append(_Joined(data) if size < _SMALL else data)
        self._in_memory += size

    def peek(self, size: int) -> memoryview:
        """Return the first bytes, at most `size`, and at least one unless the queue is empty.

        The view is valid until `drop`; its bytes are not copied.
        """
        if not len(self._front) and self._chunks:
            self._load()
        return self._front[:size]

    def drop(self, size: int) -> None:
        """Remove the first `size` bytes, as many as `peek` returned at most."""
        if size > len(self._front):
            raise ValueError(f"drop() of {size} bytes, of which peek() has shown {len(self._front)}")
        self._front = self._front[size:] if size < len(self._front) else _NOTHING
        if self._front_stored:
            self._on_disk -= size
            self._budget.give_back(0, size)
            return
        before = self._beyond_window(self._in_memory)
        self._in_memory -= size
        counted = before - self._beyond_window(self._in_memory)
        if counted:
            self._budget.give_back(counted, 0)

    def close(self) -> None:
        """Forget all bytes, and give memory and disk back. Idempotent."""
        in_memory, self._in_memory = self._in_memory, 0
        on_disk, self._on_disk = self._on_disk, 0
        if in_memory or on_disk:
            self._budget.give_back(self._beyond_window(in_memory), on_disk)
        self._chunks.clear()
        self._front = _NOTHING
        while self._segments:
            self._segments[0].fd.close()
            self._segments.popleft()

    def _beyond_window(self, size: int) -> int:
        return max(0, size - self._window)

    def _join(self, data: Data) -> bool:
        """Add a small chunk to the last one, if that is made of small ones too."""
        last = self._chunks[-1] if self._chunks else None
        if not isinstance(last, _Joined) or len(last) >= _JOINED:
            return False
        last += data
        return True

    def _load(self) -> None:
        """Make the next chunk the front, from a file if it is there."""
        chunk = self._chunks[0]
        if not isinstance(chunk, _Stored):
            self._front, self._front_stored = memoryview(chunk), False
            self._chunks.popleft()
            return
        size = min(_LOAD_BYTES, chunk.end - chunk.start)
        data = os.pread(chunk.segment.fd.fileno(), size, chunk.start)
        if not data:
            raise OSError(errno.EIO, f"{os.strerror(errno.EIO)}: a spool file is shorter than it was")
        self._front, self._front_stored = memoryview(data), True
        chunk.start += len(data)
        if chunk.start < chunk.end:
            return
        self._chunks.popleft()
        if chunk.end == chunk.segment.written:  # everything before this was read earlier
            self._release(chunk.segment)

    def _release(self, segment: _Segment) -> None:
        """Free the disk of a segment that has been read."""
        if segment is self._segments[-1]:  # kept for the next chunk
            os.ftruncate(segment.fd.fileno(), 0)
            segment.written = 0
            return
        self._segments.remove(segment)
        segment.fd.close()

    def _store(self, data: memoryview) -> None:
        """Append to a file."""
        if not self._segments or self._segments[-1].written >= self._segments[-1].room:
            room = max(_SEGMENT_BYTES, self._on_disk // 4)
            self._segments.append(_Segment(open_unnamed(self._budget.folder()), room))
        segment = self._segments[-1]
        start = segment.written
        segment.append(data)
        last = self._chunks[-1] if self._chunks else None
        if isinstance(last, _Stored) and last.segment is segment and last.end == start:
            last.end = segment.written
        else:
            self._chunks.append(_Stored(segment, start))


_NOTHING: Final = memoryview(b"")

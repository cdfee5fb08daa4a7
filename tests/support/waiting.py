"""Waits with one deadline. Prefer waiting for an event, a pipe or an exit; use `until` for all else."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from penstock.streams.fd_streams import FdReader, FdWriter
from penstock.streams.memory_pipe import MemoryReader, MemoryWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.streams.reader import Reader
    from penstock.streams.writer import Writer

__all__ = ["DEADLINE", "asleep", "until", "until_blocked"]

DEADLINE = 20.0
"""Seconds after which a test gives up: far more than any wait takes on a busy machine."""

_POLL_INTERVAL_S = 0.002


def until(condition: Callable[[], object], timeout: float = DEADLINE) -> None:
    """Check a condition again and again until it is true; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "this did not become true in time"
        time.sleep(_POLL_INTERVAL_S)


def until_blocked(stream: Reader | Writer) -> None:
    """Wait until a thread sleeps in this end, or is about to and will check once more before it does."""
    deadline = time.monotonic() + DEADLINE
    while not _is_blocked(stream):
        assert time.monotonic() < deadline, f"nobody blocks in {stream!r}"
        os.sched_yield()


def asleep(thread: int | None) -> bool:
    """Tell whether a thread is blocked in one of Penstock's streams: it is found there again and again."""
    for _ in range(50):
        frame = sys._current_frames().get(thread or 0)
        if frame is None or "/penstock/streams/" not in frame.f_code.co_filename:
            return False
        os.sched_yield()
    return True


def _is_blocked(stream: Reader | Writer) -> bool:
    if isinstance(stream, MemoryReader):
        return stream._state.reader_asleep
    if isinstance(stream, MemoryWriter):
        return stream._state.writer_asleep
    assert isinstance(stream, FdReader | FdWriter)
    return stream._descriptor._poll is not None

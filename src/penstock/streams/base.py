"""The state that both ends of every stream share: closed, or interrupted from another thread.

One thread reads or writes a stream, and any other may stop it. The stopping thread sets the state under the
stream's lock and then calls the hook `_wake()`. The using thread checks `_stopped` before each operation, and
a subclass that blocks checks again after every sleep. Nothing in this module blocks. Out of scope: I/O.
"""

from __future__ import annotations

import threading
import time

from penstock.core.public import half_made_too
from penstock.core.timing import timing

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select
    from collections.abc import Callable
    from types import TracebackType
    from typing import Protocol, Self

    from penstock.streams.probe import Probe
else:
    Protocol = object

__all__ = ["Stream", "before_sleep", "max_sleep", "poll_until_ready"]


class _BeforeSleep(threading.local):
    """Calls this thread's `hook()` before it sleeps in a stream; most threads have none."""

    hook: Callable[[], None] | None = None

    def __call__(self) -> None:
        if self.hook is not None:
            self.hook()


before_sleep = _BeforeSleep()


def max_sleep() -> float:
    """Return how many seconds the calling thread may sleep in one piece; -1 if there is no limit.

    Only the main thread runs signal handlers, and `Timing.max_sleep_s` says what it may miss.
    """
    return timing.max_sleep_s if threading.get_ident() == threading.main_thread().ident else -1


class Waiter(Protocol):
    """Something that says since when it has waited, by `time.monotonic()`; None if it does not wait."""

    waiting_since: float | None


def poll_until_ready(poll: select.poll, waiter: Waiter) -> None:
    """Sleep until `poll` reports something."""
    limit_ms = max_sleep() * 1000
    waiter.waiting_since = time.monotonic()
    try:
        while not poll.poll(limit_ms):
            pass
    finally:
        waiter.waiting_since = None


class Stream:
    """One end of a stream."""

    __slots__ = (
        "__weakref__",
        "_closed",
        "_count",
        "_lock",
        "_reason",
        "_released",
        "_stopped",
        "_traceback",
    )

    def __init__(self, lock: threading.Lock | None = None) -> None:
        self._count = 0
        self._lock = threading.Lock() if lock is None else lock
        self._closed = False
        self._released = False
        self._stopped = False  # closed or interrupted: the one flag that the fast paths look at
        self._reason: BaseException | None = None
        self._traceback: TracebackType | None = None

    @half_made_too
    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._reason is None else "interrupted"
        return f"<{type(self).__name__} {state} count={self.count}>"

    @property
    def count(self) -> int:
        """The number of bytes that this end delivered (a reader) or took (a writer)."""
        return self._count

    def probe(self) -> Probe:
        """Return what this end shows from outside; see `streams.probe`. From any thread."""
        descriptor = getattr(self, "_descriptor", None)  # only streams over one have it (`fd_streams`)
        if descriptor is None:
            return self.count, None, None
        return self.count, descriptor.waiting_since is not None, descriptor._fd  # noqa: SLF001 - of its own package

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._closed

    def readable(self) -> bool:
        """Whether this end is for reading."""
        return False

    def writable(self) -> bool:
        """Whether this end is for writing."""
        return False

    def seekable(self) -> bool:
        """Return False: no stream of a pipeline can seek."""
        return False

    def poison(self, reason: BaseException) -> None:
        """Make every later read or write raise `reason`, and one under way that fails from now on.

        Wakes no thread.
        """
        with self._lock:
            if self._reason is None:
                self._traceback = reason.__traceback__
                self._reason = reason
                self._stopped = True

    def interrupt(self, reason: BaseException) -> None:
        """Make a blocked read or write of this end, and every later one, raise `reason`; from any thread.

        The first reason stays. The stream's other end is not touched: it sees EOF, or a closed pipe, once
        this end is closed.
        """
        self.poison(reason)
        self._wake()

    def nudge(self) -> None:
        """Have a thread that is blocked in this end call its `before_sleep` hook once more; from any thread.

        The hook may raise, which ends that one read or write, and leaves the stream usable.
        """
        self._wake()

    def close(self) -> None:
        """Close this end; idempotent, from any thread. A read or write blocked in it raises ValueError."""
        with self._lock:
            if self._released:
                return
            self._closed = True
            self._stopped = True
        self._wake()
        self._release()
        self._released = True  # last: if a step of this raises, it is taken again

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wake(self) -> None:
        """Wake the thread that is blocked in this end, if any, to see that the state has changed."""

    def _release(self) -> None:
        """Release the resources of this end, after the state says closed. Perhaps more than once."""

    def _stop_error(self) -> BaseException:
        """Return the exception to raise now that this end is stopped."""
        if self._reason is not None:
            # Each raise adds to the exception's traceback, so a function that tries again and again would
            # grow it without bound. Therefore each raise begins where the reason's own traceback ended.
            return self._reason.with_traceback(self._traceback)
        return ValueError(f"{'read' if self.readable() else 'write'} of a closed stream")

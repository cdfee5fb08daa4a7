"""Deliver events and lines to user handlers: in order, one at a time, in a worker thread.

The supervisor only appends to the queue. If a handler raises, the error is logged and the next call follows.
A slow handler delays only itself, with one exception: the end of a run waits for it a moment (`flush`), so
that everything a quick handler collects is complete when `run()` returns.

`_lock` guards the queue and the flag that says whether a worker delivers. It is not held while a handler
runs, nor while `flush` sleeps. The garbage collector may flush in a thread that holds it, so it is an RLock.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque

from penstock.core.noop import noop
from penstock.runtime import thread_pool
from penstock.runtime.log import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Dispatcher"]

_SLOW_CALL_S = 0.2
"""Seconds that one call may take before `flush` stops waiting for it."""
_MAX_START_S = 5.0
"""Seconds that `flush` waits for the worker to begin. No user code runs by then: the machine is slow."""


class Dispatcher:
    """A queue of calls, delivered in order."""

    def __init__(self, on_error: Callable[[BaseException], None] | None = None) -> None:
        self._on_error = on_error
        self._lock = threading.RLock()
        self._queue: deque[tuple[Callable[[], object], int]] = deque()
        self._delivering = False
        self._since: float | None = None
        """When the call that is being delivered began; None if the worker has not begun."""
        self._thread: int | None = None
        """The worker that delivers."""
        self._gates: list[threading.Lock] = []
        """Opened when the queue has run empty; whoever flushes sleeps on one."""
        self.pending = 0
        """Bytes that wait for delivery; used for back-pressure."""
        self.on_drained: list[Callable[[], None]] = []
        """Called in the worker when the queue has run empty."""

    def submit(self, call: Callable[[], object], size: int = 0) -> None:
        """Queue a call that holds on to `size` bytes."""
        with self._lock:
            self._queue.append((call, size))
            self.pending += size
        self._start()

    @property
    def busy(self) -> bool:
        """Whether some call is still to be delivered."""
        return self._delivering or bool(self._queue)

    def flush(self) -> None:
        """Wait until all calls are delivered, or one has taken longer than `_SLOW_CALL_S`.

        Return at once in a call that is being delivered.
        """
        if not self.busy or self._thread == threading.get_ident():
            return
        if not self._delivering:
            self._start()
        begin_by = time.monotonic() + _MAX_START_S
        gate = threading.Lock()
        gate.acquire()
        while self._delivering:
            since = self._since
            patience = (begin_by if since is None else since + _SLOW_CALL_S) - time.monotonic()
            if patience <= 0:
                return
            self._gates.append(gate)
            if self._delivering:  # else the worker may have opened the gates just before
                gate.acquire(timeout=patience)

    def _start(self) -> None:
        """Have a worker deliver, unless one does or there is nothing to deliver."""
        try:
            with self._lock:
                if self._delivering or not self._queue:
                    return
                self._delivering = True
                self._since = None
            thread_pool.submit(self._deliver, self._deliver_again)
        except BaseException as error:  # no thread, an interrupt: the next `submit` or `flush` tries again
            with self._lock:
                self._delivering = self._thread is not None
            if not isinstance(error, Exception):
                raise

    def _deliver_again(self, _error: BaseException) -> None:
        """Go on after a step of `_deliver` has raised; a handler does not get that far."""
        self._deliver()

    def _deliver(self) -> None:
        with self._lock:
            if self._thread not in {None, threading.get_ident()}:
                return  # a worker was given the queue twice, since the first time seemed to have failed
            self._delivering = True
            self._thread = threading.get_ident()
        while True:
            with self._lock:
                if not self._queue:
                    self._delivering = False
                    self._thread = None
                    gates, self._gates = self._gates, []
                    listeners = tuple(self.on_drained)
                    break
                call, size = self._queue.popleft()
                self._since = time.monotonic()
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - the run goes on, whatever user code raises
                if self._on_error is None:
                    report("a handler raised")
                else:
                    self._on_error(error)
            call = noop  # drop the delivered event
            with self._lock:
                self.pending -= size
        for gate in gates:
            with contextlib.suppress(RuntimeError):  # it is open already
                gate.release()
        for listener in listeners:
            listener()

"""Exceptions out of the package's own calls, in any thread, between the start of a run and its verdict."""

from __future__ import annotations

import contextlib
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from penstock.engine.execution import Execution
from penstock.runtime import thread_pool
from penstock.runtime.supervisor import supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["CallFault", "Place", "injecting"]

Place = tuple[str, str, int]
"""A function, by file and qualified name, the line that calls it, and which of these calls it is."""

# Out of a finalizer nothing can be raised, and out of a generator expression not at its start. The others are
# the frames that catch: the outermost one of a thread of ours, or of what an event loop calls, has no caller
# that could. And lines are split in the thread of the caller, who reads them, and outside of the run.
_LEFT_OUT = (
    "<genexpr>",
    "__del__",
    "_Worker.run",
    "_Supervisor._loop",
    "Loop._drain",
    "LineSplitter.feed",
    "LinesInHand.drop",
)


class CallFault:
    """Raises once, at the start of one chosen call of a function of the package, in whatever thread.

    Without a place it only counts. Calls count from the start of the first run to its verdict.
    """

    def __init__(
        self, place: Place | None = None, error: BaseException | None = None, *, turns: int = 2
    ) -> None:
        """`turns`: so many calls from each line are told apart; a loop makes more."""
        self.places: list[Place] = []
        self.raised = False
        self._place = place
        self._error = error
        self._counts: dict[tuple[str, str], int] = {}
        self._turns = turns
        self._lock = threading.Lock()
        self._run: Execution | None = None

    def forget(self) -> None:
        """Let go of the exception and of the run."""
        self._error = self._run = None

    def __call__(self, frame: FrameType, event: str, _argument: object) -> Any:
        """Trace."""
        code = frame.f_code
        _, found, file = code.co_filename.partition("/src/penstock/")
        if event != "call" or not found or code.co_qualname.endswith(_LEFT_OUT):
            return None
        caller = frame.f_back
        if caller is not None and "/tests/" in caller.f_code.co_filename:
            return None  # the call of a user, who has the exception; the run goes on
        if code is Execution.start.__code__ and self._run is None:
            self._run = frame.f_locals["self"]
        if self._run is None or self._run.ended._set or frame.f_lasti > _START:
            return None  # `f_lasti`: a generator that goes on
        if _in_finalizer(frame):
            return None
        caller = frame.f_back
        line = "" if caller is None else f"{caller.f_code.co_qualname}:{caller.f_lineno}"
        site = f"{file}:{code.co_qualname}", line
        with self._lock:
            turn = self._counts[site] = self._counts.get(site, 0) + 1
            place = *site, turn
            if turn > self._turns:
                return None
            self.places.append(place)
            if place != self._place or self.raised or self._error is None:
                return None
            self.raised = True
        raise self._error


_START = 8
"""Bytes of the instructions that a function begins with, before its own."""


def _in_finalizer(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


class _NeverIdle(list[Any]):
    """Has each task run in a new thread, which is traced from its start; a thread that is done ends."""

    def append(self, _worker: Any) -> None:
        """Keep none."""


@contextlib.contextmanager
def injecting(fault: CallFault) -> Iterator[CallFault]:
    """Have a fault see all threads of the package, the supervisor and new workers too."""
    before = sys.gettrace()
    reactor = supervisor()
    seen = threading.Event()
    thread_pool._idle = _NeverIdle()
    threading.settrace(fault)
    reactor.post(partial(sys.settrace, fault))
    reactor.post(seen.set)
    seen.wait()
    sys.settrace(fault)
    try:
        yield fault
    finally:
        thread_pool._idle = []
        sys.settrace(before)
        threading.settrace(before)
        seen.clear()
        supervisor().post(partial(sys.settrace, None))
        supervisor().post(seen.set)
        seen.wait()

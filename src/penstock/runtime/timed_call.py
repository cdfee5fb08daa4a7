"""A short call of an object that another thread may hold, with an end to the wait.

io's buffered objects have a lock, and no way to ask whether it is free. A thread that sits in `read()` holds
it until bytes come. So a worker makes the call, and the caller stops waiting for it after a while. A call
that comes to its end too late is undone.

Out of scope: calls that may take long by themselves (`runtime.guarded_call`).
"""

from __future__ import annotations

import _thread
import threading

from penstock.core.timing import timing
from penstock.runtime import thread_pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    _Answer = TypeVar("_Answer")

__all__ = ["call_in_time"]


def call_in_time(function: Callable[[], _Answer], undo: Callable[[_Answer], object] | None = None) -> _Answer:
    """Return `function()`. Raises TimeoutError if it does not return within `timing.object_lock_s`.

    If it returns later all the same, `undo(answer)` is called.
    """
    if _thread._count() == 0:  # noqa: SLF001 - the caller is the only thread, so nobody else holds a lock
        return function()
    call = _Call(function, undo)
    try:
        thread_pool.submit(call.make)
    except RuntimeError:  # no thread to be had
        return function()
    answer: _Answer = call.answer()
    return answer


class _Call:
    def __init__(self, function: Callable[[], Any], undo: Callable[[Any], object] | None) -> None:
        self._function = function
        self._undo = undo
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._given_up = False
        self._answer: Any = None
        self._error: BaseException | None = None

    def make(self) -> None:
        """Make the call, in a worker."""
        try:
            answer = self._function()
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            self._error = error
            self._ended.set()
            return
        with self._lock:
            self._answer = answer
            self._ended.set()
            late = self._given_up
        if late and self._undo is not None:
            self._undo(answer)

    def answer(self) -> Any:
        """Wait for the answer."""
        ended = False
        try:
            ended = self._ended.wait(timing.object_lock_s)
        except BaseException:
            # The caller may use the object next, and a call under way takes microseconds.
            self._ended.wait(timing.close_grace_s)
            raise
        finally:
            if not ended:
                self._give_up()
        if not ended:
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._answer

    def _give_up(self) -> None:
        with self._lock:
            self._given_up = True
            made = self._ended.is_set() and self._error is None
        if made and self._undo is not None:  # it has ended just now, or an interrupt came
            self._undo(self._answer)

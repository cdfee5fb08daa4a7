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
        try:
            thread_pool.submit(call.make)
        except RuntimeError:  # no thread to be had
            return function()
        answer: _Answer = call.answer()
    except TimeoutError:
        call.give_up()
        raise
    except BaseException:  # an interrupt: the caller may use the object next
        call.give_up()
        call.wait_briefly()
        raise
    return answer


class _Call:
    """`_lock` decides whether the call is given up before it begins, before it has ended, or afterwards."""

    def __init__(self, function: Callable[[], Any], undo: Callable[[Any], object] | None) -> None:
        self._function = function
        self._undo = undo
        self._lock = threading.Lock()
        self._begun = self._given_up = self._made = False
        self._over = threading.Event()
        self._answer: Any = None
        self._error: BaseException | None = None

    def make(self) -> None:
        """Make the call, in a worker. Undo it if it comes too late, and make none that was given up."""
        with self._lock:
            if self._given_up:
                return
            self._begun = True
        try:
            self._answer = self._function()
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            self._error = error
            self._over.set()
            return
        with self._lock:
            self._made = True
            late = self._given_up
        try:
            if late and self._undo is not None:
                self._undo(self._answer)
        finally:
            self._over.set()

    def answer(self) -> Any:
        """Wait for the answer."""
        if not self._over.wait(timing.object_lock_s):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._answer

    def give_up(self) -> None:
        """Have nobody wait for the answer. Undo the call if it has ended just now."""
        with self._lock:
            if self._given_up:
                return
            self._given_up = True
            made = self._made
        if made and self._undo is not None:
            self._undo(self._answer)

    def wait_briefly(self) -> None:
        """Wait for the end of a call that is under way: it takes microseconds if nobody has the lock."""
        if self._begun:
            self._over.wait(timing.close_grace_s)

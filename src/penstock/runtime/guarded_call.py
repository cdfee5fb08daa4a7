"""Calls of user code that a run waits for, but not for ever.

Everything that runs user code beside the stages does it by a `GuardedCall`: copies between a pipeline and a
user object, the closing of user objects, error filters, and the loading of exceptions. A worker thread makes
the call, or a task of an event loop (`aio.task_call`).

How it ends. A call ends exactly once: with the value that `run` returned, with the exception that it raised,
or with the outcome that `leave` or `abandon_at` names. The first of these stands; the worker's late end is
ignored. The outcome is decided first, then the streams of the call are released, then `done` is set, and then
the callback is called. So once `done` is set, the call holds nothing of the run.

No thread. If the system allows no further thread, `start` raises RuntimeError, which fails the start of the
run. A call that somebody waits for already is started with `inline=True`: then the calling thread makes it,
since late is better than never.

Ownership. The call owns its streams until its end. User code that is abandoned keeps its worker, and
nothing of the run. `_lock` guards the flags and the callback; it is held for bookkeeping only, never while
something is called.

Blocking. Only `run` may block, in its worker. Every other method returns at once and may be called from any
thread; the callback runs in the thread that ends the call, which may be the reactor's: it may not block
either.

Interrupts. A KeyboardInterrupt may arrive between any two steps of a thread that drives its own run. Each
method may therefore be called again, and then does what is missing: whatever says that a step was taken is
noted last. A second `start` may queue the call twice, and one of the two makes it. A callback that was lost
is called by the next `on_done`. A call made inline that is interrupted outside of user code ends at the
deadline that the cancellation of the run sets. So a step that raises is taken once more, too: the callback,
and the end of the call.
"""

from __future__ import annotations

import threading
from functools import partial

from penstock.core.errors import Cancelled
from penstock.runtime import thread_pool
from penstock.runtime.faults import call_again

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from penstock.runtime.reactor import Reactor, Timer

__all__ = ["Abandonable", "GuardedCall"]


class Abandonable:
    """Something that ends once, and at a deadline at the latest if one is set."""

    done = False
    _timer: Timer | None = None

    def abandon(self, outcome: Any) -> None:
        """End with `outcome`, whatever goes on; do nothing if it has ended. In the reactor's thread."""
        raise NotImplementedError

    def abandon_at(self, deadline: float, outcome: Any, reactor: Reactor) -> None:
        """Abandon it at `deadline`, by `time.monotonic()`. Of several deadlines the earliest stands."""
        timer = self._timer
        if self.done or (timer is not None and timer.callback is not None and timer.when <= deadline):
            return
        self._timer = reactor.call_at(deadline, partial(self.abandon, outcome))
        if timer is not None:
            timer.cancel()
        if self.done:  # it has ended meanwhile, and may not have seen the timer
            self.forget_deadline()

    def forget_deadline(self) -> None:
        """Cancel the timer, so that nothing is held until the deadline."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


class GuardedCall(Abandonable):
    """One call of user code: of `function`, or of `run` in a subclass."""

    abandoned = False
    """Whether the call ended at its deadline."""
    outcome: Any = None
    """The value or exception of `run`, or what the call was left with; meaningful once `done` is set."""
    _queued = False
    _begun = False
    _stopped = False
    """Whether its outcome is no longer needed: then it does not begin, and calls no more user code."""
    _in_user_code = False
    _decided = False
    _callback: Callable[[], object] | None = None

    def __init__(self, function: Callable[[], Any] | None = None) -> None:
        self._function = function
        self._lock = threading.Lock()

    # For subclasses.

    def run(self) -> Any:
        """Make the call, in the worker."""
        function, self._function = self._function, None
        return None if function is None else function()

    def judge(self, outcome: Any) -> Any:
        """Return what `outcome` counts as. `_lock` is held."""
        return outcome

    def release_streams(self) -> None:
        """Close the streams of the call. From any thread, and perhaps more than once."""

    # For those who wait for it.

    @property
    def error(self) -> BaseException | None:
        """The outcome if it is an exception."""
        return self.outcome if isinstance(self.outcome, BaseException) else None

    def start(self, *, inline: bool = False) -> None:
        """Have a worker make the call.

        RuntimeError if no thread is available; with `inline`, the calling thread makes the call instead.
        """
        if self._queued or self.done:
            return
        try:
            self._submit()
        except RuntimeError:
            if not inline:
                raise
        else:
            self._queued = True
            return
        self._work()

    def on_done(self, callback: Callable[[], object]) -> None:
        """Call `callback()` at the end, in the thread that ends the call; at once if the call has ended.

        There is one callback: the last one given.
        """
        with self._lock:
            if not self.done:
                self._callback = callback
                return
        callback()

    def leave(self, outcome: Any = None) -> bool:
        """End the call with `outcome` if it has not begun, or if it is in `call_user_code`.

        Otherwise return False: the call is about to end, provided that its streams were interrupted.
        """
        with self._lock:
            self._stopped = True
            idle = not self._begun or self._in_user_code
        if idle:
            self.end(outcome)
        return self.done

    def abandon(self, outcome: Any = None) -> None:
        """End the call with `outcome`, whatever its worker does, or if it never was to have one."""
        self.end(outcome, abandoned=True)

    # The worker's side.

    def call_user_code(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in which `leave` may leave the worker behind; Cancelled if it has."""
        self._mark(in_user_code=True)
        try:
            return function(*arguments)
        finally:
            self._mark(in_user_code=False)

    def end(self, outcome: Any, *, abandoned: bool = False) -> None:
        """End with `outcome`, unless the call has ended."""
        with self._lock:
            if not self._decided:
                self.outcome, self.abandoned = self.judge(outcome), abandoned
                self._decided = self._stopped = True
        if self.done and self._callback is None:
            return
        self.release_streams()
        self._function = None  # it may refer to the owner of this call
        with self._lock:
            self.done = True
            callback = self._callback
        if callback is not None:
            call_again(callback)
            self._callback = None  # last: if this raises, it is done again
        self.forget_deadline()

    def _submit(self) -> None:
        """Queue the call. RuntimeError if that is not possible now."""
        thread_pool.submit(self._work, self.end)

    def _take(self) -> bool:
        """Return whether the call is to be made now, by this worker."""
        with self._lock:
            if self._begun or self._stopped:
                return False
            self._begun = True
        return True

    def _work(self) -> None:
        if not self._take():
            return
        try:
            outcome = self.run()
        except BaseException as raised:  # noqa: BLE001 - whatever user code raises is the outcome of the call
            outcome = raised
        self.end(outcome)

    def _mark(self, *, in_user_code: bool) -> None:
        with self._lock:
            if self._stopped:
                raise Cancelled("nobody waits for this call any more")
            self._in_user_code = in_user_code

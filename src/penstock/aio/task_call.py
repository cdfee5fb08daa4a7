"""Guarded calls that a task of an event loop makes.

The task belongs to no task group of user code. So a coroutine that ignores its cancellation can be abandoned
at the deadline; a task group could not be left while the coroutine goes on.

`cancel` cancels a scope of the task's own, which `run` enters by `cancellable`. Either the task begins or
`cancel` comes first; so a task that has begun has its scope by the time that the loop gets to cancel it. On a
closed loop no task ever goes on: there the call ends at once.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import anyio

from penstock.runtime.guarded_call import GuardedCall

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from penstock.runtime.reactor import Reactor
    from penstock.system.event_loops import Loop

__all__ = ["TaskCall"]


class TaskCall(GuardedCall):
    """One call of a coroutine function: of the one given, or of `run` in a subclass."""

    _scope: anyio.CancelScope | None = None
    """Belongs to the loop's thread."""

    def __init__(self, loop: Loop, function: Callable[[], Coroutine[Any, Any, Any]] | None = None) -> None:
        super().__init__(function)
        self._loop = loop
        self._context = copy_context()

    def cancellable(self) -> anyio.CancelScope:
        """Return the scope that `cancel` cancels. `run` enters it before it waits for anything."""
        self._scope = anyio.CancelScope()
        return self._scope

    def cancel(self, outcome: Any) -> bool:
        """Cancel what the task does in its scope, and return whether its end is still to come.

        Otherwise the task had not begun or can never go on, and `outcome` is how the call ends.
        """
        if self.leave(outcome):
            return False
        if self._loop.call(self._cancel_scope):
            return True
        self.end(outcome)
        return False

    def cancel_by(self, deadline: float, outcome: Any, reactor: Reactor) -> None:
        """Cancel the task; if it still goes on at `deadline`, the call is abandoned with `outcome`."""
        if self.cancel(outcome):
            self.abandon_at(deadline, outcome, reactor)

    def _submit(self) -> None:
        if not self._loop.call(self._spawn):
            self.end(RuntimeError("the event loop is closed"))

    def _spawn(self) -> None:
        try:
            self._loop.spawn(self._task, self._context, self.end)
        except Exception as error:  # noqa: BLE001 - no memory for a task
            self.end(error)

    def _cancel_scope(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    async def _task(self) -> None:
        if not self._take():
            return
        outcome = None
        try:
            outcome = await self.run()
        except anyio.get_cancelled_exc_class() as shutdown:  # the loop ends, and all its tasks
            outcome = shutdown
            raise
        except BaseException as raised:  # noqa: BLE001 - whatever user code raises is the outcome of the call
            outcome = raised
        finally:
            self.end(outcome)

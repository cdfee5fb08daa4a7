"""Calls that a worker makes for a task of an event loop, and `closing` for objects that belong to a loop."""

from __future__ import annotations

import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from penstock.runtime import thread_pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.system.event_loops import Loop

__all__ = ["LoopCloser", "ThreadCall"]

_T = TypeVar("_T")


class ThreadCall(Generic[_T]):
    """A call that a worker makes. If a waiting task is cancelled, the next task may wait for the result."""

    def __init__(self, loop: Loop, call: Callable[[], _T]) -> None:
        self._loop = loop
        self._call = call
        self._over = anyio.Event()
        self._result: _T | None = None
        self._error: BaseException | None = None
        thread_pool.submit(self._work)

    async def result(self) -> _T:
        """Return the result of the call, or raise its exception."""
        await self._over.wait()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value] # it is set by now

    def _work(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 - `result` raises it
            self._error = error
        self._loop.call(self._over.set)


class LoopCloser:
    """A stream of an event loop that was wrapped in `closing`: `close()` has the loop close it."""

    def __init__(self, loop: Loop, thing: Any) -> None:
        self._loop = loop
        self._thing = thing
        self._over = threading.Event()
        self._error: BaseException | None = None

    def close(self) -> None:
        """Wait until the loop has closed it, and raise the error of that. In a worker."""
        if self._loop.call(lambda: self._loop.spawn(self._close, copy_context(), self._fail)):
            self._over.wait()
        if self._error is not None:
            raise self._error

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._over.set()

    async def _close(self) -> None:
        try:
            if hasattr(self._thing, "aclose"):
                await self._thing.aclose()
            else:
                made = self._thing.close()
                if hasattr(made, "__await__"):
                    await made
                if hasattr(self._thing, "wait_closed"):
                    await self._thing.wait_closed()
        except Exception as error:  # noqa: BLE001 - a failed last flush is the run's failure
            self._error = error
        finally:
            self._over.set()

"""The object that `Pipeline.map` returns: an iterator, sync and async, over the jobs as they end.

Nothing starts before the first `next()`. An interrupt while it waits, and the cancellation of a task, end the
map before they go on. Dropping the object ends the map too.
"""

from __future__ import annotations

import os
import sys
import threading
from _queue import Empty

from penstock.core.errors import Cancelled, StartError
from penstock.core.timing import timing
from penstock.jobs.map_run import MapRun
from penstock.runtime.supervisor import supervisor
from penstock.system.fork_guard import fork_guard_held, late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from penstock.jobs.job import Job
    from penstock.jobs.settings import MapSettings
    from penstock.jobs.tasks import Tasks

__all__ = ["Jobs"]


class Jobs:
    """The jobs of a map, each when it has ended. For `for` and `async for`, once.

    The iteration goes on while jobs fail, and raises `MapError` at its end if any did. `close()`, or leaving
    the object as a context manager, ends what runs and waits; so does Ctrl-C in the iteration. An iterator
    that is dropped, as by `break`, ends what runs, too. Several threads may take jobs from one map.
    """

    def __init__(self, settings: MapSettings, tasks: Tasks) -> None:
        self._map = MapRun(settings, tasks)
        self._name = tasks.name
        self._owner = os.getpid()
        self._begin_lock = threading.Lock()
        self._begun = False
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "not started" if not self._begun else "going"
        return f"<Jobs of {self._name}, {'ended' if self._map.done.is_set() else state}>"

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Job:
        """The next job that has ended. At the end MapError, if jobs have failed."""
        try:
            self._begin()
            job = None if self._closed else self._wait()
            if job is not None:
                self._map.take()
                return job
        except BaseException as error:
            self._closed = True
            self._map.end(error)
            raise
        raise self._outcome(StopIteration)

    def close(self) -> None:
        """End what runs, and wait for that: no failure. Idempotent; there are no more jobs afterwards.

        A job that was running is cancelled, and its output is not there. Functions that ignore that, and user
        code in the iterator of inputs, are left behind after the grace time.
        """
        self._closed = True
        if not self._begun or os.getpid() != self._owner:
            return
        try:
            interrupt = self._map.end(Cancelled("the map was closed"))
        except BaseException as error:
            self._map.end(error)
            raise
        if interrupt is not None:
            raise interrupt

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_begun", False) or os.getpid() != self._owner:
            return
        if self._map.done.is_set() or sys.is_finalizing():
            return
        reason = Cancelled("the map was dropped")
        # The garbage collector may come in any thread: in one that the end of the map needs, for one.
        ours = threading.current_thread().name.startswith("penstock-")
        if ours or supervisor().in_driver_thread or fork_guard_held():
            self._map.cancel(reason)
        else:
            self._map.end(reason)

    # In an event loop.

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Job:
        """The next job, as `__next__`. If the task is cancelled, the map ends before that goes on."""
        with late_import:
            from penstock.jobs.loop_waits import wait_for_done, wait_for_job  # noqa: PLC0415 - only in event loops

        try:
            self._begin()
            job = None if self._closed else await wait_for_job(self._map)
            if job is not None:
                self._map.take()
                return job
        except BaseException as error:
            self._closed = True
            self._map.cancel(error)
            if not isinstance(error, GeneratorExit):  # then no loop runs at all
                await wait_for_done(self._map)
            raise
        raise self._outcome(StopAsyncIteration)

    async def aclose(self) -> None:
        """End what runs, as `close()`, without blocking the event loop."""
        with late_import:
            from penstock.jobs.loop_waits import wait_for_done  # noqa: PLC0415 - as above

        self._closed = True
        if self._begun and os.getpid() == self._owner:
            self._map.cancel(Cancelled("the map was closed"))
            await wait_for_done(self._map)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _begin(self) -> None:
        if os.getpid() != self._owner:
            raise RuntimeError("this map belongs to the parent process, of which this one is a fork")
        if self._begun:
            return
        with self._begin_lock:
            first, self._begun = not self._begun, True
        if first and not self._closed:
            try:
                self._map.begin()
            except (OSError, RuntimeError, MemoryError) as error:
                raise StartError(self._name, error) from error

    def _wait(self) -> Job | None:
        while True:
            try:
                # In slices, because a signal that arrives just before a sleep does not end it.
                return self._map.ready.get(timeout=timing.max_sleep_s)
            except Empty:
                continue

    def _outcome(self, stop: type[Exception]) -> BaseException:
        """Return what the end of the iteration raises: how the map ended, once."""
        self._map.repeat_end()  # for the next call, or for another thread that waits
        closed, self._closed = self._closed, True
        error: Any = None if closed else self._map.outcome()
        return stop() if error is None else error

"""A run that a task of an event loop owns: started by a worker, waited for, and ended with its owner.

A start cannot be called off: a spawn that is under way makes a child. So a cancellation that comes meanwhile
waits for the start, at most `timing.cancel_margin_s`, and ends the run. If the worker sits in an `open` that
does not return, the worker ends the run itself once it gets that far.

Waking a loop costs a system call, and a contest for the GIL with the thread that starts the next run. So a
task that only waits for the end of a run (`run_to_end`) is not woken at its start.

`wait_shielded` waits for a run that must not be left behind. The task, which is being cancelled already,
raises afterwards. asyncio counts the calls of `cancel`, so its timeouts can tell their own from others. If a
loop was closed before its coroutine had ended, Python closes the coroutine, which cannot wait then: it only
cancels the run.

The waits are anyio's. But a task of asyncio that waits for the end of a run at once, in a program that has
not imported anyio, uses asyncio's own: importing anyio would take longer than the run. If a run needs anyio,
it is loaded before the run starts.

A loop that is closed notifies nobody. A task that was left there is not garbage-collected either, because the
run refers to it. So as long as there are such runs, the supervisor checks every `_LOOP_CHECK_INTERVAL_S`
seconds whether their loops are still open, and ends the runs of closed ones.
"""

from __future__ import annotations

import time
from functools import partial

from penstock.core.async_detection import is_async_sink, is_async_source
from penstock.core.errors import StartError
from penstock.core.noop import noop
from penstock.core.timing import timing
from penstock.engine import results  # noqa: F401 - now, rather than on the loop's thread when the first run ends
from penstock.engine.loop_binding import bind
from penstock.engine.managed_run import ManagedRun
from penstock.engine.run_plan import plan_run
from penstock.runtime import start_queue
from penstock.runtime.faults import is_fault
from penstock.runtime.supervisor import last_cancellation, supervisor
from penstock.stages.base import traits_of
from penstock.streams.endpoints import unwrap
from penstock.system.event_loops import current_loop, only_asyncio, require_anyio, threads_context
from penstock.system.fork_guard import late_import, reset_in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from penstock.aio.anyio_event import AnyioEvent
    from penstock.core.result import Result
    from penstock.engine.graph import PipelineSpec
    from penstock.engine.run_plan import RunPlan
    from penstock.system.asyncio_event import AsyncioEvent
    from penstock.system.event_loops import Loop

__all__ = ["OwnedRun", "begin", "run_to_end"]

_LOOP_CHECK_INTERVAL_S = 0.25
"""Seconds between two looks at the loops of the runs that go on."""


class OwnedRun:
    """A run, and the event loop that it is started in. Made in the loop's thread."""

    def __init__(self, loop: Loop, event: type[AnyioEvent | AsyncioEvent], *, tell: bool) -> None:
        """`event` makes what its tasks wait for; `tell` is whether its owner waits for its start."""
        self.loop = loop
        self.ended = event()
        """Set when the run has ended, or could not be started at all."""
        self._begun = event() if tell else None
        self._cancellation = last_cancellation()
        self._run: ManagedRun | None = None
        self._error: BaseException | None = None
        self._unwanted = False

    @property
    def run(self) -> ManagedRun:
        """The run, once it is made."""
        assert self._run is not None
        return self._run

    def start(self, make_plan: Callable[[], RunPlan], on_cut: Callable[[], None] = noop) -> None:
        """Have a worker make the run of the plan that `make_plan()` gives, and start it.

        `on_cut()` is called, in another thread, when a reader of its output is to get nothing more.
        """
        context = threads_context()
        start_queue.submit(lambda: context.run(self._start_in_thread, make_plan, on_cut))

    async def begun(self) -> None:
        """Wait until it is started; raise the error if it could not be."""
        assert self._begun is not None
        await self._begun.wait()
        self._raise()

    async def finish(self, *, check: bool) -> Result:
        """Wait for the end; if the task is cancelled, end the run, and wait until nothing is left."""
        try:
            await self.ended.wait()
        except BaseException as error:
            await self.end(error)
            if self._run is None or not is_fault(error):
                raise
        self._raise()
        return self.run.get_result(check=check)

    async def ends_within_grace(self) -> bool:
        """Wait for the end, at most the grace time; if the task is cancelled, end the run."""
        try:
            await self.ended.wait(self.run.grace)
        except BaseException as error:
            await self.end(error)
            raise
        return self.ended.is_set()

    async def end(self, error: BaseException) -> None:
        """Cancel the run because `error` leaves its owner, and wait until nothing is left."""
        self._unwanted = True
        if self._run is not None:
            self._discard(self._run, error)
        if isinstance(error, GeneratorExit):
            return
        if self._run is None:
            await self.ended.wait_shielded(timing.cancel_margin_s)
        if self._run is not None:
            await self.ended.wait_shielded()

    async def leave(self, error: BaseException | None = None) -> None:
        """End the run, which is not a failure, because nobody reads its output any more, and wait."""
        if not self.run.abandon_reader() or isinstance(error, GeneratorExit) or not self.loop.current:
            return
        patience = self.run.cancel_timeout
        try:
            await self.ended.wait(patience)
        except BaseException as cancelled:
            if not isinstance(cancelled, GeneratorExit):
                await self.ended.wait_shielded(patience)
            raise

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _start_in_thread(self, make_plan: Callable[[], RunPlan], on_cut: Callable[[], None]) -> None:
        """In the worker."""
        if self._unwanted:  # its task was cancelled while it waited for its turn
            self.loop.call(self._failed)
            return
        try:
            run = ManagedRun(bind(make_plan(), self.loop), since=self._cancellation)
            run.execution.on_cut = on_cut
            run.start()
        except BaseException as error:  # noqa: BLE001 - it is raised in the task that wanted the run
            self._error = error
            self.loop.call(self._failed)
            return
        self._run = run
        try:
            _going.add(self)
            run.on_end(self._ended)
            _watch_loops()
            reached = not self.loop.closed if self._begun is None else self.loop.call(self._begun.set)
            if self._unwanted or not reached:
                self._discard(run)
        except Exception as error:  # noqa: BLE001 - the run ends with it
            run.absorb(error)
            _going.discard(self)
            self.loop.call(self._failed)

    def check_loop(self) -> None:
        """End the run if its loop was closed. In the supervisor's thread."""
        if self.loop.closed:
            _going.discard(self)
            self._discard(self.run)

    def _ended(self) -> None:
        _going.discard(self)
        self.loop.call(self.ended.set)

    def _failed(self) -> None:
        if self._begun is not None:
            self._begun.set()
        self.ended.set()

    def _discard(self, run: ManagedRun, error: BaseException | None = None) -> None:
        """End it, from any thread; a failure of the owner's own is the reason."""
        failed = isinstance(error, Exception)
        run.cancel(error if failed else "the task that owned the run was cancelled")
        run.close_streams()


_going: set[OwnedRun] = set()
"""The runs whose loops are checked. Adding and discarding are atomic under the GIL."""
_looking = False
"""Whether a look is due; a second one does no harm."""


def _watch_loops() -> None:
    global _looking  # noqa: PLW0603 - one a process, as the supervisor is
    if not _looking:
        _looking = True
        supervisor().call_at(time.monotonic() + _LOOP_CHECK_INTERVAL_S, _check_loops)


def _check_loops() -> None:
    global _looking  # noqa: PLW0603
    _looking = False
    going = list(_going)
    for owned in going:
        owned.check_loop()
    if going:
        _watch_loops()


def _after_fork_in_child() -> None:
    global _looking  # noqa: PLW0603
    _going.clear()
    _looking = False  # the supervisor that was asked is not there


reset_in_child(_after_fork_in_child, "runs")


async def begin(make_plan: Callable[[], RunPlan], on_cut: Callable[[], None] = noop) -> OwnedRun:
    """Start a run of the plan that `make_plan()` gives, which shows files and descriptors as they are now.

    Raises StartError, when nothing is left, if a stage cannot be started.
    """
    owned = _begin(make_plan, on_cut, anyio_event(), tell=True)
    try:
        await owned.begun()
        if owned.run.failed_to_start:
            await owned.finish(check=True)
    except BaseException as error:  # a cancellation, for one
        if not owned.ended.is_set():
            await owned.end(error)
        raise
    return owned


async def run_to_end(pipeline: PipelineSpec, options: Mapping[str, Any], *, check: bool) -> Result:
    """Start a run, and wait for its end.

    Raises ImportError if the run needs anyio and it is not installed.
    """
    try:
        event = _event_for(pipeline, options)
    except OSError as error:  # no descriptor to load anyio by
        raise StartError(pipeline.graph.nodes[0].stage.name, error, index=0) from error
    owned = _begin(partial(plan_run, pipeline, options), noop, event, tell=False)
    try:
        return await owned.finish(check=check)
    except Exception as error:
        if owned.ended.is_set() or not is_fault(error):
            raise
        await owned.end(error)
        return owned.run.get_result(check=check)


def anyio_event() -> type[AnyioEvent]:
    """Return the event of anyio; ImportError, which says what to install, if that is missing."""
    with late_import:
        require_anyio()
        from penstock.aio.anyio_event import AnyioEvent  # noqa: PLC0415 - only some users have anyio

    return AnyioEvent


def _event_for(pipeline: PipelineSpec, options: Mapping[str, Any]) -> type[AnyioEvent | AsyncioEvent]:
    """Return what a task can wait for the end of a run with, once everything that the run needs is loaded."""
    if not only_asyncio() or _uses_streams(pipeline, options):
        return anyio_event()
    with late_import:
        from penstock.system.asyncio_event import AsyncioEvent  # noqa: PLC0415 - only without anyio

    return AsyncioEvent


def _uses_streams(pipeline: PipelineSpec, options: Mapping[str, Any]) -> bool:
    """Whether a stage or an end of the pipeline is served by the loop, through streams of anyio."""
    if any(traits_of(node.stage).asynchronous for node in pipeline.graph.nodes):
        return True
    (source, _), (sink, _) = unwrap(options.get("stdin")), unwrap(options.get("stdout"))
    return is_async_source(options.get("input")) or is_async_source(source) or is_async_sink(sink)


def _begin(
    make_plan: Callable[[], RunPlan],
    on_cut: Callable[[], None],
    event: type[AnyioEvent | AsyncioEvent],
    *,
    tell: bool,
) -> OwnedRun:
    """Have a run started. StartError if no descriptor or thread is left for that."""
    loop = current_loop()
    try:
        owned = OwnedRun(loop, event, tell=tell)
        owned.start(make_plan, on_cut)
    except (OSError, RuntimeError, MemoryError) as error:
        raise StartError(make_plan().stages[0].name, error, index=0) from error
    return owned

"""The waits of a map in an event loop. Loaded by the first of them."""

from __future__ import annotations

from _queue import Empty
from functools import partial

from penstock.system.event_loops import current_loop, only_asyncio, require_anyio
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from penstock.aio.anyio_event import AnyioEvent
    from penstock.jobs.job import Job
    from penstock.jobs.map_run import MapRun
    from penstock.system.asyncio_event import AsyncioEvent

__all__ = ["wait_for_done", "wait_for_job"]


async def wait_for_job(of: MapRun) -> Job | None:
    """Return the next job, or None at the end."""
    loop = current_loop()
    while True:
        event = _event()
        of.on_ready(partial(loop.call, event.set))
        try:
            return of.ready.get_nowait()
        except Empty:
            await event.wait()


async def wait_for_done(of: MapRun) -> None:
    """Wait until nothing of the map runs, also if the task is cancelled; no longer than that may take."""
    loop, event, patience = current_loop(), _event(), of.patience

    def wake() -> None:
        loop.call(event.set)

    of.done.on_set(wake)
    try:
        await event.wait(patience)
    except BaseException as cancelled:
        if not isinstance(cancelled, GeneratorExit):
            await event.wait_shielded(patience)
        raise


def _event() -> AnyioEvent | AsyncioEvent:
    with late_import:
        if only_asyncio():
            from penstock.system.asyncio_event import AsyncioEvent  # noqa: PLC0415 - only without anyio

            return AsyncioEvent()
        require_anyio()
        from penstock.aio.anyio_event import AnyioEvent  # noqa: PLC0415 - only some users have it

        return AnyioEvent()

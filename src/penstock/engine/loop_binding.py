"""What of a run is served by an event loop: found among what was plan, and tied to the loop.

The parts of a run know nothing of loops. Where a stage or an endpoint is for an event loop, the survey says
so, and here it is given what it takes: a function that makes a stream, or a copy, of our end of its pipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.stages.base import traits_of
from penstock.stages.function import PythonStage

if TYPE_CHECKING:
    from penstock.engine.run_plan import RunPlan
    from penstock.system.event_loops import Loop

__all__ = ["bind"]


def bind(plan: RunPlan, loop: Loop | None) -> None:
    """Have `loop` serve what is for an event loop, and what the caller's own thread would serve otherwise.

    TypeError naming the stage or option where something is for a loop, and there is none.
    """
    if loop is None:
        _require_sync(plan)
        return
    for leaf in plan.leaves:
        if isinstance(leaf.stage, PythonStage):
            leaf.stage = leaf.stage.bind_loop(loop)
    source, sink = plan.source, plan.sink
    if source.kind in _SERVED or sink.kind in _SERVED:
        _serve(plan, loop)


_SERVED = frozenset({"pipe", "async", "iterate"})


def _serve(plan: RunPlan, loop: Loop) -> None:
    """Give the endpoints what makes a stream, or a copy, of our end of their pipe."""
    from penstock.aio.copy_tasks import AsyncDrainer, AsyncFeeder  # noqa: PLC0415
    from penstock.aio.streams import FdReceiver, FdSender  # noqa: PLC0415
    from penstock.aio.thread_calls import LoopCloser  # noqa: PLC0415 - these need anyio

    source, sink = plan.source, plan.sink
    for end in (source, sink):
        if end.kind == "async" and end.closing is not None:
            end.closing = LoopCloser(loop, end.closing)
    grace, given, taken = plan.root.option("grace"), source.value, sink.value
    if source.kind == "pipe":
        source.value = lambda fd, _reactor: FdSender(fd, loop)
    elif source.kind == "async":
        source.value = lambda fd, reactor: AsyncFeeder(given, fd, loop, reactor, grace)
    if sink.kind in ("pipe", "iterate"):
        sink.value = lambda fd, _reactor, _on_end: FdReceiver(fd, loop)
        plan.kinds[-1] = "os-pipe"
    elif sink.kind == "async":
        sink.value = lambda fd, reactor, on_end: AsyncDrainer(taken, fd, loop, reactor, on_end)


def _require_sync(plan: RunPlan) -> None:
    for leaf in plan.leaves:
        if traits_of(leaf.stage).asynchronous:
            raise TypeError(
                f"stage {leaf.stage.name!r} is async: it can only run in arun() and the other async methods"
            )
    fed = "stdin" if plan.root.option("input") is None else "input"
    for option, end in ((fed, plan.source), ("stdout", plan.sink)):
        if end.kind == "async":
            raise TypeError(
                f"{option} is async: it can only be used by arun() and the other async methods: {end.value!r}"
            )

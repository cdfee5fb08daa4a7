"""Tie a run to an event loop: the parts of its plan that a loop serves are replaced by ones that know it.

The parts of a run know nothing of loops. A plan shows which stages and endpoints are for an event loop. Here
each such endpoint gives way to one that opens a stream, or a copy by a task, at our end of its pipe.
"""

from __future__ import annotations

from functools import partial

from penstock.engine.ports import DrainedPort, StdinPort, StdoutPort, close_on_error, open_pipe
from penstock.engine.run_plan import RunPlan
from penstock.engine.stdin_endpoints import AsyncObjectStdin, PipeStdin, StdinEndpoint
from penstock.engine.stdout_endpoints import AsyncObjectStdout, IteratedStdout, StdoutEndpoint
from penstock.stages.base import BuiltinStage
from penstock.streams.stage_ends import Input, Output
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from penstock.runtime.reactor import Reactor
    from penstock.system.event_loops import Loop

__all__ = ["bind"]


def bind(plan: RunPlan, loop: Loop) -> RunPlan:
    """Return the plan with `loop` serving what is for an event loop, or what a thread would serve otherwise.

    A plan that is bound to a loop is for one run.
    """
    stages = [stage.bind_loop(loop) if isinstance(stage, BuiltinStage) else stage for stage in plan.stages]
    grace = plan.option("grace")
    sources = [_bound_stdin(source, loop, grace) for source in plan.sources]
    sinks = [_bound_stdout(sink, loop) for sink in plan.sinks]
    return RunPlan(plan.graph, plan.options, sources, sinks, stages=stages, loop=loop, outputs=plan.outputs)


def _bound_stdin(source: StdinEndpoint, loop: Loop, grace: float) -> StdinEndpoint:
    if isinstance(source, PipeStdin):
        return _LoopPipeStdin(loop)
    if isinstance(source, AsyncObjectStdin):
        return _LoopStdin(source, loop, grace)
    return source


def _bound_stdout(sink: StdoutEndpoint, loop: Loop) -> StdoutEndpoint:
    if sink.kind == "pipe":  # a stream of the loop knows since when it has waited, so it needs no relay
        return _LoopPipeStdout(loop)
    if isinstance(sink, IteratedStdout):
        return _LoopIteratedStdout(loop)
    if isinstance(sink, AsyncObjectStdout):
        return _LoopStdout(sink, loop)
    return sink


class _LoopPipeStdin(StdinEndpoint):
    """PIPE: tasks of the loop write."""

    __slots__ = ("_loop",)
    kind = "pipe"

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop

    def open(self, reactor: Reactor, pipe_size: int | None, *, wants_file: bool) -> StdinPort:
        """Make a pipe, and a stream for its other end."""
        with late_import:
            from penstock.aio.streams import FdSender  # noqa: PLC0415 - it needs anyio

        read_end, write_end = open_pipe(pipe_size, kept=1, grow=True)
        with close_on_error(read_end, write_end):
            stream = FdSender(write_end, self._loop)
        return StdinPort(Input(read_end), stream=stream)


class _LoopStdin(StdinEndpoint):
    """An async object: a task of the loop reads it."""

    __slots__ = ("_grace", "_loop", "_value")
    kind = "async"

    def __init__(self, source: AsyncObjectStdin, loop: Loop, grace: float) -> None:
        super().__init__(_closed_by_loop(source.closing, loop))
        self._value = source.value
        self._loop = loop
        self._grace = grace

    def open(self, reactor: Reactor, pipe_size: int | None, *, wants_file: bool) -> StdinPort:
        """Make a pipe, and a task that copies into it."""
        with late_import:
            from penstock.aio.copy_tasks import AsyncFeeder  # noqa: PLC0415 - it needs anyio
            from penstock.aio.user_objects import returner_of  # noqa: PLC0415
            from penstock.runtime.pipe_rest import PipeRest  # noqa: PLC0415 - few runs need it

        read_end, write_end = open_pipe(pipe_size, kept=1, grow=True)
        with close_on_error(read_end, write_end):
            take_back = returner_of(self._value)
            rest = None
            if take_back is not None:
                rest = PipeRest(read_end, partial(_call_in_loop, self._loop, take_back))
            feeder = AsyncFeeder(self._value, write_end, self._loop, reactor, self._grace, rest)
        return StdinPort(Input(read_end), feeder)


class _LoopPipeStdout(StdoutEndpoint):
    """PIPE: tasks of the loop read."""

    __slots__ = ("_loop",)
    kind = "pipe"

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop

    def open(
        self, reactor: Reactor, pipe_size: int | None, on_end: Callable[[], None], *, wants_file: bool
    ) -> StdoutPort:
        """Make a pipe, and a stream for its other end."""
        output, stream = self._open_stream(pipe_size)
        return StdoutPort(output, stream=stream)

    def _open_stream(self, pipe_size: int | None) -> tuple[Output, Any]:
        with late_import:
            from penstock.aio.streams import FdReceiver  # noqa: PLC0415 - it needs anyio

        read_end, write_end = open_pipe(pipe_size, kept=0, grow=True)
        with close_on_error(read_end, write_end):
            stream = FdReceiver(read_end, self._loop)
        return Output(write_end), stream


class _LoopIteratedStdout(_LoopPipeStdout):
    """`aiter_bytes()`: a task of the loop reads chunks as they come, by way of a pipe in any case."""

    __slots__ = ()
    kind = "aiterate"

    def open(
        self, reactor: Reactor, pipe_size: int | None, on_end: Callable[[], None], *, wants_file: bool
    ) -> StdoutPort:
        """Make a pipe, and a reader for its other end."""
        output, reader = self._open_stream(pipe_size)
        return StdoutPort(output, reader=reader)


class _LoopStdout(StdoutEndpoint):
    """An async object: a task of the loop writes to it."""

    __slots__ = ("_loop", "_value")
    kind = "async"

    def __init__(self, sink: AsyncObjectStdout, loop: Loop) -> None:
        super().__init__(_closed_by_loop(sink.closing, loop))
        self._value = sink.value
        self._loop = loop

    def open(
        self, reactor: Reactor, pipe_size: int | None, on_end: Callable[[], None], *, wants_file: bool
    ) -> StdoutPort:
        """Make a pipe, and a task that copies from it."""
        with late_import:
            from penstock.aio.copy_tasks import AsyncDrainer  # noqa: PLC0415 - it needs anyio

        read_end, write_end = open_pipe(pipe_size, kept=0, grow=True)
        with close_on_error(read_end, write_end):
            drainer = AsyncDrainer(self._value, read_end, self._loop, reactor, on_end)
        return DrainedPort(Output(write_end), drainer, reactor)


def _call_in_loop(loop: Loop, take_back: Callable[[bytes], object], data: bytes) -> None:
    """Have the source take the bytes before the task that waits for the run goes on."""
    if data:
        loop.call(partial(take_back, data))


def _closed_by_loop(to_close: Any, loop: Loop) -> Any:
    if to_close is None:
        return None
    with late_import:
        from penstock.aio.thread_calls import LoopCloser  # noqa: PLC0415 - it needs anyio

    return LoopCloser(loop, to_close)

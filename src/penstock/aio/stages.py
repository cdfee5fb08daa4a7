"""Async functions as stages: their definitions. `aio.running` runs them.

A run that is started on an event loop binds these stages to it (`bind_loop`); without a loop they cannot
start. Both their ends are pipes, whose other ends may belong to any kind of stage. This module is imported
when the first async stage is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.core.framing import DEFAULT_MAX_LINE
from penstock.core.public import exported, half_made_too
from penstock.core.requirements import Requirements, Stream
from penstock.stages.function import PythonStage

if TYPE_CHECKING:
    from typing import Self

    from penstock.stages.branch import StagePorts
    from penstock.stages.context import StageContext
    from penstock.stages.running import ThreadedStage
    from penstock.streams.stage_ends import Input, Output
    from penstock.system.event_loops import Loop

__all__ = ["AsyncFunction", "AsyncLineStage", "AsyncSource", "AsyncStage", "AsyncTransform"]


class AsyncStage(PythonStage):
    """A stage whose work is a coroutine on the event loop that the run is started on."""

    asynchronous = True
    works_in_thread = False
    requirements = Requirements(Stream.PREFER_FILE, Stream.PREFER_FILE)
    loop: Loop | None = None

    def bind_loop(self, loop: Loop) -> Self:
        """Return a copy of the stage for a run on `loop`."""
        bound = object.__new__(type(self))
        bound.__dict__.update(self.__dict__, loop=loop)
        return bound

    def start(self, ctx: StageContext, stdin: Input, stdout: Output, /) -> ThreadedStage:
        """Have the coroutine run on the loop."""
        try:
            return self._start(ctx, stdin, stdout)
        except BaseException:
            stdin.close()
            stdout.close()
            raise

    def start_in_graph(
        self, ctx: StageContext, stdin: Input, stdout: Output, ports: StagePorts
    ) -> ThreadedStage:
        """Have the coroutine run on the loop, with the other ends in the context."""
        try:
            for end in ports.outputs.values():
                end.open_devnull()
            return self._start(ctx, stdin, stdout, ports)
        except BaseException:
            stdin.close()
            stdout.close()
            ports.close()
            raise

    def _start(
        self, ctx: StageContext, stdin: Input, stdout: Output, ports: StagePorts | None = None
    ) -> ThreadedStage:
        if self.loop is None:
            raise TypeError(
                f"{self.name} is an async stage: it can only run in arun() and the other async methods"
            )
        from penstock.aio.running import RunningCoroutine  # noqa: PLC0415 - it needs anyio

        return RunningCoroutine(ctx, self.work, stdin, stdout, self.loop, ports)

    async def work(self, ctx: StageContext, stdin: Any, stdout: Any) -> None:
        """Do the work. An exception is the outcome of the stage."""
        raise NotImplementedError


@exported
class AsyncFunction(AsyncStage):
    """`await fn(ctx, stdin, stdout)`; see `penstock.function`."""

    async def work(self, ctx: StageContext, stdin: Any, stdout: Any) -> None:
        """Call it."""
        await self.fn(ctx, stdin, stdout)


@exported
class AsyncTransform(AsyncStage):
    """An async generator over chunks; see `penstock.transform`."""

    kind = "transform"

    async def work(self, ctx: StageContext, stdin: Any, stdout: Any) -> None:
        """Write the chunks that the generator yields."""
        from penstock.aio.running import write_all  # noqa: PLC0415 - it needs anyio

        await write_all(self.fn(stdin), stdout, self.name)


@exported
class AsyncSource(AsyncStage):
    """Emits the chunks of an async iterable; see `penstock.source`."""

    kind = "source"
    requirements = Requirements(Stream.ANY, Stream.PREFER_FILE)

    def __init__(self, iterable: Any, name: str | None) -> None:
        super().__init__(iterable, name or "source")

    @half_made_too
    def __repr__(self) -> str:
        return f"source({type(self.fn).__name__})"

    async def work(self, ctx: StageContext, stdin: Any, stdout: Any) -> None:
        """Write each chunk."""
        from penstock.aio.running import write_all  # noqa: PLC0415 - it needs anyio

        await write_all(self.fn, stdout, self.name)


@exported
class AsyncLineStage(AsyncStage):
    """The line stages, by `kind`. They differ only in what they make of a line, so one class serves all."""

    def __init__(
        self,
        kind: str,
        fn: Any,
        name: str | None,
        concurrency: int = 1,
        max_line: int = DEFAULT_MAX_LINE,
    ) -> None:
        super().__init__(fn, name)
        self.kind = kind
        self.concurrency = concurrency
        self.max_line = max_line

    async def work(self, ctx: StageContext, stdin: Any, stdout: Any) -> None:
        """Read lines, and write the results in order."""
        from penstock.aio.lines import run_lines  # noqa: PLC0415 - it needs anyio

        await run_lines(self, ctx, stdin, stdout)

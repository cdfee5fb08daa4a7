"""The async face: the same runs, waited for and talked to by tasks of an event loop.

One engine. The supervisor drives a run, as it drives one that `start()` returned. This module has the classes
that users see. `api.owned_run` starts a run, waits for it, and ends it with its owner.

Cancellation. A task that is cancelled while it owns a run ends that run, waits until nothing is left of it,
however often it is cancelled meanwhile, and only then lets the cancellation go on. Owners are `arun` and its
like, the iterators, and the `async with` block of `astart`; `AsyncRun.wait` only looks on.

The iterators are objects rather than async generators: one that is dropped half-way must end its run at once,
in whatever thread and loop, which no event loop's finalisation of generators promises.

Imported by the first use of `astart` or an async iterator, since it needs anyio.
"""

from __future__ import annotations

import sys

from anyio import EndOfStream

from penstock.api.owned_run import begin
from penstock.core.errors import LineTooLong
from penstock.core.framing import LineSplitter
from penstock.core.public import half_made_too

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from types import TracebackType
    from typing import Self

    from penstock.aio.streams import FdReceiver, FdSender
    from penstock.api.owned_run import OwnedRun
    from penstock.core.result import Result
    from penstock.core.snapshot import Snapshot
    from penstock.engine.run_plan import RunPlan

__all__ = ["AsyncBytes", "AsyncLines", "AsyncRun", "StartingRun"]


class AsyncRun:
    """A run of a pipeline, going on or ended, as `async with pipeline.astart() as run` gives it.

    It belongs to the event loop that it was started in, and waiting for it in another is a RuntimeError;
    `cancel`, `done` and `pids` can be used from any thread.
    """

    stdin: FdSender | None
    """The pipe to the first stage, an anyio `ByteSendStream`, if `stdin=PIPE` was given.

    `aclose()` it to give EOF.
    """
    stdout: FdReceiver | None
    """The pipe from the last stage, an anyio `ByteReceiveStream`, if `stdout=PIPE` was given."""

    def __init__(self, owned: OwnedRun) -> None:
        self._owned = owned
        self.stdin, self.stdout = owned.run.streams

    @half_made_too
    def __repr__(self) -> str:
        return f"<Async{repr(self._owned.run)[1:]}"

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the commands that were started, in order; an ended one's may be another
        process's by now.
        """
        return self._owned.run.pids

    def done(self) -> bool:
        """Whether the run has ended."""
        return self._owned.run.done()

    async def wait(self, timeout: float | None = None, *, check: bool = True) -> Result:  # noqa: ASYNC109 - as in `Run.wait`
        """Wait for the end, at most `timeout` seconds.

        Raises TimeoutError if the run takes longer, and with `check` the run's PipelineError if it failed. It
        may be called again, and by several tasks. The run goes on after a TimeoutError, and if the task is
        cancelled; leaving the `async with` block ends it.
        """
        owned = self._owned
        owned.loop.check("this run")
        if timeout is not None and timeout != timeout:  # noqa: PLR0124 - not a number: no clock ever gets there
            raise ValueError("timeout must be a number of seconds, not nan")
        await owned.ended.wait(timeout)
        if not owned.ended.is_set():
            raise TimeoutError(f"the run has not ended within {timeout:g} s")
        if self.stdin is not None:
            self.stdin.close()
        return owned.run.get_result(check=check)

    def snapshot(self) -> Snapshot:
        """Return what each stage and each edge does now, and which stage the others wait for.

        As `Run.snapshot`: it disturbs nothing, and a figure that cannot be known is None. It is not a
        coroutine, because it does not wait. From any thread, also once the run has ended. Raises RuntimeError
        in a fork of the process that started the run.
        """
        return self._owned.run.snapshot()

    def cancel(self, reason: BaseException | str | None = None) -> None:
        """End the run with PipelineCancelled.

        SIGTERM to its commands, SIGKILL after the grace time; blocked functions wake.

        Returns at once. Idempotent; from any thread or signal handler. `reason` is an exception, or a text
        for one.
        """
        self._owned.run.cancel(reason)

    def stop_source(self, grace: float | timedelta | None = None) -> None:
        """End the first stage, and let the others finish on what they have: the run is a success.

        A command gets its `stop_signal`, with everything that it has started, and after `grace` seconds
        SIGKILL. The default is the `grace` of its pipeline. However it ends, that is not a failure. In a
        function its stdin and stdout raise `FinishEarly`; of a transform or a line function only the input
        does, so that what it has made is delivered. One that stands at a `yield` is closed there. A generator
        in `source` is closed, and an async function is cancelled. A function that does not end in time is
        abandoned. An exception of its own is still a failure, as are those of later stages, and one from
        before the stop.

        In a graph each stage that reads no other one is a first stage.

        The stage's input ends, too: an object or iterable that feeds it is not read any more. Writing to
        `stdin` raises BrokenPipeError once the stage has gone.

        Returns at once; from any thread or signal handler. A further call can only shorten the grace time,
        and once the first stage has ended a call does nothing. `cancel()` and the timeout of the run still
        end all of it. Raises TypeError or ValueError for an invalid `grace`.
        """
        self._owned.run.stop_source(grace)

    def send_signal(self, signum: int, stage: str | int | None = None) -> None:
        """Send a signal to the processes of the run's commands, as SIGUSR1 to ask `dd` for its progress.

        `stage` is the name or the index of a stage; None means all commands. The signal goes to the command's
        own process, not to those that it has started. One that has ended gets nothing. Returns at once; from
        any thread or signal handler. Raises ValueError if there is no such signal or stage, or if the stage
        is not a command.
        """
        self._owned.run.send_signal(signum, stage)


class StartingRun:
    """The context manager that `astart()` returns: it starts the run, and ends it with the block."""

    def __init__(self, make_plan: Callable[[], RunPlan]) -> None:
        self._make_plan = make_plan
        self._owned: OwnedRun | None = None

    async def __aenter__(self) -> AsyncRun:
        """Start the run. Raises StartError, when nothing is left, if a stage cannot be started."""
        if self._owned is not None:
            raise RuntimeError("astart() can be entered only once; call it again for another run")
        self._owned = owned = await begin(self._make_plan)
        try:
            return AsyncRun(owned)
        except BaseException as error:  # nobody else can end it
            await owned.end(error)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close stdin and stdout and wait for the end; by an exception: cancel first.

        An exception that stdin or stdout raised gives the run the grace time to end, as in `Run`.
        """
        owned = self._owned
        assert owned is not None
        if not isinstance(error, GeneratorExit):  # then no loop runs at all
            owned.loop.check("this run")
        if error is None:
            owned.run.close_streams()
            await owned.finish(check=True)
        elif owned.run.raised_by_stream(error):
            owned.run.close_streams()
            if await owned.ends_within_grace():
                await owned.finish(check=True)
            else:
                await owned.end(error)
        else:
            await owned.end(error)


class _Cut:
    """A note that a run was cancelled. The run refers to it and not to the iterator, which may be dropped."""

    __slots__ = ("happened",)

    def __init__(self) -> None:
        self.happened = False

    def set(self) -> None:
        """Make the note; in any thread."""
        self.happened = True


class AsyncBytes:
    """The chunks that a pipeline's last stage writes, as they come, as `aiter_bytes()` returns them.

    It starts with the first chunk that is asked for. `aclose()`, or leaving it as an `async with` block, ends
    the run early and waits for its children; an iterator that is merely dropped ends them too, without
    waiting.
    """

    def __init__(self, make_plan: Callable[[], RunPlan]) -> None:
        self._make_plan = make_plan
        self._owned: OwnedRun | None = None
        self._finished = False
        self._busy = False
        self.cut = _Cut()
        """Says whether the run was cancelled, so that nothing more of its output counts."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next chunk, never empty. After the last one the run's PipelineError, if it failed."""
        if self._finished:
            raise StopAsyncIteration
        if self._busy:
            raise RuntimeError("another task is already waiting for the next chunk of this iterator")
        self._busy = True
        try:
            if self._owned is None:
                self._owned = await begin(self._make_plan, self.cut.set)
                if self._finished:  # closed meanwhile, by another task
                    await self._owned.leave()
                    raise StopAsyncIteration  # noqa: TRY301 - as after any other end
            chunk: bytes = await self._owned.run.reader.receive()  # type: ignore[attr-defined] # a loop's own
        except EndOfStream:
            return await self._end()
        except StopAsyncIteration:
            raise
        except BaseException as error:
            if self._owned is not None and self._owned.run.explains(error):
                return await self._end()
            await self._leave(error)
            raise
        finally:
            self._busy = False
        return chunk

    async def aclose(self) -> None:
        """End the run, and wait for its children: no failure. Idempotent; no more chunks afterwards."""
        await self._leave(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if not self._finished and self._owned is not None and not sys.is_finalizing():
            self._owned.run.abandon_reader()

    async def _leave(self, error: BaseException | None) -> None:
        finished, self._finished = self._finished, True
        if self._owned is not None and not finished:
            await self._owned.leave(error)

    async def _end(self) -> bytes:
        owned = self._owned
        assert owned is not None
        self._finished = True
        owned.run.execution.end_output()
        owned.run.reader.close()
        await owned.finish(check=True)
        raise StopAsyncIteration


class AsyncLines:
    """The same by line, bytes without the LF, as `aiter_lines()` returns them."""

    def __init__(self, chunks: AsyncBytes) -> None:
        self._chunks = chunks
        self._cut = chunks.cut
        self._splitter = LineSplitter()
        self._lines: list[bytes] = []
        """Those at hand, the next one last."""
        self._finished = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next line; after the last one the run's PipelineError, if it failed."""
        while not self._lines or self._cut.happened:
            if self._finished:
                raise StopAsyncIteration
            try:
                self._lines = await self._splitter.next_block(self._next_chunk)
            except LineTooLong:
                await self.aclose()
                raise
            self._lines.reverse()
        return self._lines.pop()

    async def aclose(self) -> None:
        """End the run, and wait for its children: no failure. Idempotent; no more lines afterwards."""
        self._lines = []
        self._finished = True
        await self._chunks.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _next_chunk(self) -> bytes | None:
        try:
            return await self._chunks.__anext__()
        except StopAsyncIteration:
            self._finished = True
            return None

"""Run neighbouring stages, each of which turns an iterator of chunks into another, in one thread.

A guard generator around each stage's iterator records how the stage ended, and then ends the iterator. So an
error stays with the stage that raised it. The stages after it see EOF; those before it, whose output was not
read to its end, see a closed pipe. Guards are closed from the last to the first. The last stage has ended
only when its output has been written.

The first stage can be stopped on purpose. Its next read raises `FinishEarly`, and after the chunk in hand its
guard ends it. The output is not touched, because the stages after it share the thread and go on to write.
"""

from __future__ import annotations

import threading
import time
from contextvars import copy_context
from functools import partial

from penstock.core.errors import Cancelled, ClosedPipe, FinishEarly
from penstock.core.noop import noop
from penstock.core.public import exported
from penstock.runtime.late_calls import ReactorCalls
from penstock.runtime.stage_scheduler import run_stages
from penstock.stages.coalescing_writer import CoalescingWriter
from penstock.stages.function import PythonStage, close_iterator
from penstock.stages.running import ThreadedStage
from penstock.streams.chunk_feed import ChunkFeed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from typing import Any

    from penstock.stages.context import StageContext
    from penstock.streams.probe import Probe
    from penstock.streams.reader import Reader
    from penstock.streams.stage_ends import Input, Output
    from penstock.streams.writer import Writer

__all__ = ["ChainStage", "Transform", "iterator_of", "start_fused"]


_MIN_GRACE_S = 0.05
"""Seconds that a stage has to end in any case, if later stages of its thread would end with it."""


class ChainStage(PythonStage):
    """A stage that can be fused with its neighbours."""

    can_be_fused = True
    outlet: str = "direct"
    """How the stage's output is written.

    `direct`, `joined` (many small chunks are held back and joined), or `shared` (another thread may write
    finished results while the function is busy).
    """

    def chain(self, chunks: Iterator[bytes], outlet: CoalescingWriter | None) -> Iterator[bytes]:
        """Turn the input's chunks into the output's, lazily.

        `outlet` is the writer of the last stage, if that shares its results.
        """
        raise NotImplementedError

    def start(self, ctx: StageContext, stdin: Input, stdout: Output, /) -> _ChainedStage:
        """Start the stage alone."""
        return start_fused([(self, ctx)], stdin, stdout)[0]


@exported
class Transform(ChainStage):
    """`fn(chunks)` gives chunks; see `penstock.transform`."""

    kind = "transform"

    def chain(self, chunks: Iterator[bytes], outlet: CoalescingWriter | None) -> Iterator[bytes]:
        """Return the function's own iterator."""
        return iterator_of(self, self.fn(chunks))


def start_fused(
    stages: Sequence[tuple[ChainStage, StageContext]], stdin: Input, stdout: Output
) -> Sequence[_ChainedStage]:
    """Start stages as one chain between two ends; return a running stage for each of them."""
    try:
        chain = _Chain(stdin.reader, stdout.writer)
        last = len(stages) - 1
        parts = [
            _ChainedStage(stage, ctx, chain, last=place == last) for place, (stage, ctx) in enumerate(stages)
        ]
        for place, part in enumerate(parts):
            part.following = parts[place + 1 :]
        chain.add_parts(parts)
    except BaseException:
        stdin.close()
        stdout.close()
        raise
    return parts


class _ChainedStage(ThreadedStage):
    """One stage of a chain while it runs."""

    count = 0
    """Bytes of output."""
    failure: BaseException | None = None
    was_iterated = False
    """Whether the guard's generator was ever advanced."""
    guarded: Generator[bytes] | None = None
    """The generator that `run` returned."""
    following: Sequence[_ChainedStage] = ()
    """The stages after it in the chain."""

    def __init__(self, stage: ChainStage, ctx: StageContext, chain: _Chain, *, last: bool) -> None:
        super().__init__(ctx, *chain.streams)
        self.stage = stage
        self._chain = chain
        self._last = last

    def probe(self) -> Probe:
        """Return what the edge to the next part of the chain shows; see `streams.probe`."""
        return self.count, None, None

    @property
    def is_on_stack(self) -> bool:  # type: ignore[override]
        """Whether the thread is in this stage, or in an earlier one that it has asked for a chunk."""
        guarded = self.guarded
        return guarded is not None and bool(getattr(guarded, "gi_running", False))

    def interrupt(self, reason: BaseException) -> None:
        """Wake the worker thread; if it has not started on the chain, it never will."""
        super().interrupt(reason)
        if self._chain.drop():
            self.release()
            self.complete(reason)

    def stop(self, grace: float) -> None:
        """End the stage at its next read or after its next chunk; `grace` seconds later it is abandoned."""
        if self._mark_stopped():
            assert self.stopped is not None
            self._abandon_stopped(max(grace, _MIN_GRACE_S) if self.following else grace)
            self._chain.end_input(self.stopped)

    def abandon(self, outcome: BaseException) -> None:
        """End without the worker. If the stage was stopped, the stages after it end too, which is a failure:
        the worker that it keeps is theirs.
        """
        if self._reason is None and self.following and not self.done:
            # It has not begun, or waits for a later stage: its own code does not keep the thread.
            if not self.was_iterated or getattr(self.guarded, "gi_suspended", False):
                self._timer = None
                self.abandon_at(time.monotonic() + self._grace, outcome, self.ctx.reactor)
                return
            name = self.ctx.name
            for part in self.following:
                part.complete(part.outcome(Cancelled(f"{name!r} did not end when it was stopped")))
        self._chain.drop()
        super().abandon(outcome)

    def run(  # noqa: C901 - one case for each way to end
        self, chunks: Iterator[bytes], close: Callable[[], None], outlet: CoalescingWriter | None
    ) -> Generator[bytes]:
        """Yield the stage's output for `chunks`; then `close()` its input, and record how it ended."""
        self.was_iterated = True
        made: Any = None
        cut: _OutputFailed | None = None
        try:
            # A stage that was stopped before it began makes nothing.
            made = self.stage.chain(chunks, outlet) if self.stopped is None else ()
            for chunk in made:
                data = chunk if type(chunk) is bytes else _as_bytes(self.stage, chunk)
                if data:
                    self.count += len(data)
                    try:
                        yield data
                    except GeneratorExit:  # raised here, so not by the function: the next stage has left
                        self._fail(ClosedPipe())
                        break
                    if self.stopped is not None:
                        self._fail(self.stopped)
                        break
        except _OutputFailed as raised:
            cut = raised
            if not self._last:  # the last one gets the write error itself
                self._fail(ClosedPipe())
        except BaseException as raised:  # noqa: BLE001 - whatever the function raises is the stage's outcome
            self._fail(raised)
        try:
            close_iterator(made)
        except BaseException as raised:  # noqa: BLE001 - a generator may raise while it is closed
            if self.failure is None or isinstance(self.failure, ClosedPipe):
                self.failure = None
                self._fail(raised)
        close()
        if not self._last:
            self.end()
        if cut is not None:
            raise cut

    def close(self, guarded: Generator[bytes], close: Callable[[], None]) -> None:
        """Close the generator that `run` returned.

        If that was never advanced, closing it runs none of its code, so its last steps are done here.
        """
        guarded.close()
        if not self.was_iterated:
            self._fail(ClosedPipe())
            close()
            if not self._last:
                self.end()

    def end(self) -> None:
        """Report the outcome."""
        self.complete(self.outcome(self.failure))

    def _fail(self, error: BaseException) -> None:
        """Record the first error; one of the function's own goes through `on_exception`."""
        if self.failure is not None:
            return
        self.failure = (
            error if isinstance(error, FinishEarly | ClosedPipe) else self.apply_on_exception(error)
        )


class _OutputFailed(GeneratorExit):
    """The chain's output failed; `failed` is the write error.

    It must not look like EOF, which a function would take for the complete input.
    """

    def __init__(self, failed: BaseException | None) -> None:
        super().__init__()
        self.failed = failed


class _Chain:
    """The thread and the two outer streams that the stages of a chain share.

    The stages refer to the chain for good; the chain refers to them only until it starts or is dropped.
    """

    def __init__(self, stdin: Reader, stdout: Writer) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self.streams = (stdout, stdin)
        self._context = copy_context()
        self._gate = threading.Lock()
        self._work_started = False
        self._dropped = False
        self._parts: Sequence[_ChainedStage] = ()

    def add_parts(self, parts: Sequence[_ChainedStage]) -> None:
        """Run `parts` in a worker thread, once every stage of the run has been started."""
        self._parts = parts
        parts[0].ctx.barrier.add_stage(self, run_stages)

    def drop(self) -> bool:
        """Keep the chain from starting. Return False if it has started already."""
        with self._gate:
            self._dropped = not self._work_started
        if self._dropped:
            self._parts = ()
        return self._dropped

    def end_input(self, error: BaseException) -> None:
        """Have the first stage's reads raise `error`."""
        self._stdin.interrupt(error)

    def fail(self, error: BaseException) -> None:
        """End all parts with `error`, unless the chain has started."""
        parts = self._parts
        if self.drop():
            for part in parts:
                part.release()
                part.complete(error)

    def work(self) -> None:
        """Run the chain, and report how its stages ended."""
        with self._gate:
            if self._dropped:
                return
            for part in self._parts:
                part.worker = threading.get_ident()
            self._work_started = True
        self._context.run(self._drive)

    def _drive(self) -> None:
        parts, self._parts = self._parts, ()
        last = parts[-1]
        modes = {part.stage.outlet for part in parts}
        coalescer = None
        if "joined" in modes or last.stage.outlet == "shared":
            coalescer = CoalescingWriter(last.ctx, self._stdout)
        chunks = self._stdin.chunks() if coalescer is None else _flush_before_read(self._stdin, coalescer)
        close = self._stdin.close
        for part in parts:
            shares = part is last and part.stage.outlet == "shared"
            chunks = guarded = part.guarded = part.run(chunks, close, coalescer if shares else None)
            close = partial(part.close, guarded, close)
        sink = self._stdout if coalescer is None else coalescer
        flush = sink.flush if "joined" not in modes else noop
        try:
            if coalescer is None:
                feed = ChunkFeed(last.stage, sink, ReactorCalls(last.ctx.reactor))
                with feed.written_before_sleep():
                    feed.run(chunks, _call)
            else:
                for chunk in chunks:
                    sink.write(chunk)
                    flush()
            sink.flush()
        except _OutputFailed as cut:
            last.failure = cut.failed if last.failure is None else last.failure
        except BaseException as error:  # noqa: BLE001 - writing is the last stage's doing, and its outcome
            last.ctx.barrier.note_error(error)
            last.failure = error if last.failure is None else last.failure
        finally:
            close()
        last.release()
        last.end()


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def _flush_before_read(stdin: Reader, coalescer: CoalescingWriter) -> Iterator[bytes]:
    """Yield the chunks of `stdin`. Flush the output ahead of each read, because a read may block."""
    chunks = stdin.chunks()
    while coalescer.try_flush():
        chunk = next(chunks, None)
        if chunk is None:
            return
        yield chunk
    raise _OutputFailed(coalescer.failed)


def _as_bytes(stage: ChainStage, chunk: Any) -> bytes:
    """Copy a chunk, because its maker may reuse the buffer. TypeError naming the stage if it is not one."""
    try:
        return memoryview(chunk).tobytes()
    except TypeError:
        raise TypeError(f"{stage.name} yielded {type(chunk).__name__}, not bytes") from None


def iterator_of(stage: PythonStage, made: Any) -> Iterator[bytes]:
    """Return an iterator over what a stage's function returned.

    TypeError naming the stage if that is not an iterable of bytes.
    """
    if made is None or isinstance(made, bytes | bytearray | str):
        raise TypeError(
            f"{stage.name} must return an iterable of bytes or be a generator, not {type(made).__name__}"
        )
    iterator: Iterator[bytes] = iter(made)
    return iterator

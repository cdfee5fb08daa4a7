"""The line stages with async functions: several calls at once, and their results in the order of the lines.

Strategy. There are `concurrency` workers. Each takes the next line, calls the function, and puts the result
into the slot of the line. The slots stand in a window in the order in which the lines were taken. A worker
that finishes a slot passes on all finished slots at the front of the window. One more task writes, so that a
ready result never waits for a function or for the next line, and many small results become one write. The
window is bounded, so that a slow first line does not let the others run ahead for ever. So are the bytes that
wait to be written.

A function that raises ends the stage once the lines before it are written. No task here raises anything but a
cancellation, so that the exception of the function comes out, and not a group that holds it.

All state belongs to the thread of one loop: between two awaits no other code sees it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from penstock.aio.user_objects import Chunks
from penstock.core.framing import LineSplitter
from penstock.stages.lines import check_line

if TYPE_CHECKING:
    from typing import Self

    from penstock.aio.stages import AsyncLineStage
    from penstock.stages.context import StageContext

__all__ = ["run_lines"]

_MAX_AHEAD = 8
"""Lines in the window for each worker."""
_MAX_PENDING_BYTES = 65536
"""Bytes that may wait to be written."""


async def run_lines(stage: AsyncLineStage, ctx: StageContext, stdin: Any, stdout: Any) -> None:
    """Do the work of an async line stage."""
    lines = _Lines(stdin, stage.max_line)
    outlet = _Outlet(stdout)
    window = _Window(stage, ctx, lines, outlet)
    async with anyio.create_task_group() as group:
        outlet.scope = group.cancel_scope
        group.start_soon(outlet.pump)
        if stage.kind == "transform-lines":
            await _generate(stage, lines, outlet)
        else:
            await window.work()
        outlet.close()
    if outlet.failure is not None:
        raise outlet.failure


async def _generate(stage: AsyncLineStage, lines: _Lines, outlet: _Outlet) -> None:
    """Queue the lines that an async generator yields."""
    try:
        results = stage.fn(lines).__aiter__()
        try:
            async for line in results:
                check_line(stage, line)
                outlet.put((bytes(line), b"\n"))
                await outlet.room()
        finally:
            if hasattr(results, "aclose"):
                with anyio.CancelScope(shield=True):
                    await results.aclose()
    except BaseException as error:  # noqa: BLE001 - whatever the function raises is the outcome
        await _raise_if_cancelled(error)
        outlet.fail(error)


async def _raise_if_cancelled(error: BaseException) -> None:
    """Raise if the stage is being cancelled.

    `error` alone does not say so: a function that awaits a task which somebody has cancelled raises the same.
    """
    if isinstance(error, anyio.get_cancelled_exc_class()):
        await anyio.lowlevel.checkpoint()


class _Lines:
    """The lines of a stream, as workers take them."""

    def __init__(self, stdin: Any, max_line: int) -> None:
        self._chunks = Chunks(stdin)
        self._splitter = LineSplitter(max_line)
        self._block: deque[bytes] = deque()
        self._lock = anyio.Lock()
        self._ended = False

    async def fill(self) -> bool:
        """Make sure that a line is at hand; False at the end. LineTooLong after the lines before it."""
        while not self._block:
            async with self._lock:
                while not (self._block or self._ended):
                    self._block.extend(await self._splitter.next_block(self._next_chunk))
            if self._ended and not self._block:
                return False
        return True

    async def _next_chunk(self) -> bytes | None:
        chunk = await self._chunks.next()
        self._ended = chunk is None
        return chunk

    def take(self) -> bytes:
        """Return the next line, which is at hand."""
        return self._block.popleft()

    def take_all(self) -> list[bytes]:
        """Return all lines that are at hand."""
        lines = list(self._block)
        self._block.clear()
        return lines

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not await self.fill():
            raise StopAsyncIteration
        return self.take()


class _Outlet:
    """The queue of output, and the task that writes it."""

    def __init__(self, stdout: Any) -> None:
        self._stdout = stdout
        self._pieces: list[bytes] = []
        self._size = 0
        self._closed = False
        self._news = anyio.Event()
        self._space = anyio.Event()
        self.scope: anyio.CancelScope | None = None
        self.failure: BaseException | None = None

    def put(self, pieces: tuple[bytes, ...]) -> None:
        """Queue pieces that belong together."""
        self._pieces += pieces
        self._size += sum(map(len, pieces))
        self._news.set()

    async def room(self) -> None:
        """Wait while too much is queued."""
        while self._size > _MAX_PENDING_BYTES:
            await self._space.wait()

    def fail(self, error: BaseException) -> None:
        """End with `error` once the queued pieces are written. The first error stands."""
        if self.failure is None:
            self.failure = error
        self.close()

    def close(self) -> None:
        """Note that nothing more is to come."""
        self._closed = True
        self._news.set()

    async def pump(self) -> None:
        """Write the queue until it is closed and empty. Then no other task needs to go on."""
        try:
            while self._pieces or not self._closed:
                if not self._pieces:
                    self._news = anyio.Event()
                    await self._news.wait()
                    continue
                data = b"".join(self._pieces)
                self._pieces.clear()
                self._size = 0
                # Only the task that sets an event replaces it: several tasks may wait for it.
                space, self._space = self._space, anyio.Event()
                space.set()
                if data:
                    await self._stdout.send(data)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - writing is the stage's doing, and its outcome
            self.failure = error
        if self.failure is not None and self.scope is not None:
            self.scope.cancel()


class _Slot:
    """A line that is being worked on, and its result so far."""

    __slots__ = ("done", "error", "pieces")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.done = False
        self.error: BaseException | None = None


class _Window:
    """The lines that are being worked on, in order."""

    def __init__(self, stage: AsyncLineStage, ctx: StageContext, lines: _Lines, outlet: _Outlet) -> None:
        self._stage = stage
        self._ctx = ctx
        self._lines = lines
        self._outlet = outlet
        self._slots: deque[_Slot] = deque()
        self._moved = anyio.Event()
        self._stopped = False

    async def work(self) -> None:
        """Work until all lines are done, or one has failed."""
        if self._stage.concurrency == 1:
            await self._worker()
            return
        async with anyio.create_task_group() as group:
            for _ in range(self._stage.concurrency):
                group.start_soon(self._worker)

    async def _worker(self) -> None:
        most = _MAX_AHEAD * self._stage.concurrency
        make = getattr(self, "_" + self._stage.kind.replace("-", "_"))
        while await self._next() and not self._stopped:
            self._slots.append(slot := _Slot())
            try:
                await make(slot)
            except BaseException as error:  # noqa: BLE001 - whatever the function raises is the outcome
                await _raise_if_cancelled(error)
                slot.error = error
                self._stopped = True
            slot.done = True
            self._pass_on()
            await self._outlet.room()
            while len(self._slots) >= most:
                await self._moved.wait()

    async def _next(self) -> bool:
        try:
            return not self._stopped and await self._lines.fill()
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - reading is the stage's doing, and its outcome
            if not self._stopped:
                self._stopped = True
                self._slots.append(slot := _Slot())
                slot.error, slot.done = error, True
                self._pass_on()
            return False

    def _pass_on(self) -> None:
        """Queue what the slots at the front have, as far as they are done."""
        while self._slots:
            slot = self._slots[0]
            if slot.pieces:
                self._outlet.put(tuple(slot.pieces))
                slot.pieces.clear()
            if not slot.done:
                break
            self._slots.popleft()
            if slot.error is not None:
                self._outlet.fail(slot.error)
                self._slots.clear()  # what comes after it counts for nothing
        moved, self._moved = self._moved, anyio.Event()
        moved.set()

    # One method for each kind of stage: it makes the output of a line.

    async def _map_lines(self, slot: _Slot) -> None:
        made = await self._stage.fn(self._lines.take())
        if made is not None:
            check_line(self._stage, made)
            slot.pieces += (bytes(made), b"\n")

    async def _filter_lines(self, slot: _Slot) -> None:
        line = self._lines.take()
        if await self._stage.fn(line):
            slot.pieces += (line, b"\n")

    async def _map_line_batches(self, slot: _Slot) -> None:
        made = await self._stage.fn(self._lines.take_all())
        if made is None or isinstance(made, bytes | bytearray | str):
            raise TypeError(f"{self._stage.name} must return an iterable of bytes, not {type(made).__name__}")
        for line in made:
            check_line(self._stage, line)
            slot.pieces += (bytes(line), b"\n")

    async def _each_line(self, slot: _Slot) -> None:
        await self._stage.fn(self._ctx, self._lines.take(), _SlotStdout(self, slot))

    async def write(self, slot: _Slot, data: bytes) -> None:
        """Pass bytes on at once if it is the turn of `slot`; otherwise keep them until then."""
        if data:
            slot.pieces.append(data)
        if self._slots and self._slots[0] is slot:
            self._pass_on()
        await self._outlet.room()


class _SlotStdout:
    """The stdout of one call of an `each_line` function."""

    __slots__ = ("_slot", "_window")

    def __init__(self, window: _Window, slot: _Slot) -> None:
        self._window = window
        self._slot = slot

    async def send(self, item: bytes) -> None:
        """Write all of `item`; where several lines are worked on, it is kept until it is this one's turn."""
        with memoryview(item) as view:
            data = view.tobytes()
        await self._window.write(self._slot, data)

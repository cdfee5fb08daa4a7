"""Stages that turn an iterator of chunks or lines into another, or work on one line or a block of lines.

Lines are split on LF only and carry none; a last line without LF is delivered, and every line that is written
gets one. Splitting and joining is done by the block. What was made before an error is passed on before the
error is raised, and nothing is held back while the input has to be waited for.
"""

from __future__ import annotations

import time
from itertools import chain
from typing import TYPE_CHECKING, Any

from penstock.core.framing import DEFAULT_MAX_LINE, LineSplitter
from penstock.stages.function import PythonStage, close_iterator
from penstock.stages.fused import ChainStage
from penstock.stages.held import HeldWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from penstock.control.context import StageContext
    from penstock.data.reader import Reader
    from penstock.data.writer import Writer

__all__ = ["EachLine", "FilterLines", "MapLineBatches", "MapLines", "Transform", "TransformLines"]

_SLICE = 0.005
"""Seconds that a slice of lines should take, so that a slow function's first results do not wait for
its last.
"""


class Transform(ChainStage):
    """`fn(chunks)` gives chunks; see `penstock.transform`."""

    kind = "transform"

    def chain(self, ctx: StageContext, chunks: Iterator[bytes]) -> Iterator[bytes]:  # noqa: ARG002
        """Just what the function makes."""
        return _iterator(self, self.fn(chunks))


class TransformLines(ChainStage):
    """`fn(lines)` gives lines; see `penstock.transform_lines`."""

    kind = "transform-lines"
    small_pieces = True

    def chain(self, ctx: StageContext, chunks: Iterator[bytes]) -> Generator[bytes]:  # noqa: ARG002
        """Each line as a chunk of its own: the function may wait for input after any of them."""
        made = _iterator(self, self.fn(chain.from_iterable(_blocks(chunks))))
        try:
            for line in made:
                yield _with_end(self, line)
        finally:
            close_iterator(made)


class _BlockStage(ChainStage):
    """A stage that works on lists of lines, which are cut into slices by the time that the function takes."""

    def make(self, lines: list[bytes], out: list[bytes]) -> None:
        """Add to `out` what becomes of `lines`; keep what was added where the function raises."""
        raise NotImplementedError

    def chain(self, ctx: StageContext, chunks: Iterator[bytes]) -> Generator[bytes]:  # noqa: ARG002
        """Slices begin with one line, and grow fourfold while they take less than they may."""
        size = 1
        for block in _blocks(chunks):
            start = 0
            while start < len(block):
                lines = block[start : start + size] if start or size < len(block) else block
                start += len(lines)
                out: list[bytes] = []
                began = time.monotonic()
                failure = None
                try:
                    self.make(lines, out)
                except BaseException as raised:  # noqa: BLE001 - raised again, after what came before it
                    failure = raised
                try:
                    if out:
                        yield self.joined(out)
                finally:
                    if failure is not None:
                        raise failure
                took = time.monotonic() - began
                if took < _SLICE and len(lines) == size:
                    size *= 4
                elif took > 4 * _SLICE and size > 1:
                    size //= 4

    def joined(self, out: list[bytes]) -> bytes:
        """The lines as one chunk, each with its LF."""
        try:
            return b"\n".join(out) + b"\n"
        except TypeError:
            for line in out:
                _with_end(self, line)
            raise


class MapLines(_BlockStage):
    """`fn(line)` gives a line or None; see `penstock.map_lines`."""

    kind = "map-lines"

    def make(self, lines: list[bytes], out: list[bytes]) -> None:
        """Map them."""
        # extend() keeps what came before an error of the function's.
        out.extend(map(self.fn, lines))

    def joined(self, out: list[bytes]) -> bytes:
        """The lines as one chunk, without those that are None."""
        try:
            return b"\n".join(out) + b"\n"
        except TypeError:  # there is a None among them, or a mistake
            kept = [line for line in out if line is not None]
            return super().joined(kept) if kept else b""


class FilterLines(_BlockStage):
    """`fn(line)` says whether the line is kept; see `penstock.filter_lines`."""

    kind = "filter-lines"

    def make(self, lines: list[bytes], out: list[bytes]) -> None:
        """Filter them."""
        out.extend(filter(self.fn, lines))


class MapLineBatches(_BlockStage):
    """`fn(lines)` gives lines for a whole block; see `penstock.map_line_batches`."""

    kind = "map-line-batches"

    def chain(self, ctx: StageContext, chunks: Iterator[bytes]) -> Generator[bytes]:  # noqa: ARG002
        """A block is what one read brought."""
        for block in _blocks(chunks):
            out: list[bytes] = []
            failure = None
            try:
                self.make(block, out)
            except BaseException as raised:  # noqa: BLE001 - raised again, after what came before it
                failure = raised
            try:
                if out:
                    yield self.joined(out)
            finally:
                if failure is not None:
                    raise failure

    def make(self, lines: list[bytes], out: list[bytes]) -> None:
        """Call the function once."""
        out.extend(_iterator(self, self.fn(lines)))


class EachLine(PythonStage):
    """`fn(ctx, line, stdout)` for each line; see `penstock.each_line`."""

    kind = "each-line"

    def __init__(self, fn: Any, name: str | None, max_line: int) -> None:
        super().__init__(fn, name)
        self.max_line = max_line

    def body(self, ctx: StageContext, stdin: Reader, stdout: Writer) -> None:
        """Call it for each line."""
        fn = self.fn
        held = HeldWriter(ctx, stdout)
        try:
            for block in _blocks(stdin.chunks(), self.max_line, held.flush):
                for line in block:
                    fn(ctx, line, held)
        except BaseException:
            held.pass_on()  # what was written before the error
            raise
        held.flush()


def _blocks(
    chunks: Iterator[bytes], max_line: int = DEFAULT_MAX_LINE, before_read: Callable[[], None] | None = None
) -> Generator[list[bytes]]:
    """The lines that each chunk completes; `before_read()` is called ahead of each read, which may block."""
    splitter = LineSplitter(max_line)
    while True:
        if before_read is not None:
            before_read()
        chunk = next(chunks, None)
        lines = splitter.finish() if chunk is None else splitter.feed(chunk)
        if lines:
            yield lines
        if chunk is None:
            return
        if splitter.error is not None:  # without waiting for more input to fail on
            raise splitter.error


def _iterator(stage: PythonStage, made: Any) -> Iterator[bytes]:
    """What a function returned, if it is an iterable of bytes."""
    if made is None or isinstance(made, bytes | bytearray | str):
        raise TypeError(
            f"{stage.name} must return an iterable of bytes or be a generator, not {type(made).__name__}"
        )
    iterator: Iterator[bytes] = iter(made)
    return iterator


def _with_end(stage: PythonStage, line: Any) -> bytes:
    """A line with its LF; TypeError naming the stage where it is no line."""
    if not isinstance(line, bytes | bytearray | memoryview):
        raise TypeError(f"{stage.name} made a {type(line).__name__}, not bytes, of a line")
    return line + b"\n" if isinstance(line, bytes) else bytes(line) + b"\n"

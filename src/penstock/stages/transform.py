"""Stages that turn an iterator of chunks or lines into another, or work on one line or a block of lines.

Lines are split on LF only and carry none; a last line without LF is delivered, and every line that is written
gets one. Splitting and joining is done by the block. What a stage holds is passed on before each read that
may block, and once it is 50 ms old, so that a slow producer is not held back; what was made before an error
is written before the error is raised.
"""

from __future__ import annotations

import time
from itertools import chain
from typing import TYPE_CHECKING, Any

from penstock.core.framing import DEFAULT_MAX_LINE, LineSplitter
from penstock.data.writer import Writer
from penstock.stages.function import PythonStage, close_iterator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from penstock.control.context import StageContext
    from penstock.data.reader import Reader

__all__ = ["EachLine", "FilterLines", "MapLineBatches", "MapLines", "Transform", "TransformLines"]

_AGE = 0.05
"""Seconds that what was made may be held back."""
_SLICE = 0.005
"""Seconds that one slice of lines should take, so that a slow function's first results are not held
back by its last.
"""
_BLOCK = 65536


class Transform(PythonStage):
    """`fn(chunks)` gives chunks; see `penstock.transform`."""

    kind = "transform"

    def body(self, ctx: StageContext, stdin: Reader, stdout: Writer) -> None:  # noqa: ARG002
        """Write what the function yields, as it comes."""
        chunks = _iterate(self, self.fn(stdin.chunks()))
        try:
            for chunk in chunks:
                stdout.write(chunk)
        finally:
            close_iterator(chunks)


class TransformLines(PythonStage):
    """`fn(lines)` gives lines; see `penstock.transform_lines`."""

    kind = "transform-lines"

    def body(self, ctx: StageContext, stdin: Reader, stdout: Writer) -> None:  # noqa: ARG002
        """Write what the function yields, a block at a time."""
        held = _Held(stdout)
        blocks = _blocks(stdin, held.flush, DEFAULT_MAX_LINE)
        lines = _iterate(self, self.fn(chain.from_iterable(blocks)))
        try:
            for line in lines:
                held.add(line)
        finally:
            # The writer may be what failed; then there is nowhere to write the rest to, and that error
            # stands.
            held.flush_rest()
            close_iterator(lines)


class EachLine(PythonStage):
    """`fn(ctx, line, stdout)` for each line; see `penstock.each_line`."""

    kind = "each-line"

    def __init__(self, fn: Any, name: str | None, max_line: int) -> None:
        super().__init__(fn, name)
        self.max_line = max_line

    def body(self, ctx: StageContext, stdin: Reader, stdout: Writer) -> None:
        """Call it for each line."""
        fn = self.fn
        held = _HeldWriter(stdout)
        try:
            for block in _blocks(stdin, held.pass_on, self.max_line):
                for line in block:
                    fn(ctx, line, held)
        finally:
            held.close()


class _BlockStage(PythonStage):
    """A stage that works on lists of lines; those are cut into slices by the time that the function takes."""

    def make(self, lines: list[bytes], out: list[bytes]) -> None:
        """Add to `out` what becomes of `lines`; keep what was added where the function raises."""
        raise NotImplementedError

    def body(self, ctx: StageContext, stdin: Reader, stdout: Writer) -> None:  # noqa: ARG002
        """Slices begin with one line, and grow fourfold while they take less than they may."""
        size = 1
        for block in _blocks(stdin, _nothing, DEFAULT_MAX_LINE):
            start = 0
            while start < len(block):
                lines = block[start : start + size] if start or size < len(block) else block
                start += len(lines)
                out: list[bytes] = []
                began = time.monotonic()
                try:
                    self.make(lines, out)
                finally:
                    if out:
                        stdout.write(self._joined(out))
                took = time.monotonic() - began
                if took < _SLICE and len(lines) == size:
                    size *= 4
                elif took > 4 * _SLICE and size > 1:
                    size //= 4

    def _joined(self, out: list[bytes]) -> bytes:
        out.append(b"")
        try:
            return b"\n".join(out)
        except TypeError:
            for line in out:
                if not isinstance(line, bytes | bytearray | memoryview):
                    raise TypeError(
                        f"{self.name} made a {type(line).__name__}, not bytes, of a line"
                    ) from None
            raise


class MapLines(_BlockStage):
    """`fn(line)` gives a line or None; see `penstock.map_lines`."""

    kind = "map-lines"

    def make(self, lines: list[bytes], out: list[bytes]) -> None:
        """Map them."""
        # extend() keeps what came before an error of the function's.
        out.extend(map(self.fn, lines))

    def _joined(self, out: list[bytes]) -> bytes:
        try:
            return b"\n".join(out) + b"\n"
        except TypeError:  # there is a None among them, or a mistake
            kept = [line for line in out if line is not None]
            return super()._joined(kept) if kept else b""


class FilterLines(_BlockStage):
    """`fn(line)` says whether the line is kept; see `penstock.filter_lines`."""

    kind = "filter-lines"

    def make(self, lines: list[bytes], out: list[bytes]) -> None:
        """Filter them."""
        out.extend(filter(self.fn, lines))


class MapLineBatches(PythonStage):
    """`fn(lines)` gives lines for a whole block; see `penstock.map_line_batches`."""

    kind = "map-line-batches"

    def body(self, ctx: StageContext, stdin: Reader, stdout: Writer) -> None:  # noqa: ARG002
        """A block is what one read brought."""
        for block in _blocks(stdin, _nothing, DEFAULT_MAX_LINE):
            held = _Held(stdout)
            made = _iterate(self, self.fn(block))
            try:
                if isinstance(made, list):
                    held.lines = list(made)
                else:
                    for line in made:
                        held.add(line)
            finally:
                held.flush_rest()
                close_iterator(made)


class _Held:
    """Lines that wait to be written as one block."""

    def __init__(self, stdout: Writer) -> None:
        self._stdout = stdout
        self.lines: list[bytes] = []
        self._size = 0
        self._since = 0.0
        self._broken = False

    def add(self, line: bytes) -> None:
        """Hold one more line; write them all where they are many, or old."""
        now = time.monotonic()
        if not self.lines:
            self._since = now
        self.lines.append(line)
        self._size += len(line)
        if self._size >= _BLOCK or now - self._since >= _AGE:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        lines, self.lines, self._size = self.lines, [], 0
        if not lines or self._broken:
            return
        lines.append(b"")
        self._broken = True  # until the write has gone well
        self._stdout.write(b"\n".join(lines))
        self._broken = False

    def flush_rest(self) -> None:
        """Write what is held, unless writing has failed before."""
        self.flush()


class _HeldWriter(Writer):
    """The `stdout` of an `each_line` function: small writes are joined to large ones."""

    __slots__ = ("_pieces", "_since", "_size", "_stdout")

    def __init__(self, stdout: Writer) -> None:
        super().__init__()
        self._stdout = stdout
        self._pieces: list[bytes] = []
        self._size = 0
        self._since = 0.0

    def _push(self, data: bytes | memoryview) -> None:
        now = time.monotonic()
        if not self._pieces:
            self._since = now
        self._pieces.append(bytes(data))
        self._size += len(data)
        self.count += len(data)
        if self._size >= _BLOCK or now - self._since >= _AGE:
            self.pass_on()

    def flush(self) -> None:
        """Pass on what is held."""
        super().flush()
        self.pass_on()

    def pass_on(self) -> None:
        """Write what is held."""
        pieces, self._pieces, self._size = self._pieces, [], 0
        if pieces:
            self._stdout.write(b"".join(pieces))

    def _release(self) -> None:
        self.pass_on()


def _blocks(stdin: Reader, before_read: Callable[[], None], max_line: int) -> Iterator[list[bytes]]:
    """The lines that each read brought; `before_read()` is called ahead of each, since it may block."""
    splitter = LineSplitter(max_line)
    chunks = stdin.chunks()
    while True:
        before_read()
        chunk = next(chunks, None)
        lines = splitter.finish() if chunk is None else splitter.feed(chunk)
        if lines:
            yield lines
        if chunk is None:
            return


def _iterate(stage: PythonStage, made: Iterable[bytes] | None) -> Iterator[bytes] | list[bytes]:
    """What a function returned, if it is an iterable of bytes."""
    if made is None or isinstance(made, bytes | bytearray | str):
        raise TypeError(
            f"{stage.name} must return an iterable of bytes or be a generator, not {type(made).__name__}"
        )
    return made if isinstance(made, list) else iter(made)


def _nothing() -> None:
    """For stages that hold nothing back."""

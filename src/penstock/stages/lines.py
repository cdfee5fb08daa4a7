"""Stages that see their input as lines, one after the other.

Lines are split on LF only, and passed without it. A last line without LF is delivered, and every line of the
output gets one. Output that was made before an error is written before the error is raised. Nothing is held
back while the stage waits for input.
"""

from __future__ import annotations

from itertools import chain

from penstock.core.framing import LineSplitter
from penstock.core.public import exported
from penstock.stages.chain import ChainStage, iterator_of
from penstock.stages.coalescing_writer import CoalescingWriter
from penstock.stages.function import PythonStage, close_iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import Any

    from penstock.stages.context import StageContext
    from penstock.streams.reader import Reader
    from penstock.streams.writer import Writer

__all__ = ["EachLine", "TransformLines", "check_line"]


@exported
class TransformLines(ChainStage):
    """`fn(lines)` returns lines; see `penstock.transform_lines`."""

    kind = "transform-lines"
    outlet = "joined"

    def chain(self, chunks: Iterator[bytes], outlet: CoalescingWriter | None) -> Generator[bytes]:
        """Yield each line as a separate chunk: the function may wait for input after any of them."""
        made = iterator_of(self, self.fn(chain.from_iterable(LineSplitter().iter_blocks(chunks))))
        try:
            for line in made:
                check_line(self, line)
                yield bytes(line) + b"\n"
        finally:
            close_iterator(made)


@exported
class EachLine(PythonStage):
    """`fn(ctx, line, stdout)` for each line; see `penstock.each_line`."""

    kind = "each-line"

    def __init__(self, fn: Any, name: str | None, max_line: int) -> None:
        super().__init__(fn, name)
        self.max_line = max_line

    def body(self, ctx: StageContext, stdin: Reader, stdout: Writer) -> None:
        """Call the function for each line."""
        fn = self.fn
        coalescer = CoalescingWriter(ctx, stdout)
        try:
            for block in LineSplitter(self.max_line).iter_blocks(stdin.chunks(), coalescer.flush):
                for line in block:
                    fn(ctx, line, coalescer)
        except BaseException:
            coalescer.try_flush()  # the output from before the error
            raise
        coalescer.flush()


def check_line(stage: PythonStage, line: Any) -> None:
    """Raise a TypeError that names the stage if its function returned something that is not a line."""
    if not isinstance(line, bytes | bytearray | memoryview):
        raise TypeError(f"{stage.name} returned {type(line).__name__} for a line, not bytes")

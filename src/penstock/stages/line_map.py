"""Stages that work on blocks of lines: a function is mapped over many lines, or is given many at once.

The lines of one read are cut into slices by the time that the function takes. The results of a slice lie in a
list that grows while the function is still busy. If that takes long, another thread takes from its front the
results that have been ready for 50 ms (`_LineSlice.take_results`). Both threads take under the outlet's lock,
so each result is written once, and in order.
"""

from __future__ import annotations

import time
from functools import partial
from itertools import compress

from penstock.core.framing import LineSplitter
from penstock.core.public import exported
from penstock.stages.chain import ChainStage, iterator_of
from penstock.stages.lines import check_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any

    from penstock.stages.coalescing_writer import CoalescingWriter

__all__ = ["FilterLines", "MapLineBatches", "MapLines"]

_MAX_SLICE_S = 0.005
"""Seconds that a slice should take. It begins with one line, and grows fourfold while it takes less."""


class _BlockStage(ChainStage):
    """The common part; `outlet` lets another thread write for a function that is busy."""

    outlet = "shared"
    one_for_each = True
    """Whether the function is called for each line, and returns one result for it."""

    def make(self, fn: Callable[..., Any], lines: list[bytes], results: list[Any]) -> None:
        """Append the function's results for `lines`, one after the other."""
        results.extend(map(fn, lines))

    def lines_of(self, lines: list[bytes], results: list[Any]) -> list[Any]:
        """Return the lines to join for these results, which were made of `lines`."""
        return results

    def kept(self, results: list[Any]) -> list[Any]:
        """Return the results that stand for a line; called only if joining has failed."""
        return results

    def chain(self, chunks: Iterator[bytes], outlet: CoalescingWriter | None) -> Generator[bytes]:
        """Yield a chunk for each slice."""
        size = 1
        fn = self.fn
        for block in LineSplitter().iter_blocks(chunks):
            start = 0
            while start < len(block):
                stop = start + self.slice_size(size)
                part = _LineSlice(self, block[start:stop] if start or stop < len(block) else block)
                start += len(part.lines)
                if outlet is not None:
                    outlet.set_result_source(part.take_results)
                took = part.make(fn)
                if outlet is not None:
                    outlet.set_result_source(None)
                if part.reuses_a_buffer:  # the very first result shows it; its slice has one line
                    fn = partial(_copying, self.fn)
                yield from part.rest()
                if took < _MAX_SLICE_S and len(part.lines) == size:
                    size *= 4
                elif took > 4 * _MAX_SLICE_S and size > 1:
                    size //= 4

    def slice_size(self, size: int) -> int:
        """Return how many lines the next slice may have; `size` is the number that fits the time."""
        return size


class _LineSlice:
    """Some lines, and their results so far."""

    __slots__ = ("_delivered", "_failure", "_stage", "lines", "results", "reuses_a_buffer")

    def __init__(self, stage: _BlockStage, lines: list[bytes]) -> None:
        self._stage = stage
        self._delivered = 0
        self._failure: BaseException | None = None
        self.lines = lines
        self.results: list[Any] = []
        self.reuses_a_buffer = False

    def make(self, fn: Callable[..., Any]) -> float:
        """Call the function; return how many seconds that took."""
        began = time.monotonic()
        try:
            self._stage.make(fn, self.lines, self.results)
        except BaseException as raised:  # noqa: BLE001 - raised by `rest`, after what came before it
            self._failure = raised
        first = self.results[:1]  # a copy: the other thread may take the results at this very moment
        self.reuses_a_buffer = bool(first) and isinstance(first[0], bytearray | memoryview)
        return time.monotonic() - began

    def rest(self) -> Generator[bytes]:
        """Yield the remaining results as one chunk, then raise the error, if any. The function has ended."""
        failure = self._failure
        count = self._delivered + len(self.results)
        if failure is None and self._stage.one_for_each and count < len(self.lines):
            # Inside `map` it looks like the end of the lines.
            failure = RuntimeError(f"{self._stage.name} raised StopIteration")
        results, self.results = self.results, []
        data, mistake = self._joined(results)
        try:
            if data:
                yield data
        finally:
            failure = mistake or failure
            if failure is not None:
                raise failure

    def take_results(self) -> bytes:
        """Take the results that are ready, for another thread to write.

        A result that is not a line is left for the stage's own thread to report.
        """
        ready = len(self.results)
        # A list may be cut at its front while `extend` in another thread is in the middle of adding to its
        # end.
        results = self.results[:ready]
        del self.results[:ready]
        return self._joined(results)[0]

    def _joined(self, results: list[Any]) -> tuple[bytes, TypeError | None]:
        """Return the next results as one chunk, and the error for the first that is not a line."""
        begin, end = self._delivered, self._delivered + len(results)
        self._delivered = end
        whole = begin == 0 and end == len(self.lines)
        stage = self._stage
        made = stage.lines_of(self.lines if whole else self.lines[begin:end], results)
        try:
            return (b"\n".join(made) + b"\n" if made else b""), None
        except TypeError:  # as a check it costs nothing if all results are lines
            made = stage.kept(made)
        try:
            return (b"\n".join(made) + b"\n" if made else b""), None
        except TypeError:
            return self._until_mistake(made)

    def _until_mistake(self, lines: list[Any]) -> tuple[bytes, TypeError | None]:
        for place, line in enumerate(lines):
            try:
                check_line(self._stage, line)
            except TypeError as mistake:
                return b"".join(bytes(good) + b"\n" for good in lines[:place]), mistake
        return b"".join(bytes(good) + b"\n" for good in lines), None


@exported
class MapLines(_BlockStage):
    """`fn(line)` returns a line or None; see `penstock.map_lines`."""

    kind = "map-lines"

    def kept(self, results: list[Any]) -> list[Any]:
        """Drop None."""
        return [line for line in results if line is not None]


@exported
class FilterLines(_BlockStage):
    """`fn(line)` says whether the line is kept; see `penstock.filter_lines`."""

    kind = "filter-lines"

    def lines_of(self, lines: list[bytes], results: list[Any]) -> list[Any]:
        """Return the lines whose result is true."""
        return list(compress(lines, results))


@exported
class MapLineBatches(_BlockStage):
    """`fn(lines)` returns lines for a whole block; see `penstock.map_line_batches`."""

    kind = "map-line-batches"
    one_for_each = False

    def slice_size(self, size: int) -> int:
        """Take all lines of a read."""
        return 1 << 62

    def make(self, fn: Callable[..., Any], lines: list[bytes], results: list[Any]) -> None:
        """Call the function once. Copy what a generator yields, because it may reuse a buffer."""
        made = fn(lines)
        if isinstance(made, list | tuple):
            results.extend(made)
        else:
            results.extend(map(_kept, iterator_of(self, made)))


def _kept(line: Any) -> Any:
    return bytes(line) if isinstance(line, bytearray | memoryview) else line


def _copying(fn: Callable[..., Any], lines: Any) -> Any:
    made = fn(lines)
    return _kept(made)

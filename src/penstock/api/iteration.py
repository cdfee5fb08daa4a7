"""The iterators that `iter_bytes` and `iter_lines` return.

The first `next()` starts the run; the last one, or closing or dropping the iterator, ends it. Lines come out
of chunks at the speed of the interpreter's own `chain`.
"""

from __future__ import annotations

import sys
from itertools import chain

from penstock.core.framing import LineSplitter
from penstock.core.noop import noop
from penstock.engine.managed_run import ManagedRun
from penstock.runtime.faults import is_fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from penstock.engine.run_plan import RunPlan

__all__ = ["Lines", "LinesInHand", "iterate", "lines_of"]


def iterate(make_plan: Callable[[], RunPlan], on_cut: Callable[[], None] = noop) -> Generator[bytes]:
    """Start a run with the first `next()`; yield the last stage's output, in chunks as they come.

    `make_plan()` is called then, because a plan shows the files and descriptors as they are at that time. Its
    failure is raised after the last chunk, a cancellation at once: then `on_cut()` is called, in another
    thread. Closing the iterator early ends the run, and is not a failure.
    """
    run = ManagedRun(make_plan())
    run.execution.on_cut = on_cut
    asking = False
    try:
        run.start()
        if run.failed_to_start:
            run.wait()
        for chunk in _read(run):
            asking = True  # an exception thrown in here is not for the reader
            yield chunk
            asking = False
        run.execution.end_output()
        run.reader.close()
        run.wait()
    except BaseException as error:
        absorbed = not asking and run.absorb(error)
        try:
            _leave(run)
        except BaseException as again:  # one more interrupt, or a fault
            _leave(run)
            if not is_fault(again):
                raise
        if absorbed:
            run.get_result(check=True)
        raise


def _read(run: ManagedRun) -> Generator[bytes]:
    """Yield the last stage's output, until its end or until the run has a reason for there being no more."""
    try:
        yield from run.reader.chunks()
    except Exception as error:
        if not run.explains(error):
            raise


def _leave(run: ManagedRun) -> None:
    """End a run that is no longer iterated over."""
    if not run.started:
        return
    if not run.done():
        run.close_reader()
    elif not sys.is_finalizing():  # else a lock may be held by a thread that will never go on
        run.close_streams()  # the run had ended before, with output unread


class LinesInHand:
    """The lines of the chunk that is being iterated over. Any thread may drop them."""

    __slots__ = ("dropped", "lines")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.dropped = False
        """Whether the iteration is to go on with no line at all, but with how the run ended."""

    def drop(self) -> None:
        """Let no further line be delivered. The chain may be in the middle of them."""
        self.dropped = True
        self.lines.clear()


class Lines(chain[bytes]):
    """Lines as bytes without LF. `close()` ends the run behind them; so does dropping the iterator."""

    _blocks: Generator[list[bytes]]
    _in_hand: LinesInHand

    def close(self) -> None:
        """Stop early: end the run, and wait for it. Idempotent; there are no more lines afterwards."""
        try:
            self._in_hand.drop()
        finally:
            self._blocks.close()


def lines_of(chunks: Generator[bytes], in_hand: LinesInHand) -> Lines:
    """Return the lines of `chunks`, which are closed with the iterator."""
    blocks = _blocks(chunks, in_hand)
    lines = Lines.from_iterable(blocks)
    assert isinstance(lines, Lines)
    lines._blocks, lines._in_hand = blocks, in_hand  # noqa: SLF001 - from_iterable() is the only constructor
    return lines


def _blocks(chunks: Generator[bytes], in_hand: LinesInHand) -> Generator[list[bytes]]:
    """Yield the lines that each chunk completes; the last list is the one in hand, too."""
    try:
        for lines in LineSplitter().iter_blocks(chunks):
            in_hand.lines = lines
            if in_hand.dropped:  # just before; what was dropped were the lines of the chunk before
                lines.clear()
            yield lines
    finally:
        chunks.close()

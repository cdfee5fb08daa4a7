"""The iterators that `iter_bytes` and `iter_lines` return.

The first `next()` starts the run; the last one, or closing or dropping the iterator, ends it. Lines come out
of chunks at the speed of the interpreter's own `chain`.
"""

from __future__ import annotations

import sys
from itertools import chain

from penstock.core.framing import LineSplitter
from penstock.engine.managed_run import ManagedRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from penstock.engine.run_plan import RunPlan

__all__ = ["Lines", "iterate", "lines_of"]


def iterate(make_plan: Callable[[], RunPlan]) -> Generator[bytes]:
    """Start a run with the first `next()`; yield the last stage's output, in chunks as they come.

    `make_plan()` is called then, because a plan shows the files and descriptors as they are at that time. Its
    failure is raised after the last chunk. Closing the iterator early ends the run, and is not a failure.
    """
    run = ManagedRun(make_plan())
    try:
        run.start()
        if run.failed_to_start:
            run.wait()
        for chunk in _read(run):  # noqa: UP028 - an exception thrown in here is not for the reader
            yield chunk
        run.reader.close()
        run.wait()
    except BaseException:
        try:
            _leave(run)
        except BaseException:  # one more interrupt
            _leave(run)
            raise
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


class Lines(chain[bytes]):
    """Lines as bytes without LF. `close()` ends the run behind them; so does dropping the iterator."""

    _blocks: Generator[list[bytes]]
    _block: list[list[bytes]]

    def close(self) -> None:
        """Stop early: end the run, and wait for it. Idempotent; there are no more lines afterwards."""
        self._block[0].clear()  # the chain may be in the middle of it
        self._blocks.close()


def lines_of(chunks: Generator[bytes]) -> Lines:
    """Return the lines of `chunks`, which are closed with the iterator."""
    block: list[list[bytes]] = [[]]
    blocks = _blocks(chunks, block)
    lines = Lines.from_iterable(blocks)
    assert isinstance(lines, Lines)
    lines._blocks, lines._block = blocks, block  # noqa: SLF001 - from_iterable() is the only constructor
    return lines


def _blocks(chunks: Generator[bytes], block: list[list[bytes]]) -> Generator[list[bytes]]:
    """Yield the lines that each chunk completes; the last list is `block[0]`, too."""
    try:
        for lines in LineSplitter().iter_blocks(chunks):
            block[0] = lines
            yield lines
    finally:
        chunks.close()

"""What `iter_lines` returns: lines out of chunks, at the speed of the interpreter's own `chain`."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from penstock.core.framing import LineSplitter

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["Lines", "lines_of"]


class Lines(chain[bytes]):
    """Lines as bytes without LF. `close()` ends what they come from; so does dropping the iterator."""

    _blocks: Generator[list[bytes]]
    _block: list[list[bytes]]

    def close(self) -> None:
        """Stop early: end the run, and wait for it. Idempotent; there are no more lines afterwards."""
        self._block[0].clear()  # the chain may be in the middle of it
        self._blocks.close()


def lines_of(chunks: Generator[bytes]) -> Lines:
    """The lines of `chunks`, which are closed with the iterator."""
    block: list[list[bytes]] = [[]]
    blocks = _blocks(chunks, block)
    lines = Lines.from_iterable(blocks)
    assert isinstance(lines, Lines)
    lines._blocks, lines._block = blocks, block  # noqa: SLF001 - from_iterable() is the only constructor
    return lines


def _blocks(chunks: Generator[bytes], block: list[list[bytes]]) -> Generator[list[bytes]]:
    """The lines that each chunk completes, the last of them as `block[0]`."""
    try:
        for lines in LineSplitter().iter_blocks(chunks):
            block[0] = lines
            yield lines
    finally:
        chunks.close()

"""A function from an iterator of chunks to an iterable of chunks, as a stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.stages.chain import ChainStage, iterator_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.stages.coalescing_writer import CoalescingWriter

__all__ = ["Transform"]


class Transform(ChainStage):
    """`fn(chunks)` gives chunks; see `penstock.transform`."""

    kind = "transform"

    def chain(self, chunks: Iterator[bytes], outlet: CoalescingWriter | None) -> Iterator[bytes]:
        """Just what the function makes."""
        return iterator_of(self, self.fn(chunks))

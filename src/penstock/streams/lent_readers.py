# ruff: noqa: SLF001 - a loan is the other half of its lender
"""Streams that lend their bytes to a run within a stage, for as long as that goes on.

A loan can be stopped and closed alone. When it is closed, the lender goes on at the first byte that nobody
has used. If the lender is stopped, so is the loan. A reader of a descriptor lends a duplicate, so that the
wait for it can be ended alone; any other lends its chunks (`Reader.lend_chunk`). One thread at a time reads,
be it by the lender or by the loan.
"""

from __future__ import annotations

import os

from penstock.streams.fd_streams import FdReader
from penstock.streams.reader import Reader
from penstock.system.fds import duplicate

__all__ = ["lend", "passable_number"]


def lend(reader: Reader) -> Reader:
    """Return a reader of what `reader` would deliver next."""
    return _FdLoan(reader) if isinstance(reader, FdReader) else _Loan(reader)


def passable_number(reader: Reader) -> int | None:
    """Return the number of its descriptor if a command may have that: it blocks, and no byte is in hand."""
    if not isinstance(reader, FdReader) or reader._offset < len(reader._rest):
        return None
    number = reader._descriptor.fileno()
    return number if os.get_blocking(number) else None


class _Loan(Reader):
    """Reads in the place of `lender`."""

    __slots__ = ("_lender",)

    def __init__(self, lender: Reader) -> None:
        super().__init__(lender._lock)  # the lock under which the lender falls asleep
        self._lender = lender

    def _read_chunk(self) -> bytes:
        return self._lender.lend_chunk(self)

    def _wake(self) -> None:
        self._lender._wake()  # it looks at the state of both

    def _release(self) -> None:
        rest = self._rest[self._offset :]
        super()._release()
        if rest:
            self._lender.take_back(rest)


class _FdLoan(FdReader):
    """The same over a duplicate of the lender's descriptor."""

    __slots__ = ("_lender",)

    def __init__(self, lender: FdReader) -> None:
        fd = duplicate(lender._descriptor.fileno())
        first = lender._rest[lender._offset :]
        super().__init__(fd, owned_description=False, first=first, give_back=lender.take_back)
        self._lender = lender
        lender._rest = b""
        lender._offset = 0
        lender.loan = self

    def _release(self) -> None:
        lender = self._lender
        lender.loan = None
        lender._count += self._count + len(self._rest) - self._offset  # `take_back` subtracts the rest
        super()._release()

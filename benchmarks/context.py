"""The context of every work: its size, a place for files, and the available peers."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Self

from benchmarks.peers import Drainer, GoPipe

__all__ = ["Context"]

CHUNK = 64 * 1024


class Context:
    """Sizes, a scratch folder, go-pipe's process and the draining process; a context manager."""

    def __init__(self, go: GoPipe | None, *, quick: bool) -> None:
        self.go = go
        self.quick = quick
        self.size = 1 << 27 if quick else 1 << 30
        """Bytes that a bulk work moves."""
        self.lines = 100_000 if quick else 1_000_000
        """Lines that a line work takes, of seven bytes each, with the LF."""
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    @cached_property
    def scratch(self) -> Path:
        """A folder, in memory if possible, so that no disk is measured."""
        memory = Path("/dev", "shm")
        folder = memory if os.access(memory, os.W_OK) else None
        return Path(self._exits.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=folder)))

    @cached_property
    def lines_path(self) -> Path:
        """A file of the short lines."""
        path = self.scratch / "lines"
        with path.open("wb") as file:
            file.writelines(b"%06d\n" % (number % 1_000_000) for number in range(self.lines))
        return path

    @cached_property
    def target(self) -> int:
        """A descriptor of a file that is opened once; each item rewinds it and writes over it."""
        number = os.open(self.scratch / "target", os.O_RDWR | os.O_CREAT, 0o600)
        self._exits.callback(os.close, number)
        return number

    @cached_property
    def drainer(self) -> Drainer:
        """The process at the other end of the sockets."""
        return self._exits.enter_context(Drainer())

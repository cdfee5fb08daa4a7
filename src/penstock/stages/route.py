"""The stage that deals its lines out to branches: `route`.

The lines of a block that go the same way are written together. A branch whose reader has gone is left out,
and so is the next stage; the last one to leave ends the stage.
"""

from __future__ import annotations

from penstock.core.errors import ClosedPipe
from penstock.core.framing import LineSplitter
from penstock.core.public import exported
from penstock.stages.function import PythonStage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from typing import Any

    from penstock.stages.context import StageContext
    from penstock.streams.reader import Reader
    from penstock.streams.writer import Writer

__all__ = ["Route"]


@exported
class Route(PythonStage):
    """`fn(line)` is the key of a branch, or None; see `penstock.route`."""

    kind = "route"

    def __init__(self, fn: Any, name: str | None, keys: Sequence[Hashable]) -> None:
        super().__init__(fn, name)
        self.ports: dict[Hashable, str] = {key: str(number) for number, key in enumerate(keys, 1)}
        """The ports of the branches, by key."""

    def body(self, ctx: StageContext, stdin: Reader, stdout: Writer) -> None:
        """Write each line to its branch, or to stdout."""
        writers: dict[Hashable, Writer | None] = {key: ctx.outputs[port] for key, port in self.ports.items()}
        writers[None] = stdout
        fn = self.fn
        for block in LineSplitter().iter_blocks(stdin.chunks()):
            parts: dict[Hashable, list[bytes]] = {}
            try:
                for line in block:
                    key = fn(line)
                    if key not in writers:
                        raise KeyError(f"{self.name} has no branch {key!r}; it has {list(self.ports)!r}")
                    parts.setdefault(key, []).append(line)
            finally:  # the output from before an error
                _write(parts, writers)


def _write(parts: dict[Hashable, list[bytes]], writers: dict[Hashable, Writer | None]) -> None:
    for key, lines in parts.items():
        writer = writers[key]
        if writer is None:
            continue
        try:
            writer.write(b"\n".join(lines) + b"\n")
        except BrokenPipeError:
            writers[key] = None
            writer.close()
    if not any(writers.values()):
        raise ClosedPipe

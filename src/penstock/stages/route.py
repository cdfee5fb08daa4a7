"""The stage that deals its lines out to branches: `route`.

The lines of a block that go the same way are written together. A branch whose reader has gone is left out,
and so is the next stage; the last one to leave ends the stage.
"""

from __future__ import annotations

import select
from functools import partial

from penstock.core.errors import ClosedPipe
from penstock.core.framing import LineSplitter
from penstock.core.public import exported
from penstock.stages.function import PythonStage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence
    from typing import Any

    from penstock.stages.branch import StagePorts
    from penstock.stages.context import StageContext
    from penstock.streams.reader import Reader
    from penstock.streams.stage_ends import Input, Output
    from penstock.streams.writer import Writer

__all__ = ["Route"]


@exported
class Route(PythonStage):
    """`fn(line)` is the key of a branch, or None; see `penstock.route`."""

    kind = "route"
    starts_in_graph = True

    def __init__(self, fn: Any, name: str | None, keys: Sequence[Hashable]) -> None:
        super().__init__(fn, name)
        self.ports: dict[Hashable, str] = {key: str(number) for number, key in enumerate(keys, 1)}
        """The ports of the branches, by key."""

    def body_in_graph(
        self, ctx: StageContext, stdin: Input, stdout: Output, ports: StagePorts
    ) -> Callable[[], None]:
        """Return a call that writes each line to its branch, or to stdout."""
        numbers: dict[Hashable, int | None] = {
            key: ports.outputs[port].fd for key, port in self.ports.items()
        }
        numbers[None] = stdout.fd
        writers: dict[Hashable, Writer] = {key: ctx.outputs[port] for key, port in self.ports.items()}
        writers[None] = stdout.writer
        return partial(self._route, stdin.reader, _Outputs(writers, numbers))

    def _route(self, stdin: Reader, outputs: _Outputs) -> None:
        fn = self.fn
        for block in LineSplitter().iter_blocks(stdin.chunks()):
            parts: dict[Hashable, list[bytes]] = {}
            try:
                for line in block:
                    key = fn(line)
                    if key not in outputs.keys:
                        raise KeyError(f"{self.name} has no branch {key!r}; it has {list(self.ports)!r}")
                    parts.setdefault(key, []).append(line)
            finally:  # the output from before an error
                outputs.write(parts)


class _Outputs:
    """The outputs of one run, by key; those whose readers have gone are left out."""

    def __init__(self, writers: dict[Hashable, Writer], numbers: Mapping[Hashable, int | None]) -> None:
        self.keys = frozenset(writers)
        self._writers = writers
        # Only a write would tell otherwise, and there may be no line for a branch any more.
        self._poll = select.poll()
        self._numbers = {number: key for key, number in numbers.items() if number is not None}
        for number in self._numbers:
            self._poll.register(number, 0)

    def write(self, parts: Mapping[Hashable, Sequence[bytes]]) -> None:
        """Write lines to each output that is left. ClosedPipe if none is."""
        for key, lines in parts.items():
            writer = self._writers.get(key)
            if writer is not None:
                try:
                    writer.write(b"\n".join(lines) + b"\n")
                except BrokenPipeError:
                    self._leave_out(key)
        if len(self._writers) < len(self.keys):
            for number, mask in self._poll.poll(0):
                if mask & select.POLLERR:
                    self._leave_out(self._numbers[number])
        if not self._writers:
            raise ClosedPipe

    def _leave_out(self, key: Hashable) -> None:
        for number, each in self._numbers.items():
            if each == key:
                self._poll.unregister(number)
                del self._numbers[number]
                break
        self._writers.pop(key).close()

"""Stages that read several pipelines and write all of it: `merge` as it comes, `concat` one after the other.

`merge` waits for whichever input has bytes, by poll(2), in a worker thread. So its inputs are pipes. With
`records` it passes on whole records: the end of what an input gave is kept until the rest has come. While it
writes it reads nothing, so a slow reader holds back all inputs.
"""

from __future__ import annotations

import select
from functools import partial

from penstock.core.errors import LineTooLong
from penstock.core.framing import DEFAULT_MAX_LINE
from penstock.core.public import exported, half_made_too
from penstock.core.requirements import Requirements, Stream
from penstock.stages.graph_stage import GraphStage
from penstock.stages.running_function import RunningFunction
from penstock.streams.copy import copy_stream
from penstock.system.fds import Waker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from penstock.stages.branch import StagePorts
    from penstock.stages.context import StageContext
    from penstock.stages.running import Stoppable, ThreadedStage
    from penstock.streams.reader import Reader
    from penstock.streams.stage_ends import Input, Output
    from penstock.streams.writer import Writer

    _Numbered = tuple[int, Reader]

__all__ = ["Concat", "Merge"]

_READ_SIZE = 65536


class _Gathering(GraphStage):
    """A source that reads pipelines."""

    requirements = Requirements(Stream.FORBIDDEN, Stream.ANY)
    is_source = True
    has_no_user_objects = False

    def __init__(self, inlets: Mapping[str, Any], name: str) -> None:
        super().__init__(name)
        self.inlets = inlets

    @half_made_too
    def __repr__(self) -> str:
        return f"{self.kind}({', '.join(map(repr, self.inlets.values()))})"

    def start_in_graph(
        self, ctx: StageContext, stdin: Input, stdout: Output, ports: StagePorts
    ) -> ThreadedStage:
        """Begin to read."""
        try:
            stdin.close()
            inputs = [(end.fd, end.reader) for end in ports.inputs.values() if end.fd is not None]
            return self._begin(ctx, stdout.writer, inputs)
        except BaseException:
            stdout.close()
            ports.close()
            raise

    def _begin(self, ctx: StageContext, writer: Writer, inputs: Sequence[_Numbered]) -> ThreadedStage:
        """Begin, with the readers of the inputs and the numbers of their descriptors."""
        raise NotImplementedError


@exported
class Concat(_Gathering):
    """The outputs of pipelines, one after the other; see `penstock.concat`."""

    kind = "concat"

    def _begin(self, ctx: StageContext, writer: Writer, inputs: Sequence[_Numbered]) -> ThreadedStage:
        readers = [reader for _, reader in inputs]
        return RunningFunction(ctx, partial(_concatenate, writer, readers), writer, *readers)


def _concatenate(writer: Writer, readers: Sequence[Reader]) -> None:
    for reader in readers:
        copy_stream(reader, writer)
        reader.close()


@exported
class Merge(_Gathering):
    """The outputs of pipelines as they come; see `penstock.merge`."""

    kind = "merge"
    reads_any_input = True

    def __init__(self, inlets: Mapping[str, Any], name: str, records: bytes | None) -> None:
        super().__init__(inlets, name)
        self.records = records

    def _begin(self, ctx: StageContext, writer: Writer, inputs: Sequence[_Numbered]) -> ThreadedStage:
        merging = _Merging(inputs, writer, self.records)
        return RunningFunction(ctx, merging.run, writer, merging, *(reader for _, reader in inputs))


class _Merging:
    """One merge under way, as something that the stage may be blocked in: the poll."""

    def __init__(self, inputs: Sequence[_Numbered], writer: Writer, records: bytes | None) -> None:
        self._writer = writer
        self._records = records
        self._overlaps = records is not None and any(
            records.startswith(records[place:]) for place in range(1, len(records))
        )
        """Whether the end of a mark may be the beginning of another one, as of two line feeds."""
        self._readers = dict(inputs)
        self._begun: dict[int, list[bytes]] = {number: [] for number in self._readers}
        """The pieces of the record that each input has begun."""
        self._reason: BaseException | None = None
        self._waker = Waker()

    def run(self) -> None:
        """Write what comes until all inputs have ended."""
        poll = select.poll()
        poll.register(self._waker.fileno(), select.POLLIN)
        for number in self._readers:
            poll.register(number, select.POLLIN)
        while self._readers:
            for number, _ in poll.poll():
                if self._reason is not None:
                    raise self._reason
                reader = self._readers[number]
                data = reader.read1(_READ_SIZE)
                if not data:
                    poll.unregister(number)
                    del self._readers[number]
                self._pass_on(number, data)
                if not data:
                    reader.close()

    def _pass_on(self, number: int, data: bytes) -> None:
        """Write the records that are whole, and keep the begun one."""
        mark = self._records
        if mark is None:
            self._writer.write(data)
            return
        begun = self._begun[number]
        if not data:
            rest = b"".join(begun)
            if rest:
                self._writer.write(rest if rest.endswith(mark) else rest + mark)
            return
        # A mark of several bytes may be split between two reads. No whole one is in what has begun.
        overlap = _last_bytes(begun, len(mark) - 1)
        end = self._last_mark(overlap + data, mark)
        if end < 0:
            begun.append(data)
            if sum(map(len, begun)) > DEFAULT_MAX_LINE:
                raise LineTooLong(DEFAULT_MAX_LINE)
            return
        cut = end + len(mark) - len(overlap)
        self._writer.write(b"".join([*begun, data[:cut]]))
        begun[:] = [data[cut:]] if cut < len(data) else []

    def _last_mark(self, data: bytes, mark: bytes) -> int:
        """Return where the mark of the last whole record begins, -1 if there is none."""
        if not self._overlaps:
            return data.rfind(mark)
        *records, rest = data.split(mark)
        return len(data) - len(rest) - len(mark) if records else -1

    def poison(self, reason: BaseException) -> None:
        """Do nothing: the stage reports the reason."""

    def interrupt(self, reason: BaseException) -> None:
        """Make `run` raise `reason`. From any thread."""
        self._reason = reason
        self._waker.wake()

    def close(self) -> None:
        """Close the means of waking. Idempotent."""
        self._waker.close()


def _last_bytes(pieces: Sequence[bytes], size: int) -> bytes:
    """Return the last `size` bytes of some pieces, without a copy of all of them."""
    found = b""
    for piece in reversed(pieces):
        if len(found) >= size:
            break
        found = piece[-(size - len(found)) :] + found
    return found


if TYPE_CHECKING:
    _: type[Stoppable] = _Merging

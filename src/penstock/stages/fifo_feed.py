"""The stage between a source and a program that opens a FIFO by name (`reading(via="fifo")`).

It opens the FIFO for writing once the program has opened it for reading: until then the kernel refuses, and
an end that was open before would hide from the program that the source has ended. Nothing announces that a
FIFO was opened, so this tries again and again. A program that exits without opening it has had enough.
"""

from __future__ import annotations

import errno
import os
import threading
from functools import partial

from penstock.core.errors import ClosedPipe
from penstock.stages.graph_stage import GraphStage
from penstock.stages.running_function import RunningFunction
from penstock.streams.copy import copy_stream
from penstock.streams.fd_streams import FdWriter
from penstock.system.fds import open_path
from penstock.system.fork_guard import OUT_OF_RESOURCES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.stages.branch import StagePorts
    from penstock.stages.context import StageContext
    from penstock.stages.running import ThreadedStage
    from penstock.streams.reader import Reader
    from penstock.streams.stage_ends import Input, Output
    from penstock.system.fds import Fd

__all__ = ["FifoFeed"]

_MIN_INTERVAL_S, _MAX_INTERVAL_S = 0.001, 0.02
"""Seconds between two tries: doubled each time within these bounds."""


class FifoFeed(GraphStage):
    """Copies its input into a FIFO."""

    def start_in_graph(
        self, ctx: StageContext, stdin: Input, stdout: Output, ports: StagePorts
    ) -> ThreadedStage:
        """Begin to wait for the program."""
        stdout.close()  # /dev/null, in the place of the FIFO that it will open
        try:
            feeding = _Feeding(ports.name_at("stdout"), stdin.reader, partial(ports.watch, "stdout"))
            running = RunningFunction(ctx, feeding.run, feeding)
        except BaseException:
            stdin.close()
            raise
        ports.on_reader_done(feeding.end)
        return running


class _Feeding:
    """One copy under way, as a stream that the stage may be blocked in."""

    def __init__(self, path: str, reader: Reader, on_open: Callable[[Fd], object]) -> None:
        self._path = path
        self._on_open = on_open
        self._reader = reader
        self._writer: FdWriter | None = None
        self._reason: BaseException | None = None
        self._wakeup = threading.Event()
        self._program_ended = False

    def run(self) -> None:
        """Wait until the FIFO can be opened, and copy."""
        fd = self._open()
        self._writer = FdWriter(fd, owned_description=True)
        self._on_open(fd)
        if self._reason is not None:
            raise self._reason
        copy_stream(self._reader, self._writer)

    def _open(self) -> Fd:
        interval = _MIN_INTERVAL_S
        while True:
            if self._reason is not None:
                raise self._reason
            ended = self._program_ended  # first: it may have opened it just before
            try:
                return open_path(self._path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                # Without a descriptor it tries again too: the program would wait for ever in its own open(2).
                if error.errno != errno.ENXIO and error.errno not in OUT_OF_RESOURCES:
                    raise
            if ended:
                raise ClosedPipe
            self._wakeup.wait(interval)
            interval = min(2 * interval, _MAX_INTERVAL_S)

    def end(self) -> None:
        """Note that the program has exited. From any thread."""
        self._program_ended = True
        self._wakeup.set()

    def poison(self, reason: BaseException) -> None:
        """Have the streams raise `reason`."""
        self._reader.poison(reason)

    def interrupt(self, reason: BaseException) -> None:
        """Make `run` raise `reason`. From any thread."""
        self._reason = reason
        self._wakeup.set()
        self._reader.interrupt(reason)
        if self._writer is not None:
            self._writer.interrupt(reason)

    def close(self) -> None:
        """Close everything. Idempotent."""
        self._reader.close()
        if self._writer is not None:
            self._writer.close()

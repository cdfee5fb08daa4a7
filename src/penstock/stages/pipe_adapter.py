"""Give pipes to a stage that needs file descriptors but was given in-memory streams.

A run plans OS pipes around commands. So this is for a custom stage that wraps a command without passing its
requirements on.
"""

from __future__ import annotations

from functools import partial

from penstock.core.noop import noop
from penstock.runtime.copy_tasks import Feeder
from penstock.stages.running import Running, ThreadedStage
from penstock.streams.copy import copy_stream
from penstock.streams.fd_streams import FdReader, FdWriter
from penstock.streams.stage_ends import Input, Output
from penstock.system.fds import pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.stages.context import StageContext
    from penstock.streams.reader import Reader
    from penstock.streams.writer import Writer

__all__ = ["start_with_pipes"]


def start_with_pipes(
    start: Callable[[StageContext, Input, Output], Running], ctx: StageContext, stdin: Input, stdout: Output
) -> Running:
    """Call `start` with pipes in place of in-memory streams, and copy between the two in worker threads."""
    feeder: Feeder | None = None
    if stdin.fd is None:
        read_end, write_end = pipe()
        feeder = Feeder(None, FdWriter(write_end, owned_description=True), stdin.reader)
        stdin = Input(read_end)
    try:
        if stdout.fd is None:
            read_end, write_end = pipe()
            reader = FdReader(read_end, owned_description=True)
            try:
                inner = start(ctx, stdin, Output(write_end))
            except BaseException:
                reader.close()
                raise
            running: Running = _PipeAdapter(ctx, inner, reader, stdout.writer)
        else:
            running = start(ctx, stdin, stdout)
    except BaseException:
        if feeder is not None:
            feeder.abandon()
        raise
    finally:
        stdin.close()
    if feeder is not None:
        feeder.start()
        # A command that leaves its stdin unread must block neither the writer nor a worker thread.
        running.on_done(partial(feeder.release, noop))
    return running


class _PipeAdapter(ThreadedStage):
    """A stage whose stdout is copied; it has ended when both the stage and the copy have."""

    def __init__(self, ctx: StageContext, inner: Running, reader: Reader, writer: Writer) -> None:
        super().__init__(ctx, writer, reader)
        self.pid = inner.pid
        self._inner = inner
        self._reader = reader
        self._writer = writer
        self.wait_in_thread(self._work)

    def stop(self, grace: float) -> None:
        """Stop the inner stage; the copy takes what it has written."""
        if self._mark_stopped():
            self._inner.stop(grace)

    def interrupt(self, reason: BaseException) -> None:
        """End the inner stage and the copy."""
        self._inner.kill(reason)
        super().interrupt(reason)

    def _work(self) -> None:
        failed: BaseException | None = None
        try:
            copy_stream(self._reader, self._writer)
        except BaseException as raised:  # noqa: BLE001 - the inner stage meets the closed pipe, and says so itself
            failed = raised
        self.release()
        try:
            self._inner.wait()
        except BaseException as raised:  # noqa: BLE001 - the inner stage's error is the stage's
            failed = raised
        self.status, self.stderr = self._inner.status, self._inner.stderr
        self.complete(self.outcome(failed))

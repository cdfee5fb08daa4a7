"""The ends of a run that its caller holds: `stdin` and `stdout`, streams of an event loop, and the reader.

`ManagedRun` builds on this. Out of scope: starting the run, and waiting for it.
"""

from __future__ import annotations

import os
import sys

from penstock.core.errors import Cancelled, PipelineCancelled
from penstock.core.timing import timing
from penstock.engine.tree import CancelReason
from penstock.runtime.latch import wait_in_slices
from penstock.system.fork_guard import fork_guard_held, late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    from typing import Any

    from penstock.engine.execution import Execution
    from penstock.streams.pipe_writer import PipeWriter
    from penstock.streams.reader import Reader

__all__ = ["CallerEnds"]


class CallerEnds:
    """The ends of one run; it owns the files, until the caller or the run's end closes them."""

    stdin: PipeWriter | None = None
    """The pipe to the first stage, for a `stdin=PIPE` that no event loop serves; set by the start."""
    stdout: io.BufferedReader | None = None
    """The pipe from the last stage, likewise."""

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self._owner = os.getpid()

    def raised_by_stream(self, error: BaseException) -> bool:
        """Return whether `error` comes from a pipe that the caller was given, such as BrokenPipeError."""
        ends: tuple[Any, ...] = (self.stdin, *self.streams)
        if isinstance(error, StopIteration) and self.stdout is not None:
            with late_import:
                from penstock.streams.file_objects import is_at_end  # noqa: PLC0415 - loaded with `stdout`

            return is_at_end(self.stdout)
        return any(end is not None and end.raised(error) for end in ends)

    def explains(self, error: BaseException) -> bool:
        """Return whether the outcome of the run explains why reading its output failed with `error`.

        It does if `error` is the reason of its cancellation. If the kernel failed, that is from here on an
        error of `stdout`.
        """
        if self.execution.was_cancelled_by(error) or not isinstance(error, OSError):
            return self.execution.was_cancelled_by(error)
        self.execution.fail_reading(error)
        self.abandon_reader()
        return True

    @property
    def reader(self) -> Reader:
        """The stream that the iterator reads, of a run that is iterated over."""
        sink = self.execution.sink
        assert sink is not None
        assert sink.reader is not None
        return sink.reader

    def close_reader(self) -> None:
        """Close the pipe, end what is left, and wait: the iterator was closed, which is not a failure."""
        execution = self.execution
        if not self.abandon_reader():
            return
        # The garbage collector may close the iterator in any thread: in the one that drives the run, or in
        # one that holds a lock.
        if not (execution.reactor.in_driver_thread or fork_guard_held()):
            wait_in_slices(execution.ended, self.cancel_timeout)
            execution.dispatcher.flush()

    @property
    def grace(self) -> float:
        """Seconds between asking its stages to end and forcing them."""
        return float(self.execution.root.option("grace"))

    @property
    def cancel_timeout(self) -> float:
        """Seconds within which it has ended after a cancellation."""
        return self.grace + timing.cancel_margin_s

    def abandon_reader(self) -> bool:
        """Do as `close_reader` without waiting for the end; return False if nothing is left to be ended."""
        execution = self.execution
        if os.getpid() != self._owner:  # in a forked copy nothing of the run is left
            return False
        if sys.is_finalizing():
            # Left open until the interpreter ends: its children are dead by now, and a lock may be held by a
            # thread that will never go on.
            return False
        execution.record_left_early()
        self.reader.close()
        reason = Cancelled("the reader of its output has gone")
        execution.post_cancel(CancelReason(reason, PipelineCancelled, execution.root, collateral=True))
        return True

    @property
    def streams(self) -> tuple[Any, Any]:
        """The streams that an event loop has instead of `stdin` and `stdout`."""
        source, sink = self.execution.source, self.execution.sink
        return (source and source.stream), (sink and sink.stream)

    def _take_files(self) -> None:
        source, sink = self.execution.source, self.execution.sink
        if source is not None and sink is not None:
            self.stdin, self.stdout = source.file, sink.file
            if self.stdin is not None and self.stdout is not None:
                self.stdin.flush_before_reads_of(self.stdout)

    def close_streams(self) -> None:
        """Close the streams that an event loop has instead of files, and the reader."""
        sink = self.execution.sink
        reader = None if sink is None else sink.reader
        for stream in (*self.streams, reader):
            if stream is not None:
                stream.close()

    def close_files(self) -> None:
        """Close `stdin` and `stdout`."""
        for file in (self.stdin, self.stdout):
            if file is not None:
                file.close()

    def _close_ends(self) -> None:
        """Close our pipe ends after a failed start; no caller holds them."""
        self.close_files()
        self.close_streams()

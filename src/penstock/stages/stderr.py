"""Where the stderr of commands goes.

A target is opened once by whoever the option belongs to, the pipeline or a single command, and each command
takes from it the descriptor that its child gets, and a tap where Penstock reads it.
"""

from __future__ import annotations

import io
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from penstock.core.constants import Special, closing
from penstock.runtime.taps import CallbackTap, ExcerptTap
from penstock.streams.endpoints import classify_sink, open_sink
from penstock.streams.fd_streams import FdWriter
from penstock.streams.user_objects import chunk_writer
from penstock.system.fds import open_write, pipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime.taps import Tap
    from penstock.stages.context import StageContext
    from penstock.system.fds import Fd

__all__ = ["StderrTarget"]

_CAPTURE, _INHERIT, _NULL, _STDOUT, _DESCRIPTOR, _LINES, _CHUNKS = range(7)


class StderrTarget:
    """One value of the stderr option, opened."""

    __slots__ = ("_call", "_fd", "_kind", "closing")

    def __init__(self, option: str, value: Any) -> None:
        """Open it.

        OSError where a path cannot be opened; ValueError naming `option` where a file is closed.
        """
        self._fd: Fd | None = None
        self._call: Callable[[bytes], object] | None = None
        self.closing = value.thing if isinstance(value, closing) else None
        """What was handed over, to be closed by the run when it ends."""
        if self.closing is not None:
            value = self.closing
        if isinstance(value, Special):
            self._kind = {
                Special.CAPTURE: _CAPTURE,
                Special.INHERIT: _INHERIT,
                Special.DEVNULL: _NULL,
                Special.STDOUT: _STDOUT,
            }[value]
        elif isinstance(value, str | os.PathLike):
            self._kind = _DESCRIPTOR
            self._fd = open_write(value)
        elif callable(value) and not isinstance(value, io.IOBase):
            self._kind = _LINES
            self._call = value
        else:
            self._open_object(option, value)

    def _open_object(self, option: str, value: Any) -> None:
        endpoint = classify_sink(value, option)
        if endpoint.kind == "descriptor":
            self._kind = _DESCRIPTOR
            self._fd = open_sink(endpoint)
            return
        self._kind = _CHUNKS
        if isinstance(endpoint.value, int):
            self._call = FdWriter(open_sink(endpoint), owned_description=False).write
        else:
            self._call = chunk_writer(endpoint.value) or endpoint.value.write

    def connect(self, ctx: StageContext, stdout: int | None) -> tuple[int | None, Fd | None, Tap | None]:
        """What one child gets: the descriptor's number (None for /dev/null), the Fd to close after the spawn,
        and the tap to start then.
        """
        if self._kind == _INHERIT:
            return 2, None, None
        if self._kind == _STDOUT:
            return stdout, None, None
        if self._kind == _NULL:
            return None, None, None
        if self._fd is not None:
            return self._fd.fileno(), None, None
        read_end, write_end = pipe()
        tap = ExcerptTap(ctx.reactor, read_end) if self._call is None else self._caller(ctx, read_end)
        if ctx.scope.handler is not None:
            tap.on_lost = partial(ctx.tell, "failed", "its stderr could not be read any further")
        return write_end.fileno(), write_end, tap

    def _caller(self, ctx: StageContext, read_end: Fd) -> Tap:
        """A tap that gives what it reads to the caller's function."""
        call = self._call
        assert call is not None

        def guarded(data: bytes) -> None:
            try:
                call(data)
            except BaseException as error:
                ctx.tell("failed", "the stderr callback raised", error)
                if ctx.scope.handler is None:
                    raise

        lines = self._kind == _LINES
        return CallbackTap(ctx.reactor, read_end, guarded, ctx.scope.dispatcher, lines=lines)

    def close(self) -> None:
        """Let go of what was opened."""
        if self._fd is not None:
            self._fd.close()
        writer = getattr(self._call, "__self__", None)
        if isinstance(writer, FdWriter):
            writer.close()

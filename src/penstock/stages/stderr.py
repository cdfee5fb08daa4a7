"""The destination of the stderr of commands.

It is also that of the stdout of a command whose stderr alone goes to the next stage.
The owner of the option, the pipeline or a single command, opens a target once. Each command takes from it the
descriptor for its child, and a tap if Penstock reads that stderr.
"""

from __future__ import annotations

import io
import os
from functools import partial

from penstock.core.constants import Special, closing
from penstock.core.file_targets import FileTarget, atomic
from penstock.runtime.taps import ExcerptTap, FunctionTap
from penstock.streams.endpoints import Access, duplicate_sink, sink_access, unwrap
from penstock.system.fds import is_open, open_write, pipe
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from penstock.runtime.events import EventEmitter, EventSource
    from penstock.runtime.reactor import Reactor
    from penstock.runtime.taps import Tap
    from penstock.runtime.tee import StderrRelay
    from penstock.stages.run_services import RunResources
    from penstock.streams.fd_streams import FdWriter
    from penstock.system.fds import Fd

__all__ = ["StderrTarget", "open_target"]

_CAPTURE, _INHERIT, _NULL, _STDOUT, _TEE, _DESCRIPTOR, _LINES, _CHUNKS = range(8)


def open_target(target: FileTarget, resources: RunResources) -> Fd:
    """Open the file of an `atomic` or `appending`; the run commits or discards the part of the former."""
    files = resources.shared_files
    if not isinstance(target, atomic):
        return (open_write if files is None else files.open_write)(target.path, append=True)
    with late_import:  # no command that writes to it is spawned yet
        from penstock.system.atomic_file import AtomicFile  # noqa: PLC0415 - few runs have one

    if files is None:
        return AtomicFile(target.path, resources.outputs).output
    return files.open_part(target.path, resources.outputs)


class StderrTarget:
    """One value of the stderr option, opened."""

    __slots__ = ("_call", "_fd", "_kind", "_relay", "_writer", "closing")

    def __init__(self, option: str, value: Any, resources: RunResources | None = None) -> None:
        """Open it, and put what the run ends at its end into `resources`.

        Raises OSError if a path cannot be opened, and ValueError, naming `option`, if a file is closed.
        """
        self._relay: StderrRelay | None = None
        self._fd: Fd | None = None
        self._call: Callable[[bytes], object] | None = None
        self._writer: FdWriter | None = None
        self.closing = value.thing if isinstance(value, closing) else None
        """The object that the run closes when it ends, or None."""
        if self.closing is not None:
            value = self.closing
        if isinstance(value, Special):
            if value is Special.INHERIT and resources is not None and resources.shows_stderr:
                value = Special.TEE
            self._kind = {
                Special.CAPTURE: _CAPTURE,
                Special.INHERIT: _INHERIT,
                Special.DEVNULL: _NULL,
                Special.STDOUT: _STDOUT,
                Special.NEXT: _STDOUT,  # the plan has refused it for the last stage
                Special.TEE: _TEE,
            }[value]
            if self._kind == _TEE and resources is not None:
                self._relay = resources.stderr_relay()
        elif isinstance(value, str | os.PathLike):
            self._kind = _DESCRIPTOR
            files = None if resources is None else resources.shared_files
            self._fd = open_write(value) if files is None else files.open_write(value)
        elif isinstance(value, FileTarget):
            self._kind = _DESCRIPTOR
            assert resources is not None
            self._fd = open_target(value, resources)
        elif callable(value) and not isinstance(value, io.IOBase):
            self._kind = _LINES
            self._call = value
        else:
            self._open_object(option, value)

    def _open_object(self, option: str, value: Any) -> None:
        value, _ = unwrap(value)
        access = sink_access(option, value)
        if access is Access.PASS:
            self._kind = _DESCRIPTOR
            self._fd = duplicate_sink(value)
            return
        self._kind = _CHUNKS
        with late_import:  # no command that writes to it is spawned yet
            from penstock.streams.fd_streams import FdWriter  # noqa: PLC0415 - stderr is rarely copied
            from penstock.streams.user_objects import chunk_writer  # noqa: PLC0415

        if access is Access.COPY:
            self._writer = FdWriter(duplicate_sink(value), owned_description=False)
            self._call = self._writer.write
        else:
            self._call = chunk_writer(value) or value.write

    def descriptor(self, inherited: int) -> int | None:
        """Return the descriptor of one that needs no tap: `inherited` for INHERIT, None for /dev/null."""
        if self._kind == _INHERIT:
            return inherited if is_open(inherited) else None
        return None if self._fd is None else self._fd.fileno()

    def connect(
        self, stdout: int | None, reactor: Reactor, events: EventEmitter, stage: EventSource
    ) -> tuple[int | None, Fd | None, Tap | None]:
        """Return the descriptor for one child (None for /dev/null), the Fd to close after the spawn, and the
        tap to start then.
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
        try:
            if self._relay is not None:
                tap: Tap = self._tee_tap(self._relay, reactor, read_end)
            elif self._call is None:
                tap = ExcerptTap(reactor, read_end)
            else:
                tap = self._callback_tap(self._call, reactor, read_end, events, stage)
            if events.handlers:
                message = "its stderr could not be read any further"
                tap.on_lost = partial(events.emit, "failed", stage, message)
            return write_end.fileno(), write_end, tap
        except BaseException:
            read_end.close()
            write_end.close()
            raise

    @staticmethod
    def _tee_tap(relay: StderrRelay, reactor: Reactor, read_end: Fd) -> Tap:
        with late_import:  # loaded already, with the relay
            from penstock.runtime.tee import TeeTap  # noqa: PLC0415 - few runs need it

        return TeeTap(reactor, read_end, relay)

    def _callback_tap(
        self,
        call: Callable[[bytes], object],
        reactor: Reactor,
        read_end: Fd,
        events: EventEmitter,
        stage: EventSource,
    ) -> Tap:
        """Return a tap that gives the bytes that it reads to the user's function."""

        def guarded(data: bytes) -> None:
            try:
                call(data)
            except BaseException as error:
                events.emit("failed", stage, "the stderr callback raised", error)
                if not events.handlers:
                    raise

        lines = self._kind == _LINES
        return FunctionTap(reactor, read_end, guarded, events.dispatcher, lines=lines)

    def close(self) -> None:
        """Close what was opened. Idempotent."""
        if self._fd is not None:
            self._fd.close()
        if self._writer is not None:
            self._writer.close()

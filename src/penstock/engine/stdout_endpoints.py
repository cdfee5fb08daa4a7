"""The kinds of stdout, one class each: the counterpart of `stdin_endpoints`.

`stdout_endpoint` chooses the class, by looking only. `kind` is the name that `core.plan` knows, and `carrier`
names what would carry a copy from a pipe to there. An endpoint never changes and keeps nothing of a run:
`open` returns a port, which does. Streams and copies are loaded as in `stdin_endpoints`.

A new kind of stdout (a terminal, a branch of a graph) is one more class with `open`, chosen in
`stdout_endpoint`. A new `kind` also needs its carrier in `core.plan`, and a new constant (such as CAPTURE)
needs its check in `core.options`. If an event loop serves it, `loop_binding` replaces it.
"""

from __future__ import annotations

import os

from penstock.core.async_detection import is_async_sink
from penstock.core.captured import Captured
from penstock.core.constants import CAPTURE, DEVNULL, INHERIT, PIPE, Special
from penstock.core.file_targets import appending, atomic
from penstock.engine.ports import CapturePort, DrainedPort, StdoutPort, close_on_error, open_pipe
from penstock.runtime.taps import CaptureTap
from penstock.stages.stderr import open_target
from penstock.streams.endpoints import Access, duplicate_sink, number_of, sink_access, unwrap
from penstock.streams.stage_ends import Output
from penstock.system.fds import duplicate, is_nonblocking, open_write
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar

    from penstock.core.file_targets import FileTarget
    from penstock.engine.port_streams import Drainer, FdWriter, FifoWriter
    from penstock.runtime.reactor import Reactor
    from penstock.stages.run_services import RunResources
    from penstock.streams.reader import Reader
    from penstock.system.fds import Path

    OnEnd = Callable[[], None]

__all__ = [
    "ITERATED",
    "AsyncObjectStdout",
    "GivenStdout",
    "IteratedStdout",
    "PipeStdout",
    "StdoutEndpoint",
    "stdout_endpoint",
]


class StdoutEndpoint:
    """One kind of stdout; `closing` is the object to close after the run, or None."""

    __slots__ = ("closing",)
    kind: ClassVar[str]
    carrier: str = "pooled"
    """The kind of edge that a copy from a pipe to here would be."""

    def __init__(self, closing: Any = None) -> None:
        self.closing = closing

    def open(self, reactor: Reactor, pipe_size: int | None, on_end: OnEnd, *, wants_file: bool) -> StdoutPort:
        """Open it for one run; `on_end()` is called once it is drained, if it is drained at all.

        Raises OSError if it cannot be opened; then nothing is left open.
        """
        raise NotImplementedError

    def open_for(
        self,
        resources: RunResources,
        reactor: Reactor,
        pipe_size: int | None,
        on_end: OnEnd,
        *,
        wants_file: bool,
    ) -> StdoutPort:
        """Open it as `open` does; a file is shared with other outputs, by the `resources` of the run."""
        return self.open(reactor, pipe_size, on_end, wants_file=wants_file)


class NullStdout(StdoutEndpoint):
    """DEVNULL, or the process's own stdout if that is closed."""

    __slots__ = ()
    kind = "null"

    def open(self, reactor: Reactor, pipe_size: int | None, on_end: OnEnd, *, wants_file: bool) -> StdoutPort:
        """Give /dev/null, unopened, or a stream that drops everything."""
        if wants_file:
            return StdoutPort(Output(devnull=True))
        with late_import:
            from penstock.engine import port_streams as streams  # noqa: PLC0415 - see the head of the module

        return StdoutPort(Output(stream=streams.NullWriter()))


class InheritedStdout(StdoutEndpoint):
    """The process's own stdout."""

    __slots__ = ()
    kind = "inherit"

    def open(self, reactor: Reactor, pipe_size: int | None, on_end: OnEnd, *, wants_file: bool) -> StdoutPort:
        """Lend it."""
        return StdoutPort(Output(borrowed=1, owned_description=False))


class GivenStdout(StdoutEndpoint):
    """An end that a custom stage was given, and passes on to a pipeline."""

    __slots__ = ("_end",)
    kind = "given"

    def __init__(self, end: Output) -> None:
        super().__init__()
        self._end = end

    def open(self, reactor: Reactor, pipe_size: int | None, on_end: OnEnd, *, wants_file: bool) -> StdoutPort:
        """Pass it on."""
        return StdoutPort(self._end)


class PathStdout(StdoutEndpoint):
    """A file, by its path."""

    __slots__ = ("_path",)
    kind = "path"

    def __init__(self, path: Any) -> None:
        super().__init__()
        self._path = path

    def open_for(self, resources: RunResources, *_: Any, **__: Any) -> StdoutPort:
        """Open the file: create it, or make it empty."""
        files = resources.shared_files
        output = open_write(self._path) if files is None else files.open_write(self._path)
        return StdoutPort(Output(output, owned_description=files is None))


class TargetStdout(StdoutEndpoint):
    """A file, by its path, that is appended to, or replaced when the run has succeeded."""

    __slots__ = ("_target",)
    kind = "path"

    def __init__(self, target: FileTarget) -> None:
        super().__init__()
        self._target = target

    def open_for(self, resources: RunResources, *_: Any, **__: Any) -> StdoutPort:
        """Open the file at its end, or create the part."""
        alone = resources.shared_files is None
        return StdoutPort(Output(open_target(self._target, resources), owned_description=alone))


class DescriptorStdout(StdoutEndpoint):
    """A descriptor, or an object over one, that a child may have."""

    __slots__ = ("_value",)
    kind = "descriptor"

    def __init__(self, value: Any, closing: Any) -> None:
        super().__init__(closing)
        self._value = value

    def open(self, reactor: Reactor, pipe_size: int | None, on_end: OnEnd, *, wants_file: bool) -> StdoutPort:
        """Duplicate it."""
        return StdoutPort(Output(duplicate_sink(self._value), owned_description=False))


class PipeStdout(StdoutEndpoint):
    """PIPE: the user reads."""

    __slots__ = ()
    kind = "pipe"

    def open(self, reactor: Reactor, pipe_size: int | None, on_end: OnEnd, *, wants_file: bool) -> StdoutPort:
        """Make a pipe, and a file object for its other end."""
        with late_import:
            from penstock.engine import port_streams as streams  # noqa: PLC0415 - see the head of the module

        read_end, write_end = open_pipe(pipe_size, kept=0)
        return StdoutPort(Output(write_end), file=streams.pipe_reader(read_end))


class IteratedStdout(StdoutEndpoint):
    """`iter_bytes()`: the user reads chunks as they come."""

    __slots__ = ()
    kind = "iterate"

    def open(self, reactor: Reactor, pipe_size: int | None, on_end: OnEnd, *, wants_file: bool) -> StdoutPort:
        """Give the port a reader."""
        with late_import:
            from penstock.engine import port_streams as streams  # noqa: PLC0415 - see the head of the module

        if not wants_file:
            memory = streams.MemoryPipe()
            return StdoutPort(Output(stream=memory.writer), reader=memory.reader)
        read_end, write_end = open_pipe(pipe_size, kept=0)
        with close_on_error(read_end, write_end):
            reader = streams.FdReader(read_end, owned_description=True)
        return StdoutPort(Output(write_end), reader=reader)


class CapturedStdout(StdoutEndpoint):
    """CAPTURE: the result holds everything."""

    __slots__ = ()
    kind = "capture"

    def open(self, reactor: Reactor, pipe_size: int | None, on_end: OnEnd, *, wants_file: bool) -> StdoutPort:
        """Give a stream that keeps every chunk, or have the reactor read a pipe."""
        captured = Captured()
        if not wants_file:
            with late_import:
                from penstock.engine import port_streams as streams  # noqa: PLC0415 - see the head of the module

            return CapturePort(Output(stream=streams.CaptureWriter(captured)), captured, reactor)
        read_end, write_end = open_pipe(pipe_size, kept=0)
        with close_on_error(read_end, write_end):
            tap = CaptureTap(reactor, read_end, captured, on_end)
            return CapturePort(Output(write_end), captured, reactor, tap)


class _CopiedStdout(StdoutEndpoint):
    """Anything that a worker copies to."""

    __slots__ = ()
    kind = "object"
    _target_owned: ClassVar[bool] = True
    """Whether the target was made for the copy."""

    def open(self, reactor: Reactor, pipe_size: int | None, on_end: OnEnd, *, wants_file: bool) -> StdoutPort:
        """Have a worker copy to it from memory or from a pipe."""
        with late_import:
            from penstock.engine import port_streams as streams  # noqa: PLC0415 - see the head of the module

        if not wants_file:
            memory = streams.MemoryPipe()
            drainer = self._drainer(reactor, memory.reader, on_end)
            return DrainedPort(Output(stream=memory.writer), drainer, reactor)
        read_end, write_end = open_pipe(pipe_size, kept=0)
        with close_on_error(read_end, write_end):
            reader = streams.FdReader(read_end, owned_description=True)
            drainer = self._drainer(reactor, reader, on_end)
        return DrainedPort(Output(write_end), drainer, reactor)

    def _drainer(self, reactor: Reactor, reader: Reader, on_end: OnEnd) -> Drainer:
        with late_import:
            from penstock.engine import port_streams as streams  # noqa: PLC0415 - see the head of the module

        return streams.Drainer(reactor, reader, self._target(), on_end, sink_owned=self._target_owned)

    def _target(self) -> Any:
        """Return the object that the worker writes to."""
        raise NotImplementedError


class ObjectStdout(_CopiedStdout):
    """An object that is written to by its own methods."""

    __slots__ = ("_value",)
    _target_owned = False

    def __init__(self, value: Any, closing: Any) -> None:
        super().__init__(closing)
        self._value = value

    def _target(self) -> Any:
        return self._value


class CopierStdout(ObjectStdout):
    """An object that copies by itself: it has `read_from`."""

    __slots__ = ()
    kind = "copier"


class FifoStdout(_CopiedStdout):
    """The path of a FIFO. Opening it waits for a reader, so the worker opens it (`streams.fifo_streams`)."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def _target(self) -> FifoWriter:
        with late_import:
            from penstock.engine import port_streams as streams  # noqa: PLC0415 - see the head of the module

        return streams.FifoWriter(self._path)


class NonblockingStdout(_CopiedStdout):
    """A non-blocking descriptor, which no child may have as it is."""

    __slots__ = ("_number", "carrier")

    def __init__(self, number: int, closing: Any = None) -> None:
        with late_import:
            from penstock.engine import port_streams as streams  # noqa: PLC0415 - see the head of the module

        super().__init__(closing)
        self._number = number
        self.carrier = streams.best_method(number, to_pipe=False)

    def open(self, reactor: Reactor, pipe_size: int | None, on_end: OnEnd, *, wants_file: bool) -> StdoutPort:
        """Have a worker copy to it: from memory, or from descriptor to descriptor."""
        with late_import:
            from penstock.engine import port_streams as streams  # noqa: PLC0415 - see the head of the module

        if not wants_file:
            return super().open(reactor, pipe_size, on_end, wants_file=wants_file)
        read_end, write_end = open_pipe(pipe_size, kept=0, grow=True)
        with close_on_error(read_end, write_end):
            sink = duplicate(self._number)
            transfer = streams.Transfer(read_end, sink, source_owned=True, sink_owned=False)
        return DrainedPort(Output(write_end), streams.Drainer(reactor, transfer, None, on_end), reactor)

    def _target(self) -> FdWriter:
        with late_import:
            from penstock.engine import port_streams as streams  # noqa: PLC0415 - see the head of the module

        return streams.FdWriter(duplicate(self._number), owned_description=False)


class AsyncObjectStdout(StdoutEndpoint):
    """An object that only a task of an event loop can write to; `loop_binding` replaces it."""

    __slots__ = ("value",)
    kind = "async"

    def __init__(self, value: Any, closing: Any) -> None:
        super().__init__(closing)
        self.value = value


ITERATED = IteratedStdout()
_NULL, _INHERITED = NullStdout(), InheritedStdout()
_SPECIALS = {DEVNULL: _NULL, PIPE: PipeStdout(), CAPTURE: CapturedStdout()}


def stdout_endpoint(value: Any) -> StdoutEndpoint:
    """Return what takes the output of the last stage, by the stdout option.

    Opens nothing. Raises ValueError, naming stdout, if that is closed or not for writing.
    """
    value, to_close = unwrap(value)
    if isinstance(value, Special):
        return _inherited() if value is INHERIT else _SPECIALS[value]
    if isinstance(value, atomic):
        return TargetStdout(value)
    appends = value if isinstance(value, appending) else None
    if isinstance(value, appending):
        value = value.path
    if isinstance(value, str | os.PathLike):
        with late_import:
            from penstock.system.fifo_open import is_fifo  # noqa: PLC0415 - only paths need it

        if is_fifo(value):
            return FifoStdout(value)
        return PathStdout(value) if appends is None else TargetStdout(appends)
    if not isinstance(value, int) and is_async_sink(value):
        return AsyncObjectStdout(value, to_close)
    return _of_object(value, to_close)


def _of_object(value: Any, to_close: Any) -> StdoutEndpoint:
    """Return the endpoint for a descriptor's number or an object."""
    access = sink_access("stdout", value)
    if access is Access.PASS:
        return DescriptorStdout(value, to_close)
    if access is Access.COPY:
        return NonblockingStdout(number_of(value), to_close)
    return (CopierStdout if callable(getattr(value, "read_from", None)) else ObjectStdout)(value, to_close)


def _inherited() -> StdoutEndpoint:
    """Return the process's own stdout: copied if it is non-blocking, nothing if it is closed."""
    try:
        return NonblockingStdout(1) if is_nonblocking(1) else _INHERITED
    except OSError:
        return _NULL

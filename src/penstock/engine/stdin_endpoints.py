"""The kinds of stdin, one class each: made by looking only, and opened for each run.

`stdin_endpoint` chooses the class. `kind` is the name that `core.plan` knows, and `carrier` names what would
carry a copy from there into a pipe. An endpoint is part of a plan, so it never changes and keeps nothing of
a run: `open` returns a port, which does. A stage that prefers a file (`wants_file`) gets a descriptor. Any
other stage gets a stream in memory, if there is no descriptor to pass.

Streams and copies are loaded by the endpoints that need them, before these open anything: a run of commands
alone needs none. Later there may be no descriptor to load a module by. `copied_stdin` has the kinds that a
worker copies.

A new kind of stdin (a terminal, an edge of a graph) is one more class with `open`, chosen in
`stdin_endpoint`. `stdout_endpoints` names the other places that know the kinds.
"""

from __future__ import annotations

import os

from penstock.core.async_detection import is_async_source
from penstock.core.constants import DEVNULL, INHERIT, PIPE, Special
from penstock.core.secret import as_utf8, restored
from penstock.engine.ports import StdinPort, close_on_error, open_pipe
from penstock.runtime.taps import InputWriter
from penstock.streams.endpoints import Access, duplicate_source, number_of, source_access, unwrap
from penstock.streams.stage_ends import Input
from penstock.system.fds import is_nonblocking, open_read
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

    from penstock.runtime.reactor import Reactor
    from penstock.system.fds import Path

__all__ = [
    "AsyncObjectStdin",
    "GivenStdin",
    "PipeStdin",
    "StdinEndpoint",
    "stdin_endpoint",
]


class StdinEndpoint:
    """One kind of stdin; `closing` is the object to close after the run, or None."""

    __slots__ = ("closing",)
    kind: ClassVar[str]
    carrier: str = "pooled"
    """The kind of edge that a copy from here into a pipe would be."""

    def __init__(self, closing: Any = None) -> None:
        self.closing = closing

    def open(self, reactor: Reactor, pipe_size: int | None, *, wants_file: bool) -> StdinPort:
        """Open it for one run. Raises OSError if it cannot be opened; then nothing is left open."""
        raise NotImplementedError


class NullStdin(StdinEndpoint):
    """DEVNULL, or the process's own stdin if that is closed."""

    __slots__ = ()
    kind = "null"

    def open(self, reactor: Reactor, pipe_size: int | None, *, wants_file: bool) -> StdinPort:
        """Give /dev/null, unopened, or an empty stream."""
        if wants_file:
            return StdinPort(Input(devnull=True))
        with late_import:
            from penstock.engine import port_streams as streams  # noqa: PLC0415 - see the head of the module

        return StdinPort(Input(stream=streams.BytesReader()))


class InheritedStdin(StdinEndpoint):
    """The process's own stdin."""

    __slots__ = ()
    kind = "inherit"

    def open(self, reactor: Reactor, pipe_size: int | None, *, wants_file: bool) -> StdinPort:
        """Lend it."""
        return StdinPort(Input(borrowed=0, owned_description=False))


class GivenStdin(StdinEndpoint):
    """An end that a custom stage was given, and passes on to a pipeline."""

    __slots__ = ("_end",)
    kind = "given"

    def __init__(self, end: Input) -> None:
        super().__init__()
        self._end = end

    def open(self, reactor: Reactor, pipe_size: int | None, *, wants_file: bool) -> StdinPort:
        """Pass it on."""
        return StdinPort(self._end)


class PathStdin(StdinEndpoint):
    """A file, by its path."""

    __slots__ = ("_path",)
    kind = "path"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def open(self, reactor: Reactor, pipe_size: int | None, *, wants_file: bool) -> StdinPort:
        """Open the file."""
        return StdinPort(Input(open_read(self._path)))


class DescriptorStdin(StdinEndpoint):
    """A descriptor, or an object over one, that a child may have."""

    __slots__ = ("_value",)
    kind = "descriptor"

    def __init__(self, value: Any, closing: Any) -> None:
        super().__init__(closing)
        self._value = value

    def open(self, reactor: Reactor, pipe_size: int | None, *, wants_file: bool) -> StdinPort:
        """Duplicate it."""
        return StdinPort(Input(duplicate_source(self._value), owned_description=False))


class PipeStdin(StdinEndpoint):
    """PIPE: the user writes."""

    __slots__ = ()
    kind = "pipe"

    def open(self, reactor: Reactor, pipe_size: int | None, *, wants_file: bool) -> StdinPort:
        """Make a pipe, and a file object for its other end."""
        with late_import:
            from penstock.engine import port_streams as streams  # noqa: PLC0415 - see the head of the module

        read_end, write_end = open_pipe(pipe_size, kept=1)
        return StdinPort(Input(read_end), file=streams.PipeWriter(write_end, streams.ReactorCalls(reactor)))


class BytesStdin(StdinEndpoint):
    """Bytes at hand: `input=`."""

    __slots__ = ("_data",)
    kind = "input"

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def open(self, reactor: Reactor, pipe_size: int | None, *, wants_file: bool) -> StdinPort:
        """Give them as a stream, or have the reactor write them into a pipe."""
        data = restored(self._data, as_utf8)
        if not wants_file:
            with late_import:
                from penstock.engine import port_streams as streams  # noqa: PLC0415 - see the head of the module

            return StdinPort(Input(stream=streams.BytesReader(data)), size=len(data) or None)
        read_end, write_end = open_pipe(pipe_size, kept=1)
        with close_on_error(read_end, write_end):
            writer = InputWriter(reactor, write_end, data)
            return StdinPort(Input(read_end), writer, in_reactor=True)


class AsyncObjectStdin(StdinEndpoint):
    """An object that only a task of an event loop can read; `loop_binding` replaces it by one that opens."""

    __slots__ = ("value",)
    kind = "async"

    def __init__(self, value: Any, closing: Any = None) -> None:
        super().__init__(closing)
        self.value = value


_NULL, _INHERITED = NullStdin(), InheritedStdin()
_SPECIALS = {DEVNULL: _NULL, PIPE: PipeStdin()}


def stdin_endpoint(value: Any, data: Any) -> StdinEndpoint:
    """Return what feeds the first stage: `data`, or the stdin option.

    Opens nothing. Raises ValueError, naming stdin, if that is closed or not for reading.
    """
    if data is not None:
        return BytesStdin(data) if isinstance(data, bytes) else AsyncObjectStdin(data)
    value, to_close = unwrap(value)
    if isinstance(value, Special):
        return _inherited() if value is INHERIT else _SPECIALS[value]
    if isinstance(value, str | os.PathLike):
        with late_import:
            from penstock.system.fifo_open import is_fifo  # noqa: PLC0415 - only paths need it

        if not is_fifo(value):
            return PathStdin(value)
        with late_import:
            from penstock.engine import copied_stdin  # noqa: PLC0415 - few runs get such an object

        return copied_stdin.FifoStdin(value)
    if not isinstance(value, int) and is_async_source(value):
        return AsyncObjectStdin(value, to_close)
    return _of_object(value, to_close)


def _of_object(value: Any, to_close: Any) -> StdinEndpoint:
    """Return the endpoint for a descriptor's number or an object."""
    access = source_access(value)
    if access is Access.LOOK or access is Access.LEND:
        with late_import:
            from penstock.engine import reader_stdin  # noqa: PLC0415 - few runs get such an object

        if access is Access.LEND:
            return reader_stdin.stream_stdin(value, to_close)
        return reader_stdin.reader_stdin(value, to_close)
    if access is Access.PASS:
        return DescriptorStdin(value, to_close)
    with late_import:
        from penstock.engine import copied_stdin  # noqa: PLC0415 - few runs get such an object
    if access is Access.COPY:
        return copied_stdin.NonblockingStdin(number_of(value), to_close)
    return copied_stdin.object_stdin(value, to_close)


def _inherited() -> StdinEndpoint:
    """Return the process's own stdin: copied if it is non-blocking, nothing if it is closed."""
    try:
        inherited = not is_nonblocking(0)
    except OSError:
        return _NULL
    if inherited:
        return _INHERITED
    with late_import:
        from penstock.engine import copied_stdin  # noqa: PLC0415 - few runs get such an object

    return copied_stdin.NonblockingStdin(0)

"""The kinds of stdout, one class each: the counterpart of `stdin_endpoints`.

`stdout_choice` chooses the class, by looking only. `kind` is the name that `core.plan` knows, and `carrier`
names what would carry a copy from a pipe to there. An endpoint never changes and keeps nothing of a run:
`open` returns a port, which does. Streams and copies are loaded as in `stdin_endpoints`; `copied_stdout` has
the kinds that a worker copies to.

A new kind of stdout (a terminal, a branch of a graph) is one more class with `open`, chosen in
`stdout_choice`. A new `kind` also needs its carrier in `core.plan`, and a new constant (such as CAPTURE)
needs its check in `core.options`. If an event loop serves it, `loop_binding` replaces it.
"""

from __future__ import annotations

import os

from penstock.core.captured import Captured
from penstock.core.file_targets import appending
from penstock.engine.ports import CapturePort, StdoutPort, close_on_error, open_pipe
from penstock.runtime.taps import CaptureTap
from penstock.stages.stderr import open_target
from penstock.streams.endpoints import duplicate_sink, number_of
from penstock.streams.stage_ends import Output
from penstock.system.fds import open_write
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from penstock.core.file_targets import FileTarget
    from penstock.runtime.reactor import Reactor
    from penstock.stages.run_services import RunResources

    OnEnd = Callable[[], None]

__all__ = [
    "AsyncObjectStdout",
    "CapturedStdout",
    "DescriptorStdout",
    "GivenStdout",
    "InheritedStdout",
    "IteratedStdout",
    "NullStdout",
    "PathStdout",
    "PipeStdout",
    "StdoutEndpoint",
    "TargetStdout",
]


class StdoutEndpoint:
    """One kind of stdout; `closing` is the object to close after the run, or None."""

    __slots__ = ("closing",)
    kind: str
    carrier: str = "pooled"
    """The kind of edge that a copy from a pipe to here would be."""

    def __init__(self, closing: Any = None) -> None:
        self.closing = closing

    def relay_method(self, *, shared: bool) -> str:
        """Return the kind of edge that a relay from a pipe to here is.

        `shared` says that another output of the run may be the same file.
        """
        return self.carrier

    def planned_kind(self, *, wants_file: bool) -> str:
        """Return the kind that says what carries the bytes of the last stage."""
        return self.kind

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

    def relay_method(self, *, shared: bool) -> str:
        """Return how a pipe is copied to /dev/null."""
        return _relay_to_path(os.devnull, append=False, shared=shared)

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

    def relay_method(self, *, shared: bool) -> str:
        """Return how a pipe is copied to it."""
        with late_import:
            from penstock.engine import port_streams as streams  # noqa: PLC0415 - see the head of the module

        return streams.best_method(1, to_pipe=False)

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

    def relay_method(self, *, shared: bool) -> str:
        """Return how a pipe is copied to it."""
        return _relay_to_path(self._path, append=False, shared=shared)

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

    def relay_method(self, *, shared: bool) -> str:
        """Return how a pipe is copied to it."""
        return _relay_to_path(self._target.path, append=isinstance(self._target, appending), shared=shared)

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

    def relay_method(self, *, shared: bool) -> str:
        """Return how a pipe is copied to it."""
        with late_import:
            from penstock.engine import port_streams as streams  # noqa: PLC0415 - see the head of the module

        return streams.best_method(number_of(self._value), to_pipe=False)

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
    """CAPTURE: the result holds everything, at most `limit` bytes."""

    __slots__ = ("_limit",)
    kind = "capture"

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self._limit = limit

    def open(self, reactor: Reactor, pipe_size: int | None, on_end: OnEnd, *, wants_file: bool) -> StdoutPort:
        """Give a stream that keeps every chunk, or have the reactor read a pipe."""
        captured = Captured(self._limit)
        if not wants_file:
            with late_import:
                from penstock.engine import port_streams as streams  # noqa: PLC0415 - see the head of the module

            return CapturePort(Output(stream=streams.CaptureWriter(captured)), captured, reactor)
        read_end, write_end = open_pipe(pipe_size, kept=0)
        with close_on_error(read_end, write_end):
            tap = CaptureTap(reactor, read_end, captured, on_end)
            return CapturePort(Output(write_end), captured, reactor, tap)


class AsyncObjectStdout(StdoutEndpoint):
    """An object that only a task of an event loop can write to; `loop_binding` replaces it."""

    __slots__ = ("value",)
    kind = "async"

    def __init__(self, value: Any, closing: Any) -> None:
        super().__init__(closing)
        self.value = value


def _relay_to_path(path: Any, *, append: bool, shared: bool) -> str:
    """Return the kind of edge that a relay from a pipe to a file is."""
    with late_import:
        from penstock.engine import port_streams as streams  # noqa: PLC0415 - see the head of the module

    return streams.best_method_to_path(path, append=append, shared=shared)

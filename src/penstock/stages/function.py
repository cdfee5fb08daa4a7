"""Python functions as stages: their base class, and the stages whose function gets the streams themselves.

A Python stage is a `body(ctx, stdin, stdout)` that runs in a worker thread, in a copy of the starter's
contextvars context. The streams are closed when it returns or raises: EOF for the next stage, a closed pipe
for the one before.
"""

from __future__ import annotations

from functools import partial
from types import GeneratorType

from penstock.core.describe import describe
from penstock.core.placeholders import masked
from penstock.core.public import exported, half_made_too
from penstock.core.secret import as_utf8, restored
from penstock.runtime.late_calls import ReactorCalls
from penstock.stages.base import BuiltinStage
from penstock.stages.context import NamedEnds
from penstock.stages.running_function import RunningFunction
from penstock.streams.chunk_feed import ChunkFeed
from penstock.streams.joining_writer import call_joining

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from penstock.stages.branch import Branch, StagePorts
    from penstock.stages.context import StageContext
    from penstock.stages.running import ThreadedStage
    from penstock.streams.reader import Reader
    from penstock.streams.stage_ends import Input, Output
    from penstock.streams.writer import Writer

__all__ = ["Echo", "Function", "PythonStage", "Scan", "Source", "name_of"]


class PythonStage(BuiltinStage):
    """A stage whose work is a Python function in a thread: a worker, or the caller's own."""

    kind = "function"
    works_in_thread = True

    def __init__(self, fn: Any, name: str | None) -> None:
        if name is not None and (not isinstance(name, str) or not name):
            raise TypeError(f"name must be a non-empty str or None, not {describe(name)}")
        self.fn = fn
        self.name = masked(name or name_of(fn))

    @half_made_too
    def __repr__(self) -> str:
        return f"{self.kind}({name_of(self.fn)})"

    def body(self, ctx: StageContext, stdin: Reader, stdout: Writer) -> None:
        """Do the work. An exception that it raises is the stage's outcome."""
        raise NotImplementedError

    def take_ports(self, inlets: Mapping[str, Any], outlets: Mapping[str, Branch]) -> None:
        """Give it pipelines to read, and branches to write, besides its stdin and stdout."""
        self.inlets, self.outlets = inlets, outlets
        self.starts_in_graph = self.starts_in_graph or bool(inlets or outlets)

    def start_in_graph(
        self, ctx: StageContext, stdin: Input, stdout: Output, ports: StagePorts
    ) -> ThreadedStage:
        """Run the body in a worker thread, with the other ends in the context."""
        try:
            for end in ports.outputs.values():
                end.open_devnull()
            ctx.inputs = inputs = NamedEnds({name: end.reader for name, end in ports.inputs.items()})
            ctx.outputs = outputs = NamedEnds({name: end.writer for name, end in ports.outputs.items()})
            body = self.body_in_graph(ctx, stdin, stdout, ports)
            streams = stdout.writer, *outputs.values(), stdin.reader, *inputs.values()
            return RunningFunction(ctx, body, *streams)
        except BaseException:
            stdin.close()
            stdout.close()
            ports.close()
            raise

    def body_in_graph(
        self, ctx: StageContext, stdin: Input, stdout: Output, ports: StagePorts
    ) -> Callable[[], None]:
        """Return the body with its arguments."""
        return partial(self.body, ctx, stdin.reader, stdout.writer)

    def start(self, ctx: StageContext, stdin: Input, stdout: Output, /) -> ThreadedStage:
        """Run the body in a worker thread."""
        try:
            reader, writer = stdin.reader, stdout.writer
            return RunningFunction(ctx, partial(self.body, ctx, reader, writer), writer, reader)
        except BaseException:
            stdin.close()
            stdout.close()
            raise


@exported
class Function(PythonStage):
    """`fn(ctx, stdin, stdout)`; see `penstock.function`."""

    def body(self, ctx: StageContext, stdin: Reader, stdout: Writer) -> None:
        """Call it."""
        call_joining(lambda out: self.fn(ctx, stdin, out), stdout, ReactorCalls(ctx.reactor))


@exported
class Scan(PythonStage):
    """`split(stdin)` into tokens, `fn(ctx, token, stdout)` for each; see `penstock.scan`."""

    kind = "scan"

    def __init__(self, split: Any, fn: Any, name: str | None) -> None:
        super().__init__(fn, name)
        self.split = split

    def body(self, ctx: StageContext, stdin: Reader, stdout: Writer) -> None:
        """Call `fn` for each token."""
        call_joining(lambda out: self._call_for_tokens(ctx, stdin, out), stdout, ReactorCalls(ctx.reactor))

    def _call_for_tokens(self, ctx: StageContext, stdin: Reader, stdout: Writer) -> None:
        tokens = self.split(stdin)
        try:
            for token in tokens:
                self.fn(ctx, token, stdout)
        finally:
            close_iterator(tokens)


@exported
class Source(PythonStage):
    """Emits the chunks of an iterable; see `penstock.source`."""

    kind = "source"

    def __init__(self, iterable: Iterable[bytes], name: str | None) -> None:
        super().__init__(iterable, name or "source")

    @half_made_too
    def __repr__(self) -> str:
        return f"source({type(self.fn).__name__})"

    def body(self, ctx: StageContext, stdin: Reader, stdout: Writer) -> None:
        """Write each chunk."""
        stdin.close()
        iterator = iter(self.fn)

        def call(function: Callable[..., Any], *arguments: Any) -> Any:
            ctx.check()
            return function(*arguments)

        try:
            ChunkFeed(self.fn, stdout, ReactorCalls(ctx.reactor)).run(iterator, call)
        finally:
            # A file is its own iterator, and belongs to the caller.
            if iterator is not self.fn or isinstance(iterator, GeneratorType):
                close_iterator(iterator)


@exported
class Echo(PythonStage):
    """Writes one text; see `penstock.echo`."""

    kind = "echo"

    def __init__(self, data: bytes, name: str | None) -> None:
        super().__init__(data, name or "echo")

    @half_made_too
    def __repr__(self) -> str:
        return masked(f"echo({self.fn!r})")

    def body(self, ctx: StageContext, stdin: Reader, stdout: Writer) -> None:
        """Write it."""
        stdin.close()
        stdout.write(restored(self.fn, as_utf8))


def close_iterator(iterator: object) -> None:
    """Close an iterator that has a `close`, so that a generator runs its `finally` now, in this thread."""
    close = getattr(iterator, "close", None)
    if callable(close):
        close()


def name_of(fn: Any) -> str:
    """Return a stage's name: that of its function, of the function in a partial, or of its type."""
    while hasattr(fn, "func"):
        fn = fn.func
    name = getattr(fn, "__name__", None) or type(fn).__name__
    return str(name)

"""The constructors of stages.

Each returns a pipeline of one stage, which can be joined by `|` or run by itself.

A mistake in an argument is a TypeError or ValueError here, when the stage is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.api.pipeline import Pipeline, checked_stage
from penstock.api.variants import (
    asynchronous,
    check_callable,
    check_concurrency,
    line_stage,
    placed,
    python_stage,
)
from penstock.core.async_detection import is_async_source, plain
from penstock.core.framing import DEFAULT_MAX_LINE, check_max_line
from penstock.stages.chain import Transform
from penstock.stages.command import Command
from penstock.stages.filters import Filtered, ignoring
from penstock.stages.function import Echo, Function, Scan, Source
from penstock.stages.line_map import FilterLines, MapLineBatches, MapLines
from penstock.stages.lines import EachLine, TransformLines

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping
    from typing import Literal

    from penstock.core.env import Secret
    from penstock.core.limits import Limits
    from penstock.core.matchers import Matcher
    from penstock.core.stage import Stage
    from penstock.stages.context import StageContext
    from penstock.streams.reader import Reader
    from penstock.streams.writer import Writer

__all__ = [
    "command",
    "each_line",
    "echo",
    "filter_error",
    "filter_lines",
    "function",
    "ignore_error",
    "map_line_batches",
    "map_lines",
    "scan",
    "source",
    "transform",
    "transform_lines",
]


def command(  # noqa: PLR0913 - what can be said of a command
    program: str | bytes | os.PathLike[str] | Secret,
    *args: str | bytes | os.PathLike[str] | Secret,
    name: str | None = None,
    cwd: str | bytes | os.PathLike[str] | None = None,
    env: Mapping[str, str | Secret | Callable[[], str | None] | None] | None = None,
    stderr: Any = None,
    ok_codes: Iterable[int] = (0,),
    process_group: bool = True,
    limits: Limits | None = None,
    on_leftover: Literal["ignore", "report", "kill"] | None = None,
) -> Pipeline:
    """Make a stage that is an external command; no shell is involved.

    `program` and `args` are str, bytes or PathLike, or a `Secret`; anything else is a TypeError, an empty
    program or a NUL byte a ValueError. A program with a slash is taken from the caller's working directory,
    whatever `cwd` is; a bare name is searched on the child's PATH, whose empty and relative entries are
    skipped. `cwd`, `env` and `stderr` go before the pipeline's. An exit status outside `ok_codes`, or a death
    by signal, is an `ExitError`. The child leads a process group of its own, except where its stdin is a
    terminal, which would stop it then; `process_group=False` leaves it in the caller's in any case. A
    cancellation then reaches its descendants one by one.

    `limits` is what it may use, laid over the pipeline's. `on_leftover` is what is done about processes that
    it has started and that still run when it has ended by itself: "ignore" leaves them alone, "report" sends
    an event of kind `leftover` with their `pids`, "kill" does that and ends them, by SIGTERM and after the
    grace time by SIGKILL, before the stage counts as ended. They are found by its process group, and in its
    cgroup where it has one for itself; those in one that a pipeline's commands share are seen to, with
    SIGKILL, when the run ends. None is as the pipeline says.

    >>> command("printf", "%s", "a|b").output()
    b'a|b'
    """
    made = Command(
        program,
        args,
        name=name,
        cwd=cwd,
        env=env,
        stderr=stderr,
        ok_codes=ok_codes,
        process_group=process_group,
        limits=limits,
        on_leftover=on_leftover,
    )
    return Pipeline(made)


def function(
    fn: Callable[[StageContext, Any, Any], object],
    *,
    name: str | None = None,
    isolate: Literal["process"] | None = None,
) -> Pipeline:
    r"""Make a stage of `fn(ctx, stdin, stdout)`, which runs in a thread of its own.

    `stdin` has `read(n)`, `read1`, `readinto`, `readline`, iteration by line (with LF) and `chunks()`;
    `stdout` has `write` (takes all of any bytes-like object and returns its length), `writelines` and
    `flush`. Both are closed when `fn` returns. What `fn` raises is the stage's error, `FinishEarly` an early
    success.

    With `isolate="process"` (here and in the constructors below) it runs in a worker process instead, so that
    Python code that keeps a core busy has one to itself. Then `fn` must be defined at the top level of a
    module, what it is bound to must be picklable, and a script needs its `if __name__ == "__main__":`, all as
    with `multiprocessing`; a TypeError says so when the stage is made. Edges are pipes of the kernel. Workers
    stay for a few seconds and are used again.

    An `async def` runs on the event loop of `arun()` and its like. Its `stdin` is an anyio receive stream
    (`async for chunk in stdin`, `await stdin.receive()`), its `stdout` a send stream (`await
    stdout.send(data)`).

    >>> def shout(ctx, stdin, stdout):
    ...     for line in stdin:
    ...         stdout.write(line.upper())
    >>> (echo("hello") | function(shout)).output()
    b'HELLO\n'
    """
    return python_stage(
        "function", fn, isolate, lambda: Function(fn, name), lambda a: a.AsyncFunction(fn, name)
    )


def transform(
    fn: Callable[[Any], Iterable[bytes] | AsyncIterable[bytes]],
    *,
    name: str | None = None,
    isolate: Literal["process"] | None = None,
) -> Pipeline:
    r"""Make a stage of a function from an iterator of chunks to an iterable of chunks: bytes, as they come.

    An async generator function is given an async iterator, and runs on the event loop of `arun()` and its
    like.

    >>> (echo("abc") | transform(lambda chunks: (chunk[::-1] for chunk in chunks))).output()
    b'\ncba'
    """
    make = lambda a: a.AsyncTransform(fn, name)  # noqa: E731 - as an argument it would not fit the line
    return python_stage("transform", fn, isolate, lambda: Transform(fn, name), make, generator=True)


def transform_lines(
    fn: Callable[[Any], Iterable[bytes] | AsyncIterable[bytes]],
    *,
    name: str | None = None,
    isolate: Literal["process"] | None = None,
) -> Pipeline:
    r"""Make a stage of a function from an iterator of lines to an iterable of lines, both bytes without LF.

    Every line that is written gets an LF. Lines are passed on in blocks, but never held back while the input
    has to be waited for, nor longer than 50 ms. LineTooLong past 16 MiB. An async generator function is given
    an async iterator, and runs on the event loop of `arun()` and its like.

    >>> (echo("b\na") | transform_lines(sorted)).output()
    b'a\nb\n'
    """
    make = lambda a: a.AsyncLineStage("transform-lines", fn, name)  # noqa: E731 - as above
    return python_stage(
        "transform_lines", fn, isolate, lambda: TransformLines(fn, name), make, generator=True
    )


def map_lines(
    fn: Callable[[bytes], bytes | Awaitable[bytes | None] | None],
    *,
    name: str | None = None,
    isolate: Literal["process"] | None = None,
    concurrency: int = 1,
) -> Pipeline:
    r"""Make a stage that writes `fn(line)` for each line, bytes without LF both ways; None drops the line.

    An `async def` runs on the event loop of `arun()` and its like: at most `concurrency` calls at once, and
    their results in the order of the lines. With a plain function `concurrency` is 1.

    >>> (echo("a\nb") | map_lines(bytes.upper)).output()
    b'A\nB\n'
    """
    return line_stage("map_lines", MapLines, fn, name, isolate, concurrency)


def filter_lines(
    fn: Callable[[bytes], object],
    *,
    name: str | None = None,
    isolate: Literal["process"] | None = None,
    concurrency: int = 1,
) -> Pipeline:
    r"""Make a stage that keeps the lines (bytes without LF) for which `fn(line)` is true.

    `fn` may be async, with `concurrency`, as in `map_lines`.

    >>> (echo("1\nx\n2") | filter_lines(bytes.isdigit)).output()
    b'1\n2\n'
    """
    return line_stage("filter_lines", FilterLines, fn, name, isolate, concurrency)


def map_line_batches(
    fn: Callable[[list[bytes]], Iterable[bytes] | Awaitable[Iterable[bytes]]],
    *,
    name: str | None = None,
    isolate: Literal["process"] | None = None,
    concurrency: int = 1,
) -> Pipeline:
    r"""Make a stage of a function from a list of lines to an iterable of lines, bytes without LF both ways.

    The fast path for many short lines: one call for all the lines that one read brought, so how they are
    divided is up to the input. `fn` may be async, with `concurrency`, as in `map_lines`.

    >>> (echo("1\n2") | map_line_batches(lambda lines: [line * 2 for line in lines])).output()
    b'11\n22\n'
    """
    return line_stage("map_line_batches", MapLineBatches, fn, name, isolate, concurrency)


def each_line(
    fn: Callable[[StageContext, bytes, Any], object],
    *,
    name: str | None = None,
    max_line: int = DEFAULT_MAX_LINE,
    isolate: Literal["process"] | None = None,
    concurrency: int = 1,
) -> Pipeline:
    r"""Make a stage that calls `fn(ctx, line, stdout)` for each line (bytes without LF).

    Go-pipe's LinewiseFunction.

    What `fn` writes is passed on as it is, joined to larger blocks. `LineTooLong` past `max_line` bytes. `fn`
    may be async, with `concurrency`, as in `map_lines`; it writes by `await stdout.send(...)` then.

    >>> (echo("a\nb") | each_line(lambda ctx, line, stdout: stdout.write(line))).output()
    b'ab'
    """
    check_max_line(max_line)
    check_concurrency(fn, concurrency)
    make = lambda a: a.AsyncLineStage("each-line", fn, name, concurrency, max_line)  # noqa: E731 - as above
    return python_stage("each_line", fn, isolate, lambda: EachLine(fn, name, max_line), make)


def scan(
    split: Callable[[Reader], Iterator[Any]],
    fn: Callable[[StageContext, Any, Writer], object],
    *,
    name: str | None = None,
    isolate: Literal["process"] | None = None,
) -> Pipeline:
    """Make a stage that calls `fn(ctx, token, stdout)` for each token of `split(stdin)`.

    Go-pipe's ScannerFunction.

    >>> split = lambda stdin: iter(stdin.read().split())
    >>> (echo("a b") | scan(split, lambda ctx, word, stdout: stdout.write(word + b";"))).output()
    b'a;b;'
    """
    plain("scan", check_callable("scan", split))
    return placed(Scan(split, plain("scan", check_callable("scan", fn)), name), isolate)


def source(iterable: Iterable[bytes] | AsyncIterable[bytes], *, name: str | None = None) -> Pipeline:
    """Make a stage that reads nothing and emits the chunks of an iterable of bytes, with nothing between.

    An async iterable is read on the event loop of `arun()` and its like.

    >>> (source([b"a", b"b"]) | command("cat")).output()
    b'ab'
    """
    if is_async_source(iterable):
        return Pipeline(asynchronous().AsyncSource(iterable, name))
    if isinstance(iterable, bytes | bytearray | str) or not hasattr(iterable, "__iter__"):
        raise TypeError(
            f"source() takes an iterable of bytes, not {type(iterable).__name__}; echo() is for one text"
        )
    return Pipeline(Source(iterable, name))  # type: ignore[arg-type] # it is no async one


def echo(text: str | bytes, *, end: str | bytes = "\n", name: str | None = None) -> Pipeline:
    """Make a stage that reads nothing and writes `text` and `end`, str as UTF-8.

    >>> echo("a", end="").output()
    b'a'
    """
    return Pipeline(Echo(_encoded("text", text) + _encoded("end", end), name))


def ignore_error(stage: Stage | Pipeline, matcher: Matcher) -> Pipeline:
    """Make a stage that is `stage`, or a whole pipeline, but succeeds where `matcher(error)` is true.

    A run's own deadline or cancellation is not ignored by that, nor can `FinishEarly` be.

    >>> from penstock import is_error, ExitError
    >>> ignore_error(command("false"), is_error(ExitError)).run().ok
    True
    """
    if not callable(matcher):
        raise TypeError(f"ignore_error() takes a matcher, not {matcher!r}")
    return filter_error(stage, ignoring(matcher))


def filter_error(
    stage: Stage | Pipeline, fn: Callable[[BaseException | None], BaseException | None]
) -> Pipeline:
    """Make a stage that is `stage`, or a whole pipeline, whose error `fn(error | None)` decides.

    What `fn` raises is the error too. It is called in a worker thread.
    """
    return Pipeline(Filtered(checked_stage(stage), plain("filter_error", check_callable("filter_error", fn))))


def _encoded(option: str, text: object) -> bytes:
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, bytes):
        return text
    raise TypeError(f"{option} must be str or bytes, not {text!r}")

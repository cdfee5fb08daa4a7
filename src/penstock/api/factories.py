"""The constructors of stages of Python functions and of bytes at hand.

Each constructor returns a pipeline of one stage. Join it to others by `|`, or run it by itself. An invalid
argument raises a TypeError or ValueError here, when the stage is made, not when it runs. A constructor loads
its class of stage when it is first called, so a program loads only the classes that it uses.

Out of scope: commands and error filters (see `commands`, `error_filters`), running a stage, and choosing
between its variants for threads, processes and event loops.
"""

from __future__ import annotations

from penstock.api.pipeline import Pipeline
from penstock.api.variants import (
    asynchronous,
    check_callable,
    check_concurrency,
    check_no_generator,
    line_stage,
    placed,
    python_stage,
)
from penstock.core.async_detection import is_async_source, plain
from penstock.core.describe import describe
from penstock.core.framing import DEFAULT_MAX_LINE, check_max_line
from penstock.core.public import exported
from penstock.core.secret import checked_data
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping
    from typing import Any, Literal

    from penstock.stages.context import StageContext
    from penstock.streams.reader import Reader
    from penstock.streams.writer import Writer

__all__ = [
    "each_line",
    "echo",
    "filter_lines",
    "function",
    "map_line_batches",
    "map_lines",
    "scan",
    "source",
    "transform",
    "transform_lines",
]


@exported
def function(
    fn: Callable[[StageContext, Any, Any], object],
    inputs: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    isolate: Literal["process"] | None = None,
) -> Pipeline:
    r"""Make a stage that calls `fn(ctx, stdin, stdout)` once, in a worker thread.

    `stdin` is a file-like object of bytes: `read(n)` and `readinto(buffer)`, which return less than they are
    asked for only at EOF, `read1` and `readinto1`, `readline`, iteration by line (with LF) and `chunks()`.
    `stdout` has `write` (which takes all of any bytes-like object and returns its length), `writelines` and
    `flush`. Penstock closes both when `fn` returns. An exception that `fn` raises is the stage's error;
    `raise FinishEarly` ends the stage early as a success; the stage before it learns of that when it next
    writes, and `Run.stop_source` ends one that is silent. The return value is ignored.

    With `isolate="process"`, here and in the other constructors, a worker process calls `fn`, so that
    CPU-bound Python code does not share the GIL. As with `multiprocessing`, `fn` must be defined at the top
    level of a module, everything that it is bound to must be picklable, and a script must guard its code by
    `if __name__ == "__main__":`. Its edges are OS pipes. Worker processes are kept for some seconds and
    reused.

    An `async def` runs on the event loop of `arun()` and the other async methods. Its `stdin` is an anyio
    receive stream (`async for chunk in stdin`, `await stdin.receive()`) and its `stdout` a send stream
    (`await stdout.send(data)`).

    `inputs` maps names to pipelines that `fn` reads besides, and `outputs` names to branches, as for `tee`,
    that it writes besides: `ctx.inputs["left"]` is such a stream as `stdin`, `ctx.outputs["bad"]` one as
    `stdout`. They are closed with these.

    Raises TypeError if `fn` is not callable, is a generator function (such are for `transform`), or cannot be
    sent to a worker process, and TypeError or ValueError for an invalid pipeline or branch.

    >>> def shout(ctx, stdin, stdout):
    ...     for line in stdin:
    ...         stdout.write(line.upper())
    >>> (echo("hello") | function(shout)).output()
    b'HELLO\n'
    """
    with late_import:
        from penstock.stages.function import Function  # noqa: PLC0415 - see the head of the module

    if not (inputs or outputs):
        return python_stage(
            "function", fn, isolate, lambda: Function(fn, name), lambda a: a.AsyncFunction(fn, name)
        )
    with late_import:
        from penstock.api.graphs import function_with_ports  # noqa: PLC0415 - most programs have no graphs

    return function_with_ports(fn, inputs or {}, outputs or {}, name, isolate)


@exported
def transform(
    fn: Callable[[Any], Iterable[bytes] | AsyncIterable[bytes]],
    *,
    name: str | None = None,
    isolate: Literal["process"] | None = None,
) -> Pipeline:
    r"""Make a stage that calls `fn(chunks)` once and writes the chunks that it returns or yields.

    `chunks` is an iterator of bytes, in pieces of any size. `fn` returns an iterable of bytes, which are
    written unchanged. An async generator function gets an async iterator instead, and runs on the event loop
    of `arun()` and the other async methods. `isolate` is as in `function`.

    Raises TypeError if `fn` is not callable, or is a coroutine function. The stage fails with TypeError if
    `fn` returns anything but an iterable of bytes.

    >>> (echo("abc") | transform(lambda chunks: (chunk[::-1] for chunk in chunks))).output()
    b'\ncba'
    """
    with late_import:
        from penstock.stages.chain import Transform  # noqa: PLC0415 - see the head of the module

    make = lambda a: a.AsyncTransform(fn, name)  # noqa: E731 - as an argument it would not fit the line
    return python_stage("transform", fn, isolate, lambda: Transform(fn, name), make, generator=True)


@exported
def transform_lines(
    fn: Callable[[Any], Iterable[bytes] | AsyncIterable[bytes]],
    *,
    name: str | None = None,
    isolate: Literal["process"] | None = None,
) -> Pipeline:
    r"""Make a stage that calls `fn(lines)` once and writes the lines that it returns or yields.

    Lines are bytes without LF, in both directions. Only LF ends a line; CR is data. Each line is written with
    an LF. Output is passed on in blocks, before each read that may block and at the latest after 50 ms. An
    async generator function gets an async iterator instead, and runs on the event loop of `arun()` and the
    other async methods. `isolate` is as in `function`.

    Raises TypeError if `fn` is not callable, or is a coroutine function. The stage fails with `LineTooLong`
    if an input line has more than 16 MiB.

    >>> (echo("b\na") | transform_lines(sorted)).output()
    b'a\nb\n'
    """
    with late_import:
        from penstock.stages.lines import TransformLines  # noqa: PLC0415 - see the head of the module

    make = lambda a: a.AsyncLineStage("transform-lines", fn, name)  # noqa: E731 - as above
    return python_stage(
        "transform_lines", fn, isolate, lambda: TransformLines(fn, name), make, generator=True
    )


@exported
def map_lines(
    fn: Callable[[bytes], bytes | Awaitable[bytes | None] | None],
    *,
    name: str | None = None,
    isolate: Literal["process"] | None = None,
    concurrency: int = 1,
) -> Pipeline:
    r"""Make a stage that writes `fn(line)` for each line; None drops the line.

    Lines are bytes without LF, in both directions. An `async def` runs on the event loop of `arun()` and the
    other async methods. At most `concurrency` calls run at once, and results keep the order of the lines.
    `isolate` is as in `function`; output is passed on as in `transform_lines`.

    Raises TypeError if `fn` is not callable or is an async generator function, and ValueError if
    `concurrency` is less than 1, or more than 1 for a plain function. The stage fails with `LineTooLong` if
    an input line has more than 16 MiB.

    >>> (echo("a\nb") | map_lines(bytes.upper)).output()
    b'A\nB\n'
    """
    with late_import:
        from penstock.stages.line_map import MapLines  # noqa: PLC0415 - see the head of the module

    return line_stage("map_lines", MapLines, fn, name, isolate, concurrency)


@exported
def filter_lines(
    fn: Callable[[bytes], object],
    *,
    name: str | None = None,
    isolate: Literal["process"] | None = None,
    concurrency: int = 1,
) -> Pipeline:
    r"""Make a stage that keeps the lines for which `fn(line)` is true.

    `line` is bytes without LF. `isolate`, `concurrency`, async functions and errors are as in `map_lines`.

    >>> (echo("1\nx\n2") | filter_lines(bytes.isdigit)).output()
    b'1\n2\n'
    """
    with late_import:
        from penstock.stages.line_map import FilterLines  # noqa: PLC0415 - see the head of the module

    return line_stage("filter_lines", FilterLines, fn, name, isolate, concurrency)


@exported
def map_line_batches(
    fn: Callable[[list[bytes]], Iterable[bytes] | Awaitable[Iterable[bytes]]],
    *,
    name: str | None = None,
    isolate: Literal["process"] | None = None,
    concurrency: int = 1,
) -> Pipeline:
    r"""Make a stage that writes the lines of `fn(lines)` for each batch of lines.

    This is the fast path for many short lines. `lines` is a list of bytes without LF: all complete lines of
    one read, so the input decides how lines are batched. `fn` returns an iterable of lines without LF.
    `isolate`, `concurrency`, async functions and errors are as in `map_lines`.

    >>> (echo("1\n2") | map_line_batches(lambda lines: [line * 2 for line in lines])).output()
    b'11\n22\n'
    """
    with late_import:
        from penstock.stages.line_map import MapLineBatches  # noqa: PLC0415 - see the head of the module

    return line_stage("map_line_batches", MapLineBatches, fn, name, isolate, concurrency)


@exported
def each_line(
    fn: Callable[[StageContext, bytes, Any], object],
    *,
    name: str | None = None,
    max_line: int = DEFAULT_MAX_LINE,
    isolate: Literal["process"] | None = None,
    concurrency: int = 1,
) -> Pipeline:
    r"""Make a stage that calls `fn(ctx, line, stdout)` for each line.

    `line` is bytes without LF. Bytes that `fn` writes to `stdout` are passed on unchanged, joined into larger
    blocks. This is go-pipe's LinewiseFunction. `isolate`, `concurrency` and async functions are as in
    `map_lines`; an async `fn` writes by `await stdout.send(...)`.

    Raises TypeError or ValueError if `max_line` is not a positive int. The stage fails with `LineTooLong` if
    an input line has more than `max_line` bytes, without its LF.

    >>> (echo("a\nb") | each_line(lambda ctx, line, stdout: stdout.write(line))).output()
    b'ab'
    """
    with late_import:
        from penstock.stages.lines import EachLine  # noqa: PLC0415 - see the head of the module

    check_max_line(max_line)
    check_concurrency(fn, concurrency)
    make = lambda a: a.AsyncLineStage("each-line", fn, name, concurrency, max_line)  # noqa: E731 - as above
    return python_stage("each_line", fn, isolate, lambda: EachLine(fn, name, max_line), make)


@exported
def scan(
    split: Callable[[Reader], Iterator[Any]],
    fn: Callable[[StageContext, Any, Writer], object],
    *,
    name: str | None = None,
    isolate: Literal["process"] | None = None,
) -> Pipeline:
    """Make a stage that calls `fn(ctx, token, stdout)` for each token of `split(stdin)`.

    `split` gets the stage's stdin, a file-like object of bytes as in `function`, and returns an iterator of
    tokens of any type. Neither function may be async. `isolate` is as in `function`. This is go-pipe's
    ScannerFunction.

    Raises TypeError if `split` or `fn` is not a plain callable.

    >>> split = lambda stdin: iter(stdin.read().split())
    >>> (echo("a b") | scan(split, lambda ctx, word, stdout: stdout.write(word + b";"))).output()
    b'a;b;'
    """
    with late_import:
        from penstock.stages.function import Scan  # noqa: PLC0415 - see the head of the module

    plain("scan", check_callable("scan", split))
    return placed(
        Scan(split, plain("scan", check_no_generator("scan", check_callable("scan", fn))), name), isolate
    )


@exported
def source(iterable: Iterable[bytes] | AsyncIterable[bytes], *, name: str | None = None) -> Pipeline:
    """Make a stage that reads no stdin and writes the chunks of an iterable of bytes, one after the other.

    An iterator can be used for one run only. An async iterable is read on the event loop of `arun()` and the
    other async methods.

    Raises TypeError for bytes or str (use `echo` for one text) and for objects that are not iterable.

    >>> from penstock import command
    >>> (source([b"a", b"b"]) | command("cat")).output()
    b'ab'
    """
    with late_import:
        from penstock.stages.function import Source  # noqa: PLC0415 - see the head of the module

    if is_async_source(iterable):
        return Pipeline(asynchronous().AsyncSource(iterable, name))
    if isinstance(iterable, bytes | bytearray | str) or not hasattr(iterable, "__iter__"):
        raise TypeError(
            f"source() takes an iterable of bytes, not {type(iterable).__name__}; echo() is for one text"
        )
    return Pipeline(Source(iterable, name))  # type: ignore[arg-type] # it is not an async one


@exported
def echo(text: str | bytes, *, end: str | bytes = "\n", name: str | None = None) -> Pipeline:
    """Make a stage that reads no stdin and writes `text` and `end`; str is encoded as UTF-8.

    A `Secret` in them is written in clear, as in `input=`.

    Raises TypeError if either is not str or bytes, and ValueError for a cut or unknown `Secret`.

    >>> echo("a", end="").output()
    b'a'
    """
    with late_import:
        from penstock.stages.function import Echo  # noqa: PLC0415 - see the head of the module

    return Pipeline(Echo(checked_data("text", _encoded("text", text) + _encoded("end", end)), name))


def _encoded(option: str, text: object) -> bytes:
    if isinstance(text, str):
        try:
            return text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{option} cannot be encoded as UTF-8: {error.reason}") from error
    if isinstance(text, bytes):
        return text
    raise TypeError(f"{option} must be str or bytes, not {describe(text)}")

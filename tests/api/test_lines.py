"""The line stages: what a line is, what is passed on when, and how mistakes are told. All of them alike."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import (
    CAPTURE,
    DEVNULL,
    PIPE,
    FinishEarly,
    LineTooLong,
    Pipeline,
    PipelineError,
    command,
    each_line,
    filter_lines,
    map_line_batches,
    map_lines,
    source,
    transform_lines,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from penstock import Result

MIB = 1 << 20


def per_line(kind: str, fn: Callable[[bytes], bytes | None]) -> Pipeline:
    """Make a line stage of `kind` that writes `fn(line)` for each line, or nothing for None."""

    def each(_ctx: object, line: bytes, stdout: Any) -> None:
        made = fn(line)
        if made is not None:
            stdout.write(made + b"\n")

    def many(lines: Iterable[bytes]) -> Iterator[bytes]:
        for line in lines:
            made = fn(line)
            if made is not None:
                yield made

    if kind == "map_lines":
        return map_lines(fn, name="mine")
    if kind == "filter_lines":
        return filter_lines(lambda line: fn(line) is not None, name="mine")
    if kind == "transform_lines":
        return transform_lines(many, name="mine")
    if kind == "map_line_batches":
        return map_line_batches(many, name="mine")
    return each_line(each, name="mine")


KINDS = ["map_lines", "filter_lines", "transform_lines", "map_line_batches", "each_line"]


def lines_of(kind: str, data: Iterable[bytes]) -> list[bytes]:
    """Return the lines that the function of such a stage is given."""
    seen: list[bytes] = []

    def note(line: bytes) -> bytes:
        seen.append(line)
        return line

    (source(data) | per_line(kind, note)).run(stdout=DEVNULL)
    return seen


def as_bytes(line: bytes) -> bytes:
    """Return it."""
    return line


# What a line is.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"\n\n\n", [b"", b"", b""]),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\n\nb", [b"a", b"", b"b"]),
        (b"a\r\nb\rc\r", [b"a\r", b"b\rc\r"]),
        (b"\r", [b"\r"]),
        (b"a\x0bb\x0cc\x1cd\x85e\0f\n", [b"a\x0bb\x0cc\x1cd\x85e\0f"]),
        ("a\u2028b\n".encode(), ["a\u2028b".encode()]),
    ],
)
def test_lf_alone_ends_a_line(kind: str, data: bytes, lines: list[bytes]) -> None:
    """CR and all else is data; the last line needs no LF; empty lines are lines."""
    assert lines_of(kind, [data]) == lines
    assert lines_of(kind, [data[i : i + 1] for i in range(len(data))]) == lines


@pytest.mark.parametrize("kind", KINDS)
def test_every_line_that_is_written_gets_an_lf(kind: str) -> None:
    """Also the last one that came without; empty lines stay."""
    stage = per_line(kind, as_bytes)
    assert stage.output(input=b"a\n\nb") == b"a\n\nb\n"
    assert stage.output(input=b"\n") == b"\n"
    assert stage.output(input=b"") == b""
    assert stage.output() == b""


@settings(max_examples=25, deadline=None)
@given(chunks=st.lists(st.binary(max_size=8).map(lambda b: b.replace(b"\x01", b"\n")), max_size=8))
def test_however_the_chunks_are_cut_the_lines_are_the_same(chunks: list[bytes]) -> None:
    """For each kind of stage."""
    whole = b"".join(chunks).split(b"\n")
    expected = whole if whole[-1] else whole[:-1]
    for kind in KINDS:
        assert lines_of(kind, chunks) == expected


@pytest.mark.parametrize("kind", ["map_lines", "filter_lines", "transform_lines", "map_line_batches"])
def test_none_or_false_drops_the_line(kind: str) -> None:
    """And an empty line is none of these."""
    stage = per_line(kind, lambda line: None if line == b"drop" else line)
    assert stage.output(input=b"drop\na\ndrop\n\nb\ndrop") == b"a\n\nb\n"
    assert stage.output(input=b"drop\ndrop\n") == b""


def test_any_truth_decides_in_filter_lines() -> None:
    """Not only booleans."""
    assert filter_lines(lambda line: line).output(input=b"a\n\nb\n") == b"a\nb\n"
    assert filter_lines(lambda line: line.count(b"x")).output(input=b"a\nx\n") == b"x\n"


def test_map_lines_may_return_an_empty_line_or_several() -> None:
    """What it returns is written as it is, with an LF."""
    assert map_lines(lambda _line: b"").output(input=b"a\nb") == b"\n\n"
    assert map_lines(lambda line: line + b"\n" + line).output(input=b"a") == b"a\na\n"


def test_map_lines_takes_bytearrays_and_views_for_lines() -> None:
    """Whatever can be joined."""
    assert map_lines(lambda line: bytearray(line)).output(input=b"a\nb") == b"a\nb\n"  # type: ignore[arg-type,return-value] # noqa: PLW0108
    assert map_lines(lambda line: memoryview(line)).output(input=b"a\nb") == b"a\nb\n"  # type: ignore[arg-type,return-value] # noqa: PLW0108


def test_a_batch_function_may_return_any_iterable_and_keeps_its_list() -> None:
    """A list that it returned is its own, and is not changed."""
    kept: list[list[bytes]] = []

    def batch(lines: list[bytes]) -> list[bytes]:
        assert type(lines) is list
        kept.append([b"x"])
        return kept[-1]

    assert map_line_batches(batch).output(input=b"a\n") == b"x\n"
    assert kept == [[b"x"]]
    assert map_line_batches(tuple).output(input=b"a\nb") == b"a\nb\n"
    assert map_line_batches(lambda _lines: []).output(input=b"a\nb") == b""
    assert map_line_batches(set).output(input=b"a\na\n") == b"a\n"


def test_each_line_writes_what_it_wants() -> None:
    """Nothing is added; `write` returns the length, and buffers may be reused."""
    lengths: list[int] = []

    def each(_ctx: object, line: bytes, stdout: Any) -> None:
        buffer = bytearray(line)
        lengths.append(stdout.write(buffer))
        buffer[:] = b"#" * len(buffer)
        stdout.writelines([b"<", b">"])
        stdout.flush()

    assert each_line(each).output(input=b"a\nbc\n\n") == b"a<>bc<><>"
    assert lengths == [1, 2, 0]


def test_transform_lines_may_write_before_and_after_its_input() -> None:
    """And may leave it unread."""

    def framed(lines: Iterator[bytes]) -> Iterator[bytes]:
        yield b"head"
        yield from lines
        yield b"tail"

    assert transform_lines(framed).output(input=b"x") == b"head\nx\ntail\n"
    assert transform_lines(framed).output() == b"head\ntail\n"
    assert (command("yes") | transform_lines(lambda lines: [next(lines)])).output() == b"y\n"


# Long lines.


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_of_several_megabytes_passes(kind: str) -> None:
    """In many chunks."""
    result = (source([b"x" * MIB] * 5) | per_line(kind, as_bytes)).run(stdout=CAPTURE)
    assert result.stdout == b"x" * (5 * MIB) + b"\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_past_16_mib_is_an_error_after_the_lines_before_it(kind: str) -> None:
    """An endless line takes no memory without end."""
    endless = source(iter_once(b"first\n", b"x" * MIB, 18))
    result = (endless | per_line(kind, as_bytes)).run(stdout=CAPTURE, check=False)
    assert result.error is not None
    assert isinstance(result.error.cause, LineTooLong)
    assert (result.error.stage, result.error.index) == ("mine", 1)
    assert result.stdout == b"first\n"


def iter_once(first: bytes, rest: bytes, times: int) -> Iterator[bytes]:
    """Yield `first`, then `rest` so many times."""
    yield first
    for _ in range(times):
        yield rest


@pytest.mark.parametrize(
    ("data", "delivered"), [(b"12345\n1234\n", 2), (b"1\n123456\n2\n", 1), (b"1\n123456", 1)]
)
def test_max_line_counts_the_bytes_without_the_lf(data: bytes, delivered: int) -> None:
    """The limit itself is allowed; lines before a too long one are delivered, those after it not."""
    seen: list[bytes] = []
    stage = each_line(lambda _ctx, line, _out: seen.append(line), max_line=5)
    result = stage.run(input=data, stdout=DEVNULL, check=False)
    assert len(seen) == delivered
    assert result.ok == (b"123456" not in data)


@pytest.mark.parametrize("wrong", [0, -1, True, "5", None, 1.5])
def test_a_wrong_max_line_is_a_mistake_when_the_stage_is_made(wrong: Any) -> None:
    """Naming it."""
    with pytest.raises((TypeError, ValueError), match="max_line"):
        each_line(print, max_line=wrong)


def test_a_too_long_line_is_an_error_of_iter_lines_too() -> None:
    """The complete ones come first."""
    found: list[bytes] = []
    with pytest.raises((LineTooLong, PipelineError)):
        found.extend(source(iter_once(b"first\n", b"x" * MIB, 18)).iter_lines())
    assert found == [b"first"]


# Errors.


def failing(kind: str, error: BaseException) -> Result:
    """Run a stage whose function raises `error` at the third line."""

    def fail(line: bytes) -> bytes:
        if line == b"3":
            raise error
        return line

    return per_line(kind, fail).run(input=b"1\n2\n3\n4\n", stdout=CAPTURE, check=False)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_keeps_the_output_that_was_made_before_it(kind: str) -> None:
    """And is the very object."""
    error = ValueError("third")
    result = failing(kind, error)
    assert result.stdout == b"1\n2\n"
    assert result.error is not None
    assert result.error.cause is error
    assert result.error.stage == "mine"


@pytest.mark.parametrize("kind", KINDS)
def test_finish_early_in_a_line_function_ends_the_stage_well(kind: str) -> None:
    """The output made before it stands."""
    result = failing(kind, FinishEarly())
    assert result.ok
    assert result.stdout == b"1\n2\n"


@pytest.mark.parametrize("kind", ["map_lines", "filter_lines", "map_line_batches", "each_line"])
def test_stop_iteration_in_a_line_function_is_an_error_and_no_end(kind: str) -> None:
    """`next()` of an empty iterator in user code must not cut the output short in silence."""
    result = failing(kind, StopIteration())
    assert not result.ok


@pytest.mark.parametrize("kind", ["map_lines", "transform_lines", "map_line_batches"])
@pytest.mark.parametrize("wrong", ["text", 5])
def test_a_line_that_is_not_bytes_is_a_type_error_naming_the_stage(kind: str, wrong: Any) -> None:
    """It tells the type; the lines made before stand."""
    stage = per_line(kind, lambda line: wrong if line == b"3" else line)
    result = stage.run(input=b"1\n2\n3\n4\n", stdout=CAPTURE, check=False)
    assert result.error is not None
    assert isinstance(result.error.cause, TypeError)
    assert result.error.stage == "mine"
    assert "mine" in str(result.error.cause)
    assert type(wrong).__name__ in str(result.error.cause)
    assert result.stdout == b"1\n2\n"


def test_a_list_with_a_str_in_it_is_a_type_error_naming_the_stage() -> None:
    """As where they are yielded."""
    stages: list[Pipeline] = [
        map_line_batches(lambda _lines: [b"a", "b"], name="mine"),  # type: ignore[list-item]
        transform_lines(lambda _lines: [b"a", "b"], name="mine"),  # type: ignore[list-item]
    ]
    for stage in stages:
        result = stage.run(input=b"x\n", stdout=CAPTURE, check=False)
        assert result.error is not None
        assert isinstance(result.error.cause, TypeError)
        assert "mine" in str(result.error.cause)
        assert result.stdout == b"a\n"


def test_each_line_refuses_str_in_write() -> None:
    """As every stdout does."""
    stage = each_line(lambda _ctx, line, stdout: stdout.write(line.decode()), name="mine")
    result = stage.run(input=b"x\n", stdout=CAPTURE, check=False)
    assert result.error is not None
    assert isinstance(result.error.cause, TypeError)
    assert result.error.stage == "mine"


@pytest.mark.parametrize("make", [transform_lines, map_line_batches])
@pytest.mark.parametrize("returned", [None, b"bytes", "text", 5])
def test_a_result_that_is_not_an_iterable_of_lines_is_a_type_error(make: Any, returned: Any) -> None:
    """Bytes are an iterable of numbers, which nobody means."""
    result = make(lambda _lines: returned, name="mine").run(input=b"x\n", stdout=CAPTURE, check=False)
    assert isinstance(result.error.cause, TypeError)
    assert "mine" in str(result.error.cause) or "mine" in str(result.error)
    assert result.stdout == b""


@pytest.mark.parametrize("make", [map_lines, filter_lines, transform_lines, map_line_batches, each_line])
@pytest.mark.parametrize("wrong", [None, 5, "fn"])
def test_an_object_that_is_not_callable_is_a_type_error_when_the_stage_is_made(make: Any, wrong: Any) -> None:
    """Naming the constructor."""
    with pytest.raises(TypeError, match=make.__name__):
        make(wrong)


# Promptness.


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_that_arrives_is_passed_on_at_once(kind: str) -> None:
    """A dialogue is possible with the input still open."""
    with per_line(kind, as_bytes).start(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        for line in (b"one\n", b"two\n", b"\n"):
            run.stdin.write(line)
            assert run.stdout.readline() == line


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_is_passed_on_while_a_later_line_is_computed(kind: str) -> None:
    """What is held is passed on once it is 50 ms old, in any case: also where no further call comes."""
    arrived = threading.Event()
    in_time: list[bool] = []

    def slow(line: bytes) -> bytes:
        if line == b"slow":
            in_time.append(arrived.wait(5))
        return line

    data = b"fast\n" * 40 + b"slow\n"
    with per_line(kind, slow).start(input=data, stdout=PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.read(5 * 40) == b"fast\n" * 40
        arrived.set()
        assert run.stdout.read() == b"slow\n"
    assert in_time == [True]


# Generators.


def test_a_generator_is_closed_when_nobody_reads_its_lines() -> None:
    """Its `finally` has run by the end of the run; so too where it ends well, and where it fails."""
    ends: list[str] = []

    def endless(_lines: Iterator[bytes]) -> Iterator[bytes]:
        try:
            while True:
                yield b"y" * 1000
        finally:
            ends.append("left")

    assert len((transform_lines(endless) | command("head", "-n", "1")).output()) == 1001
    assert ends == ["left"]
    for line in transform_lines(endless).iter_lines():
        assert line == b"y" * 1000
        break
    assert ends == ["left", "left"]


def test_the_generator_of_a_batch_is_closed_where_a_line_is_wrong() -> None:
    """In the stage's own thread."""
    ends: list[bool] = []
    threads: list[object] = []

    def batch(lines: list[bytes]) -> Iterator[bytes]:
        threads.append(threading.current_thread())
        try:
            for line in lines:
                yield line
                yield None  # type: ignore[misc]
        finally:
            ends.append(threading.current_thread() is threads[0])

    assert not map_line_batches(batch).run(input=b"a\nb\n", stdout=DEVNULL, check=False).ok
    assert ends == [True]

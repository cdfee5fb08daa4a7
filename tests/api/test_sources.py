"""`source`, `echo` and `scan`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from penstock import CAPTURE, DEVNULL, FinishEarly, Pipeline, command, echo, function, scan, source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock import StageContext


# source.


@pytest.mark.parametrize("over", [Pipeline(), Pipeline(command("cat"))])
@pytest.mark.parametrize(
    "chunks",
    [
        [b"a", b"bc", b""],
        (b"a", b"bc"),
        [b"", b"a", b"", b"bc"],
        {b"abc": 1},
        [bytearray(b"a"), memoryview(b"bc")],
    ],
)
def test_a_source_emits_the_chunks_with_nothing_between(over: Pipeline, chunks: Any) -> None:
    """Of any iterable; an empty chunk is nothing, and no end."""
    assert (source(chunks) | over).output() == b"abc"


def test_a_source_of_nothing_is_empty() -> None:
    """Not an error."""
    assert source([]).output() == b""
    assert source(iter(())).output() == b""
    assert (source([]) | command("cat")).output() == b""


@pytest.mark.parametrize("wrong", [b"bytes", bytearray(b"x"), "text", 5, None])
def test_a_source_of_no_iterable_is_a_type_error_when_it_is_made(wrong: Any) -> None:
    """Bytes are an iterable of numbers, a str one of characters."""
    with pytest.raises(TypeError, match="source"):
        source(wrong)


@pytest.mark.parametrize("item", ["text", None, 5])
def test_an_item_that_is_not_bytes_is_a_type_error_of_the_stage(item: Any) -> None:
    """What came before it stands."""
    result = source([b"a", item], name="mine").run(stdout=CAPTURE, check=False)
    assert result.error is not None
    assert isinstance(result.error.cause, TypeError)
    assert result.error.stage == "mine"
    assert result.stdout == b"a"


def test_an_error_of_the_iterable_is_the_very_object() -> None:
    """What came before it stands."""
    error = LookupError("no more")

    def chunks() -> Iterator[bytes]:
        yield b"a"
        raise error

    result = source(chunks()).run(stdout=CAPTURE, check=False)
    assert result.error is not None
    assert result.error.cause is error
    assert (result.error.stage, result.error.index) == ("source", 0)
    assert result.stdout == b"a"


@pytest.mark.parametrize("reader", ["command", "function"])
def test_an_endless_source_ends_when_nobody_reads_on(reader: str) -> None:
    """And its generator is closed, by the end of the run."""
    closed: list[bool] = []

    def chunks() -> Iterator[bytes]:
        try:
            while True:
                yield b"y\n"
        finally:
            closed.append(True)

    first = (
        command("head", "-n1") if reader == "command" else function(lambda _c, i, o: o.write(i.readline()))
    )
    assert (source(chunks()) | first).output() == b"y\n"
    assert closed == [True]


def test_a_buffer_that_is_reused_by_the_iterable_has_been_copied() -> None:
    """Before the next chunk is asked for."""

    def chunks() -> Iterator[bytes]:
        buffer = bytearray(1)
        for letter in b"abc":
            buffer[0] = letter
            yield buffer  # type: ignore[misc]

    assert source(chunks()).output() == b"abc"
    assert (source(chunks()) | command("cat")).output() == b"abc"


def test_a_source_over_a_list_can_be_run_again() -> None:
    """The iterable is asked anew for each run."""
    stage = source([b"a"])
    assert stage.output() + stage.output() == b"aa"


def test_finish_early_in_a_source_is_its_end() -> None:
    """As in every function."""

    def chunks() -> Iterator[bytes]:
        yield b"a"
        raise FinishEarly

    assert source(chunks()).output() == b"a"


def test_a_source_and_an_echo_ignore_what_is_fed_to_them() -> None:
    """In the middle of a pipeline, too: the stage before is forgiven."""
    assert (command("yes") | source([b"a"])).output() == b"a"
    assert (command("yes") | echo("a")).output() == b"a\n"
    assert echo("a").output(input=b"x" * 100_000) == b"a\n"


def test_a_file_that_is_a_source_stays_open() -> None:
    """It is an iterable of lines; and what the caller passes in stays the caller's."""
    file = io.BytesIO(b"a\nb")
    assert (source(file) | command("cat")).output() == b"a\nb"
    assert not file.closed


def test_a_source_has_a_name() -> None:
    """Its own, or `source`."""
    assert source([]).name == "source"
    assert source([], name="mine").name == "mine"


# echo.


@pytest.mark.parametrize(
    ("text", "options", "data"),
    [
        ("a", {}, b"a\n"),
        ("", {}, b"\n"),
        ("", {"end": ""}, b""),
        ("größe", {}, "größe\n".encode()),
        (b"\xff", {}, b"\xff\n"),
        (b"\xff", {"end": b"\0"}, b"\xff\0"),
        ("a", {"end": "\r\n"}, b"a\r\n"),
        ("a\n", {}, b"a\n\n"),
        ("x" * 200_000, {}, b"x" * 200_000 + b"\n"),
    ],
)
def test_echo_writes_its_text_and_its_end(text: Any, options: Any, data: bytes) -> None:
    """Str as UTF-8; nothing in it is interpreted."""
    assert echo(text, **options).output() == data
    assert (echo(text, **options) | command("cat")).output() == data


@pytest.mark.parametrize("wrong", [None, 5, ["a"]])
def test_echo_of_anything_else_is_a_type_error_when_it_is_made(wrong: Any) -> None:
    """Naming which of the two it is."""
    with pytest.raises(TypeError, match="text"):
        echo(wrong)
    with pytest.raises(TypeError, match="end"):
        echo("a", end=wrong)


def test_echo_of_text_that_cannot_be_encoded_is_a_value_error_at_once() -> None:
    """Not in the middle of a run."""
    with pytest.raises(ValueError, match="surrogates"):
        echo("\ud800")


# scan.


def words(stdin: Any) -> Iterator[bytes]:
    """Split at blanks."""
    for line in stdin:
        yield from line.split()


def bracket(_ctx: StageContext, token: Any, stdout: Any) -> None:
    """Write a token in brackets."""
    stdout.write(b"[%b]" % token)


@pytest.mark.parametrize("over", [Pipeline(), Pipeline(command("cat"))])
def test_scan_calls_the_function_for_each_token(over: Pipeline) -> None:
    """Of whatever the splitter makes."""
    assert (over | scan(words, bracket)).output(input=b"a bc\n\n d") == b"[a][bc][d]"
    assert (over | scan(words, bracket)).output(input=b"") == b""


def test_tokens_may_be_anything() -> None:
    """Numbers, None and empty bytes are tokens."""
    seen: list[Any] = []
    scan(lambda _stdin: iter([0, None, b"", "text"]), lambda _c, token, _o: seen.append(token)).run(
        stdout=DEVNULL
    )
    assert seen == [0, None, b"", "text"]


@pytest.mark.parametrize("where", ["split", "splitting", "fn"])
def test_an_error_of_either_function_is_the_very_object(where: str) -> None:
    """What was written before stands."""
    error = ValueError(where)

    def lazy(stdin: Any) -> Iterator[bytes]:
        yield stdin.read(1)
        raise error

    def at_once(_stdin: Any) -> Iterator[bytes]:
        raise error

    def fail(_ctx: StageContext, token: bytes, stdout: Any) -> None:
        if token == b"b":
            raise error
        stdout.write(token)

    split = {"split": at_once, "splitting": lazy, "fn": words}[where]
    result = scan(split, fail, name="mine").run(input=b"a b c", stdout=CAPTURE, check=False)
    assert result.error is not None
    assert result.error.cause is error
    assert result.error.stage == "mine"
    assert result.stdout == (b"" if where == "split" else b"a")


def test_the_splitter_is_closed_where_the_function_ends_early() -> None:
    """A generator's `finally` runs before the run ends."""
    closed: list[bool] = []

    def split(stdin: Any) -> Iterator[bytes]:
        try:
            yield from words(stdin)
        finally:
            closed.append(True)

    def first(_ctx: StageContext, token: bytes, stdout: Any) -> None:
        stdout.write(token)
        raise FinishEarly

    assert (command("yes") | scan(split, first)).output() == b"y"
    assert closed == [True]


@pytest.mark.parametrize("wrong", [None, 5, "fn"])
def test_scan_of_what_cannot_be_called_is_a_type_error_when_it_is_made(wrong: Any) -> None:
    """Either of the two."""
    with pytest.raises(TypeError, match="scan"):
        scan(wrong, bracket)
    with pytest.raises(TypeError, match="scan"):
        scan(words, wrong)

"""Lines out of chunks: the same however the data was cut; a limit that loses no line; linear time."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, TypeAlias

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.core.errors import LineTooLong
from penstock.core.framing import DEFAULT_MAX_LINE, LineCutter, LineSplitter, check_max_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    BlocksOf: TypeAlias = "Callable[[Iterable[bytes], int], Iterator[list[bytes]]]"

# Few different bytes, so that LF, CR and their neighbours meet often.
PIECES = st.lists(st.lists(st.sampled_from(b"\n\raaa"), max_size=6).map(bytes), max_size=12)
DATA = st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(b"\n\r\0a"), max_size=300).map(bytes))


def lines_of(data: bytes) -> list[bytes]:
    """State what is expected: LF ends a line, and an empty rest after the last LF is no line."""
    lines = data.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut `data` at `places`; equal places make empty chunks."""
    bounds = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(bounds)]


def delivered(
    chunks: list[bytes], max_line: int = DEFAULT_MAX_LINE
) -> tuple[list[bytes], LineTooLong | None]:
    """Feed all chunks as a line stage does; return the lines that came, and the error that ended it."""
    splitter = LineSplitter(max_line)
    lines: list[bytes] = []
    try:
        for chunk in chunks:
            lines += splitter.feed(chunk)
        lines += splitter.finish()
    except LineTooLong as error:
        return lines, error
    return lines, None


@given(data=DATA, places=st.lists(st.integers(0, 300), max_size=20))
def test_any_chunking_gives_the_same_lines(data: bytes, places: list[int]) -> None:
    """Where the chunks were cut is not seen in the lines."""
    assert delivered(cut(data, places)) == (lines_of(data), None)


@given(data=DATA)
def test_bytes_that_come_one_by_one_give_the_same_lines(data: bytes) -> None:
    """Chunks of one byte are chunks too."""
    assert delivered([data[i : i + 1] for i in range(len(data))]) == (lines_of(data), None)


@given(chunks=PIECES, max_line=st.integers(1, 8))
@example(chunks=[b"123", b"45\n"], max_line=4)
@example(chunks=[b"1", b"2\n345", b"67\n"], max_line=4)
@example(chunks=[b"1\n23456"], max_line=4)
def test_any_chunking_meets_the_limit_after_the_same_lines(chunks: list[bytes], max_line: int) -> None:
    """All lines before the first that is too long are delivered, then `LineTooLong` is raised."""
    lines = lines_of(b"".join(chunks))
    too_long = [index for index, line in enumerate(lines) if len(line) > max_line]
    got, error = delivered(chunks, max_line)
    if too_long:
        assert got == lines[: too_long[0]]
        assert error is not None
        assert error.limit == max_line
    else:
        assert (got, error) == (lines, None)


@given(data=DATA, places=st.lists(st.integers(0, 300), max_size=20))
def test_a_line_is_delivered_with_the_chunk_that_ends_it(data: bytes, places: list[int]) -> None:
    """No complete line is held back until a later chunk."""
    splitter = LineSplitter()
    seen = b""
    count = 0
    for chunk in cut(data, places):
        seen += chunk
        count += len(splitter.feed(chunk))
        assert count == seen.count(b"\n")


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"\n\n", [b"", b""]),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\n\nb", [b"a", b"", b"b"]),
        (b"a\r\nb\rc\r", [b"a\r", b"b\rc\r"]),
        (b"\x0b\x0c\x1c\x85\xe2\x80\xa8\n", [b"\x0b\x0c\x1c\x85\xe2\x80\xa8"]),
    ],
)
def test_only_lf_ends_a_line(data: bytes, lines: list[bytes]) -> None:
    """CR and what else some call a line's end are data; an empty line is a line, as is a rest without LF."""
    assert delivered([data]) == (lines, None)


@pytest.mark.parametrize("ending", [b"\n", b""])
def test_a_line_of_exactly_the_limit_passes(ending: bytes) -> None:
    """The limit counts the line without its LF."""
    assert delivered([b"1234", b"5678" + ending], 8) == ([b"12345678"], None)


def test_the_lines_before_the_long_one_come_first() -> None:
    """`feed` returns what came before the long line, tells of the error, and every later call raises it."""
    splitter = LineSplitter(4)
    assert splitter.error is None
    assert splitter.feed(b"a\nb\n12345\nc\n") == [b"a", b"b"]
    assert isinstance(splitter.error, LineTooLong)
    for _ in range(2):
        with pytest.raises(LineTooLong, match="a line is longer than 4 bytes"):
            splitter.feed(b"d\n")
        with pytest.raises(LineTooLong):
            splitter.finish()


@pytest.mark.parametrize(
    "chunks", [[b"12345"], [b"12345\n"], [b"123", b"45"], [b"123", b"45\n"], [b"123", b"45\nok\n"]]
)
def test_a_long_line_with_none_before_it_is_told_at_once(chunks: list[bytes]) -> None:
    """Nothing is left to deliver, so the call that meets the limit raises, and does not wait for a LF."""
    splitter = LineSplitter(4)
    for chunk in chunks[:-1]:
        assert splitter.feed(chunk) == []
    with pytest.raises(LineTooLong):
        splitter.feed(chunks[-1])


def test_finish_delivers_the_last_line_once() -> None:
    """A second `finish` has nothing more."""
    splitter = LineSplitter()
    assert splitter.feed(b"a") == []
    assert splitter.finish() == [b"a"]
    assert splitter.finish() == []


@given(data=DATA, places=st.lists(st.integers(0, 300), max_size=8))
def test_lines_are_bytes(data: bytes, places: list[int]) -> None:
    """Every line is an immutable `bytes`, also one that was put together from pieces."""
    lines, _ = delivered(cut(data, places))
    assert all(type(line) is bytes for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 1024])
def test_a_long_line_in_small_chunks_takes_linear_time(size: int) -> None:
    """A line of megabytes that comes in many chunks costs its length, not its length for each chunk."""
    count = 16 * 1024 * 1024 // size if size > 1 else 1024 * 1024
    splitter = LineSplitter()
    chunk = b"x" * size
    started = time.process_time()
    for _ in range(count):
        splitter.feed(chunk)
    lines = splitter.feed(b"\n")
    # Linear is well under a second; copying what is held for each chunk would move 60 GB or more.
    assert time.process_time() - started < 5
    assert [len(line) for line in lines] == [count * size]


def _blocks(chunks: Iterable[bytes], max_line: int) -> Iterator[list[bytes]]:
    return LineSplitter(max_line).iter_blocks(iter(chunks))


def _awaited_blocks(chunks: Iterable[bytes], max_line: int) -> Iterator[list[bytes]]:
    splitter, rest = LineSplitter(max_line), iter(chunks)
    ended = False

    async def receive() -> bytes | None:
        nonlocal ended
        chunk = next(rest, None)
        ended = chunk is None
        return chunk

    while not ended:
        try:
            splitter.next_block(receive).send(None)
        except StopIteration as stop:
            if stop.value:
                yield stop.value


@pytest.mark.parametrize("blocks_of", [_blocks, _awaited_blocks])
@given(chunks=PIECES, max_line=st.integers(1, 8))
@example(chunks=[b"a\n12345", b"b\n"], max_line=4)
def test_blocks_are_the_lines_of_each_chunk(blocks_of: BlocksOf, chunks: list[bytes], max_line: int) -> None:
    """No block is empty, and together they are what feeding chunk by chunk delivers."""
    lines: list[bytes] = []
    error: LineTooLong | None = None
    try:
        for block in blocks_of(chunks, max_line):
            assert block
            lines += block
    except LineTooLong as raised:
        error = raised
    expected, failure = delivered(chunks, max_line)
    assert (lines, error is None) == (expected, failure is None)


@pytest.mark.parametrize("blocks_of", [_blocks, _awaited_blocks])
def test_a_long_line_is_an_error_before_more_input_is_waited_for(blocks_of: BlocksOf) -> None:
    """The lines before it come first; then nothing is read any more."""

    def chunks() -> Iterator[bytes]:
        yield b"a\n12345"
        pytest.fail("more was read")

    blocks = blocks_of(chunks(), 4)
    assert next(blocks) == [b"a"]
    with pytest.raises(LineTooLong):
        next(blocks)


def test_held_lines_are_passed_on_before_each_read() -> None:
    """`before_read` is called ahead of every chunk, and of the end."""
    calls: list[str] = []

    def chunks() -> Iterator[bytes]:
        for chunk in (b"a\nb", b"c\n"):
            calls.append("read")
            yield chunk
        calls.append("end")

    blocks = LineSplitter().iter_blocks(chunks(), lambda: calls.append("flush"))
    assert list(blocks) == [[b"a"], [b"bc"]]
    assert calls == ["flush", "read", "flush", "read", "flush", "end"]


@pytest.mark.parametrize("value", [None, "16", 1.5, True])
def test_a_limit_that_is_not_an_int_is_refused(value: object) -> None:
    """The `TypeError` names the option."""
    with pytest.raises(TypeError, match=r"^max_line must be an int"):
        check_max_line(value)


@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_below_one_is_refused(value: int) -> None:
    """The `ValueError` names the option."""
    with pytest.raises(ValueError, match=r"^max_line must be at least 1 byte"):
        LineSplitter(value)


def test_the_limit_is_16_mib_unless_told_otherwise() -> None:
    """The documented default."""
    assert LineSplitter().max_line == DEFAULT_MAX_LINE == 16 * 1024 * 1024


@given(st.lists(st.binary(max_size=12).map(lambda part: part.replace(b"\0", b"\n"))), st.integers(1, 9))
@example([b"aaaa\nbbbbb\n"], 4)
def test_a_cutter_gives_each_line_once_and_cuts_those_that_are_too_long(
    chunks: list[bytes], max_line: int
) -> None:
    """However the input comes in chunks."""
    cutter = LineCutter(max_line)
    found = [line for chunk in chunks for line in cutter.feed(chunk)] + cutter.finish()
    whole = b"".join(chunks)
    lines = whole.split(b"\n")
    if not lines[-1]:
        lines.pop()
    assert found == [
        line
        if len(line) <= max_line
        else line[:max_line] + b"... %d bytes omitted ..." % (len(line) - max_line)
        for line in lines
    ]
    assert cutter.finish() == []

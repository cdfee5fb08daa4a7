"""The bounded capture: exact while it fits, both ends and a count when not, and never much memory."""

from __future__ import annotations

import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.excerpt import DEFAULT_HEAD, DEFAULT_TAIL, Excerpt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SIZES = st.integers(0, 20)
CHUNKS = st.lists(st.binary(max_size=30), max_size=20)


def fed(chunks: Iterable[bytes], head: int = DEFAULT_HEAD, tail: int = DEFAULT_TAIL) -> Excerpt:
    """Return a capture that was fed these chunks."""
    excerpt = Excerpt(head=head, tail=tail)
    for chunk in chunks:
        excerpt.feed(chunk)
    return excerpt


@given(chunks=CHUNKS, head=SIZES, tail=SIZES)
def test_the_value_is_exact_or_both_ends_with_the_count_between(
    chunks: list[bytes], head: int, tail: int
) -> None:
    """For every chunking: all bytes where they fit into head + tail, else both ends and what is missing."""
    data = b"".join(chunks)
    excerpt = fed(chunks, head, tail)
    missing = len(data) - head - tail
    if missing <= 0:
        expected = data
    else:
        mark = f"\n... {missing} bytes omitted ...\n".encode()
        expected = data[:head] + mark + data[len(data) - tail :]
    assert excerpt.value() == expected
    assert (excerpt.total, excerpt.omitted) == (len(data), max(missing, 0))


def test_the_ends_are_32_kib_each_unless_told_otherwise() -> None:
    """64 KiB are kept whole; one byte more leaves one byte out of the middle."""
    data = bytes(range(256)) * 256
    excerpt = fed([data])
    assert excerpt.value() == data
    excerpt.feed(b"!")
    assert excerpt.value() == data[:32768] + b"\n... 1 bytes omitted ...\n" + data[32769:] + b"!"


def test_nothing_fed_is_an_empty_value() -> None:
    """An empty capture has no mark."""
    assert (fed([]).value(), fed([b""]).value(), fed([], 0, 0).value()) == (b"", b"", b"")


def test_the_value_may_be_read_between_feeds() -> None:
    """To look is not to change."""
    excerpt = fed([b"abc", b"defgh"], 2, 2)
    assert excerpt.value() == excerpt.value() == b"ab\n... 4 bytes omitted ...\ngh"
    excerpt.feed(b"i")
    assert excerpt.value() == b"ab\n... 5 bytes omitted ...\nhi"


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda data: memoryview(data).cast("H")])
def test_every_kind_of_buffer_is_taken(make: Callable[[bytes], bytes | bytearray | memoryview]) -> None:
    """Bytes are counted, whatever the items of the buffer are."""
    excerpt = Excerpt(head=2, tail=2)
    excerpt.feed(make(b"abcdef"))
    assert (excerpt.total, excerpt.value()) == (6, b"ab\n... 2 bytes omitted ...\nef")


def test_reusing_a_buffer_does_not_change_the_excerpt() -> None:
    """What was fed is copied, and the buffer is not kept exported: it can be resized afterwards."""
    buffer = bytearray(b"abcdef")
    excerpt = Excerpt(head=2, tail=4)
    excerpt.feed(buffer)
    buffer[:] = b"XX"
    assert excerpt.value() == b"abcdef"


def test_a_negative_size_is_refused() -> None:
    """Sizes are counts of bytes."""
    with pytest.raises(ValueError, match="must not be negative"):
        Excerpt(head=-1)


def peak(work: Callable[[], object]) -> int:
    """Return the most bytes that Python held while `work` ran, beyond what it held before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


BOUND = 4 * (DEFAULT_HEAD + DEFAULT_TAIL)


def test_memory_is_bounded_for_one_huge_chunk() -> None:
    """Of a chunk of 64 MiB only the ends are copied."""
    chunk = bytes(64 * 1024 * 1024)
    excerpt = Excerpt()
    assert peak(lambda: excerpt.feed(chunk)) < BOUND
    assert excerpt.total == len(chunk)


def test_memory_is_bounded_for_huge_chunks_in_a_row() -> None:
    """A second huge chunk replaces the end that the first one left."""
    chunk = bytes(8 * 1024 * 1024)
    excerpt = Excerpt()

    def feed_all() -> None:
        for _ in range(8):
            excerpt.feed(chunk)

    assert peak(feed_all) < BOUND


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 7, 4096, 40000])
def test_memory_is_bounded_for_many_small_chunks(size: int) -> None:
    """What is held does not grow with the number of chunks, whatever their size."""
    excerpt = Excerpt()
    chunk = b"x" * size

    def feed_all() -> None:
        for _ in range(50_000 if size < 4096 else 500):
            excerpt.feed(chunk)

    assert peak(feed_all) < BOUND


def test_bytes_fed_one_by_one_take_linear_time() -> None:
    """The tail is not moved for every byte."""
    excerpt = Excerpt(head=0, tail=4 * 1024 * 1024)
    excerpt.feed(bytes(8 * 1024 * 1024))
    started = time.process_time()
    for _ in range(200_000):
        excerpt.feed(b"x")
    # Linear is a fraction of a second; moving the tail for every byte would move 800 GB.
    assert time.process_time() - started < 5


# --- last_lines


@pytest.mark.parametrize(
    ("data", "n", "max_bytes", "shown"),
    [
        (b"", 5, 100, ""),
        (b"\n\n", 5, 100, ""),
        (b"one", 5, 100, "one"),
        (b"one\ntwo\nthree\n", 5, 100, "one\ntwo\nthree"),
        (b"one\ntwo\nthree\n", 2, 100, "two\nthree"),
        (b"one\ntwo\nthree\n\n\n", 1, 100, "three"),
        (b"one\n\nthree\n", 2, 100, "\nthree"),
        (b"one\r\ntwo\r\n", 5, 100, "one\ntwo"),
        (b"50%\r100%\r\n", 5, 100, "50%\r100%"),
        (b"one\ntwo\nthree\n", 5, 9, "two\nthree"),
        (b"one\ntwo\nthree\n", 5, 8, "...wo\nthree"),
        (b"one\ntwo\nthree\n", 1, 8, "three"),
        (b"one\ntwo\nthree\n", 5, 3, "...ree"),
        (b"one\n", 0, 100, ""),
        (b"one\n", 5, 0, ""),
        ("größe\n".encode(), 5, 100, "größe"),
        ("größe\n".encode(), 5, 2, "...e"),
        ("größe\n".encode(), 5, 3, "...ße"),
        (b"caf\xe9 ol\xe9\n", 5, 100, "caf\ufffd ol\ufffd"),
    ],
)
def test_last_lines_are_for_a_person_to_read(data: bytes, n: int, max_bytes: int, shown: str) -> None:
    """At most n lines and max_bytes bytes, decoded, without empty lines at the end; a cut is marked."""
    assert fed([data]).last_lines(n, max_bytes) == shown


def test_last_lines_come_from_the_end_of_a_long_capture() -> None:
    """Neither the mark nor the head is among the lines, and a line whose beginning was omitted says so."""
    excerpt = fed([b"line %d\n" % number for number in range(100_000)], 64, 20)
    assert excerpt.last_lines(1, 100) == "line 99999"
    assert excerpt.last_lines(9, 100) == "...ne 99998\nline 99999"


@given(chunks=CHUNKS, head=SIZES, tail=SIZES, n=st.integers(0, 5), max_bytes=SIZES)
def test_last_lines_never_show_more_than_was_asked_for(
    chunks: list[bytes], head: int, tail: int, n: int, max_bytes: int
) -> None:
    """No more lines than n, no more characters than max_bytes (beside the three dots)."""
    shown = fed(chunks, head, tail).last_lines(n, max_bytes)
    assert len(shown.removeprefix("...")) <= max_bytes
    assert len(shown.split("\n")) <= max(n, 1)

"""What holds for the streams of every kind of pipe; one thread uses both ends, unless it has to wait."""

from __future__ import annotations

import io
from array import array
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.waiting import DEADLINE

from penstock.core.captured import Captured
from penstock.core.errors import ClosedPipe
from penstock.streams.memory_pipe import MemoryWriter
from penstock.streams.reader import BytesReader, Reader
from penstock.streams.writer import CaptureWriter, NullWriter, Writer

if TYPE_CHECKING:
    from collections.abc import Callable

PIECES = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.text(alphabet="a\n\r", max_size=12).map(str.encode),
        st.sampled_from([b"x" * 5000, b"line\n" * 2000, b"\n" * 300]),
    ),
    max_size=12,
)
SHAPES = st.sampled_from([bytes, bytearray, memoryview, lambda piece: array("B", piece)])
SIZES = st.one_of(st.integers(0, 20), st.sampled_from([1000, 70000]))
READS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), SIZES),
        st.tuples(st.just("read1"), st.one_of(SIZES, st.just(-1))),
        st.tuples(st.just("readinto"), SIZES),
        st.tuples(st.just("readline"), st.one_of(SIZES, st.just(-1))),
        st.tuples(st.sampled_from(["next", "chunks"]), st.just(-1)),
    ),
    max_size=30,
)


def read_and_compare(reader: Reader, model: io.BytesIO, method: str, size: int) -> None:
    """Read once, and compare with what a file that holds the same bytes gives."""
    place = model.tell()
    if method == "read":
        assert reader.read(size) == model.read(size)
    elif method == "readline":
        assert reader.readline(size) == model.readline(size)
    elif method == "next":
        assert next(reader, b"") == next(model, b"")
    else:
        # These give what is there: some of it, but nothing only at EOF or where nothing is asked for.
        buffer = bytearray(max(size, 0))
        if method == "read1":
            data = reader.read1(size)
        elif method == "chunks":
            data = next(reader.chunks(), b"")
        else:
            data = bytes(buffer[: reader.readinto(buffer)])
        assert size < 0 or len(data) <= size
        assert data == model.read(len(data))
        assert data or size == 0 or model.read(1) == b""
    assert reader.count == max(place, model.tell())


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(pieces=PIECES, shape=SHAPES, reads=READS)
def test_any_reads_of_any_writes_give_what_a_file_gives(
    make_pipe: Callable[[], tuple[Reader, Writer]],
    pieces: list[bytes],
    shape: Callable[[bytes], bytes],
    reads: list[tuple[str, int]],
) -> None:
    reader, writer = make_pipe()
    model = io.BytesIO(b"".join(pieces))

    def write() -> None:
        with writer:
            for piece in pieces:
                assert writer.write(shape(piece)) == len(piece)

    with ThreadPoolExecutor(1) as threads, reader:
        writing = threads.submit(write)
        try:
            for method, size in reads:
                read_and_compare(reader, model, method, size)
            assert reader.read() == model.read()
            assert reader.count == len(model.getvalue())
        finally:
            reader.close()
            writing.exception(DEADLINE)
        writing.result(0)
    assert writer.count == len(model.getvalue())


def test_after_eof_every_read_gives_nothing_as_often_as_it_is_asked(ends: tuple[Reader, Writer]) -> None:
    reader, writer = ends
    writer.write(b"end")
    writer.close()
    assert reader.read() == b"end"
    for _ in range(2):
        assert (reader.read(), reader.read(5), reader.read1(), reader.readline()) == (b"", b"", b"", b"")
        assert reader.readinto(bytearray(5)) == 0
        assert list(reader.chunks()) == []
        assert list(reader) == []


def test_none_means_no_limit(ends: tuple[Reader, Writer]) -> None:
    reader, writer = ends
    writer.write(b"a\nb\ncd")
    writer.close()
    assert reader.readline(None) == b"a\n"
    assert reader.read1(None) + reader.read(None) == b"b\ncd"


def test_the_rest_of_a_partial_read_comes_first(ends: tuple[Reader, Writer]) -> None:
    reader, writer = ends
    writer.write(b"ab\ncd")
    writer.close()
    assert reader.readline() == b"ab\n"
    assert b"".join(reader.chunks()) == b"cd"


def test_writing_nothing_does_nothing(ends: tuple[Reader, Writer]) -> None:
    reader, writer = ends
    assert writer.write(b"") == 0
    assert writer.write(bytearray()) == 0
    assert writer.write(array("i")) == 0
    reader.close()
    assert writer.write(b"") == 0
    assert writer.count == 0


def test_text_is_refused_with_a_hint(ends: tuple[Reader, Writer]) -> None:
    _, writer = ends
    with pytest.raises(TypeError, match="not str: encode the text"):
        writer.write("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not str"):
        writer.writelines("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="bytes-like"):
        writer.write(5)  # type: ignore[arg-type]


def test_a_buffer_may_be_reused_and_resized_after_the_write(ends: tuple[Reader, Writer]) -> None:
    reader, writer = ends
    buffer = bytearray(b"first")
    assert writer.write(buffer) == 5
    buffer[:] = b"other"
    buffer.append(0)
    assert reader.read(5) == b"first"


def test_a_buffer_may_be_resized_after_a_write_that_failed(ends: tuple[Reader, Writer]) -> None:
    reader, writer = ends
    reader.close()
    buffer = bytearray(10000)
    with pytest.raises(BrokenPipeError) as caught:
        writer.write(buffer)
    buffer.append(0)
    assert caught.value.__traceback__ is not None


def test_the_length_of_a_write_is_in_bytes_whatever_the_items(ends: tuple[Reader, Writer]) -> None:
    reader, writer = ends
    wide = array("H", [1, 2])
    assert writer.write(wide) == 4
    assert reader.read(4) == wide.tobytes()
    assert writer.write(memoryview(b"abcdef")[::2]) == 3
    assert reader.read(3) == b"ace"
    assert writer.write(memoryview(b"abcdef").cast("B", (2, 3))) == 6
    assert reader.read(6) == b"abcdef"
    assert (reader.count, writer.count) == (13, 13)


def test_writelines_adds_nothing(ends: tuple[Reader, Writer]) -> None:
    reader, writer = ends
    writer.writelines([b"a\n", bytearray(b"b"), b""])
    writer.flush()
    assert reader.read(3) == b"a\nb"


def test_readinto_fills_any_writable_buffer_and_refuses_others(ends: tuple[Reader, Writer]) -> None:
    reader, writer = ends
    writer.write(b"\1\0\2\0")
    with pytest.raises(TypeError, match="writable"):
        reader.readinto(b"xxxx")
    numbers = array("H", [0, 0])
    view = memoryview(numbers).cast("B")
    done = 0
    while done < 4:
        done += reader.readinto(view[done:])
    assert numbers.tobytes() == b"\1\0\2\0"


def test_a_closed_end_says_so(ends: tuple[Reader, Writer]) -> None:
    reader, writer = ends
    writer.write(b"some")
    for end in ends:
        assert not end.closed
        end.close()
        end.close()
        assert end.closed
    uses: list[Callable[[], object]] = [
        lambda: writer.write(b"x"),
        lambda: writer.write(b""),
        writer.flush,
        reader.read,
        lambda: reader.read(0),
        reader.read1,
        reader.readline,
        lambda: reader.readline(3),
        lambda: reader.readinto(bytearray(1)),
        lambda: next(reader),
        lambda: iter(reader),
        lambda: next(reader.chunks()),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="closed"):
            use()


def test_a_with_block_closes(ends: tuple[Reader, Writer]) -> None:
    reader, writer = ends
    with writer as same:
        assert same is writer
        writer.write(b"x")
    with reader:
        assert reader.read() == b"x"
    assert reader.closed


def test_a_write_after_the_reader_closed_is_a_broken_pipe_error(
    ends: tuple[Reader, Writer],
) -> None:
    reader, writer = ends
    reader.close()
    with pytest.raises(BrokenPipeError) as caught:
        writer.write(b"x")
    assert isinstance(caught.value, ClosedPipe) == isinstance(writer, MemoryWriter)
    assert writer.count == 0


def test_every_use_after_an_interrupt_raises_the_first_reason(
    ends: tuple[Reader, Writer],
) -> None:
    reader, writer = ends
    writer.write(b"a\nb\n")
    assert reader.readline() == b"a\n"
    reason = KeyError("reason")
    for end in ends:
        end.interrupt(reason)
        end.interrupt(ValueError("too late"))
    uses: list[Callable[[], object]] = [
        lambda: writer.write(b"x"),
        writer.flush,
        lambda: reader.read(1),
        lambda: reader.read(0),
        lambda: next(reader),
        lambda: next(reader.chunks()),
        lambda: reader.readinto(bytearray(4)),
    ]
    for use in uses:
        with pytest.raises(KeyError) as caught:
            use()
        assert caught.value is reason
    writer.close()
    with pytest.raises(KeyError):
        writer.write(b"x")


def test_a_reason_that_is_raised_many_times_does_not_grow(ends: tuple[Reader, Writer]) -> None:
    _, writer = ends
    reason = KeyError("reason")
    writer.interrupt(reason)
    lengths = set()
    for _ in range(5):
        with pytest.raises(KeyError):
            writer.write(b"x")
        length, traceback = 0, reason.__traceback__
        while traceback is not None:
            length, traceback = length + 1, traceback.tb_next
        lengths.add(length)
    assert len(lengths) == 1


def test_the_other_end_of_an_interrupted_one_sees_only_its_closing(ends: tuple[Reader, Writer]) -> None:
    reader, writer = ends
    writer.write(b"rest")
    writer.interrupt(KeyError())
    assert reader.read(4) == b"rest"
    writer.close()
    assert reader.read() == b""


def test_a_text_layer_goes_over_either_end(ends: tuple[Reader, Writer]) -> None:
    reader, writer = ends
    out = io.TextIOWrapper(writer, encoding="utf-8", newline="")  # type: ignore[type-var]
    out.write("zwölf\nBoxkämpfer")
    out.close()
    assert writer.closed
    with io.TextIOWrapper(reader, encoding="utf-8") as text:  # type: ignore[type-var]
        assert list(text) == ["zwölf\n", "Boxkämpfer"]
    assert reader.closed


def test_the_ends_say_what_they_are(ends: tuple[Reader, Writer]) -> None:
    reader, writer = ends
    assert (reader.readable(), reader.writable(), reader.seekable()) == (True, False, False)
    assert (writer.readable(), writer.writable(), writer.seekable()) == (False, True, False)
    assert "open" in repr(reader)
    reader.interrupt(KeyError())
    assert "interrupted" in repr(reader)
    reader.close()
    assert "closed" in repr(reader)


class Counted(bytes):
    """Bytes that count how many of them are copied or searched, and pass that on to their parts."""

    work = 0

    def __getitem__(self, key: Any) -> Any:
        part = Counted(super().__getitem__(key))
        Counted.work += len(part)
        return part

    def find(self, what: Any, start: Any = 0, stop: Any = None) -> int:
        found = super().find(what, start, stop)
        Counted.work += (found if found >= 0 else len(self) if stop is None else stop) - start
        return found


class CountedReader(Reader):
    def __init__(self, chunks: list[bytes]) -> None:
        super().__init__()
        self._chunks = [Counted(chunk) for chunk in reversed(chunks)]
        Counted.work = 0

    def _read_chunk(self) -> bytes:
        return self._chunks.pop() if self._chunks else b""


@pytest.mark.parametrize("chunks", [[b"x" * 50_000], [b"x"] * 50_000, [b"x" * 700] * 72], ids=len)
@pytest.mark.parametrize("method", ["read", "read1", "readinto", "readline"])
def test_small_reads_copy_each_byte_a_bounded_number_of_times(chunks: list[bytes], method: str) -> None:
    reader = CountedReader(chunks)
    part: Any = bytearray(5) if method == "readinto" else 5
    for _ in range(60_000):
        if not getattr(reader, method)(part):
            break
    assert reader.count == sum(map(len, chunks))
    assert Counted.work <= 3 * reader.count


@pytest.mark.parametrize("line", [b"x" * 9 + b"\n", b"x" * 49_999 + b"\n"], ids=len)
@pytest.mark.parametrize("size", [1, 700, 50_000])
def test_lines_are_searched_and_copied_a_bounded_number_of_times(line: bytes, size: int) -> None:
    data = line * (50_000 // len(line))
    reader = CountedReader([data[start : start + size] for start in range(0, len(data), size)])
    assert list(reader) == data.splitlines(keepends=True)
    # Searched in hand before more is pulled, and once more with what was pulled.
    assert Counted.work <= 4 * len(data)


@pytest.mark.parametrize("method", ["read", "read1", "readline"])
def test_eof_is_final_even_where_the_source_would_go_on(method: str) -> None:
    """A terminal does: it gives more after Ctrl-D."""
    reader = CountedReader([b"a", b"", b"more"])
    assert getattr(reader, method)() == b"a"
    assert getattr(reader, method)() == b""
    assert (getattr(reader, method)(), list(reader.chunks()), list(reader)) == (b"", [], [])


def test_an_empty_reader_is_at_eof() -> None:
    with BytesReader() as reader:
        assert reader.read() == b""
        assert list(reader.chunks()) == []


def test_a_null_writer_counts() -> None:
    with NullWriter() as writer:
        assert writer.write(b"abc") == 3
        assert writer.write(array("H", [1])) == 2
    assert writer.count == 5


def test_a_capture_writer_keeps_bytes_by_reference_and_copies_the_rest() -> None:
    sink = Captured()
    fixed, loose = b"fixed", bytearray(b"loose")
    with CaptureWriter(sink) as writer:
        writer.write(fixed)
        assert sink.value() is fixed
        writer.write(loose)
    loose[:] = b"other"
    assert sink.value() == b"fixedloose"
    assert writer.count == 10


def test_a_base_class_without_its_one_method_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Reader()  # type: ignore[abstract]
    with pytest.raises(TypeError, match="abstract"):
        Writer()  # type: ignore[abstract]

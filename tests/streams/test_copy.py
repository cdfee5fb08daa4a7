"""The copy between file-like objects: prompt, complete, and no buffer lent to those who would keep it."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.waiting import DEADLINE

from penstock.core.captured import Captured
from penstock.streams.buffer_pool import BufferPool
from penstock.streams.copy import copy_stream
from penstock.streams.fd_streams import FdReader, FdWriter
from penstock.streams.memory_pipe import MemoryPipe
from penstock.streams.writer import CaptureWriter, NullWriter
from penstock.system.fds import pipe

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

DATA = bytes(range(256)) * 1000


class Keeper:
    """A sink that keeps the very objects it is given, and returns nothing, as many hand-written ones do."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def write(self, data: Any) -> None:
        self.kept.append(data)


class Stingy(io.RawIOBase):
    """A raw sink that takes a few bytes at a time."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.taken = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        with memoryview(data) as view:
            part = bytes(view[: self.most])
        self.taken += part
        return len(part)


class Sources:
    """A source with just the methods it is asked to have, each giving at most three bytes."""

    def __init__(self, data: bytes, *methods: str) -> None:
        self._file = io.BytesIO(data)
        self.used: set[str] = set()
        for method in methods:
            setattr(
                self, method, self._into(method) if method.startswith("readinto") else self._bytes(method)
            )

    def _into(self, name: str) -> Callable[[memoryview], int]:
        def call(view: memoryview) -> int:
            self.used.add(name)
            return self._file.readinto(view[:3])

        return call

    def _bytes(self, name: str) -> Callable[[int], bytes]:
        def call(n: int) -> bytes:
            self.used.add(name)
            return self._file.read(min(n, 3))

        return call


@pytest.mark.parametrize(
    ("methods", "best"),
    [
        (("read", "read1", "readinto", "readinto1"), "readinto1"),
        (("read", "read1", "readinto"), "read1"),
        (("read", "readinto"), "readinto"),
        (("read",), "read"),
    ],
)
@pytest.mark.parametrize("sink", [io.BytesIO, Keeper])
def test_the_method_that_waits_for_nothing_more_is_the_one_used(
    methods: tuple[str, ...], best: str, sink: Callable[[], Any]
) -> None:
    source = Sources(b"abcdefgh", *methods)
    target = sink()
    assert copy_stream(source, target) == 8
    assert source.used == {best}
    got = target.getvalue() if isinstance(target, io.BytesIO) else b"".join(target.kept)
    assert got == b"abcdefgh"


def test_available_bytes_are_passed_on_before_more_come(threads: ThreadPoolExecutor) -> None:
    number, feeder = os.pipe()
    answer = MemoryPipe()
    with open(number, "rb") as source, answer.reader, answer.writer:  # noqa: PTH123 - a descriptor
        copying = threads.submit(copy_stream, source, answer.writer)
        for piece in (b"one", b"two"):
            os.write(feeder, piece)
            assert answer.reader.read(3) == piece
        os.close(feeder)
        assert copying.result(DEADLINE) == 6


@given(pieces=st.lists(st.binary(max_size=50)), size=st.integers(1, 60), most=st.integers(1, 60))
def test_any_pieces_through_any_buffer_into_any_short_writer_arrive(
    pieces: list[bytes], size: int, most: int
) -> None:
    whole = b"".join(pieces)
    pool = BufferPool(size=size)
    sink = Stingy(most)
    assert copy_stream(io.BytesIO(whole), sink, pool) == len(whole)
    assert sink.taken == whole
    pipe = MemoryPipe()
    with pipe.reader:
        pipe.writer.writelines(pieces)
        pipe.writer.close()
        sink = Stingy(most)
        assert copy_stream(pipe.reader, sink, pool) == len(whole)
        assert sink.taken == whole


def test_a_sink_that_keeps_its_argument_keeps_bytes_of_its_own() -> None:
    sink = Keeper()
    assert copy_stream(io.BytesIO(DATA), sink, BufferPool(size=100)) == len(DATA)
    assert {type(kept) for kept in sink.kept} == {bytes}
    assert b"".join(sink.kept) == DATA


class Raw(io.RawIOBase):
    """A sink of Python's own kind, which keeps what `look` returns."""

    def __init__(self, look: Callable[[Any], object] = bytes) -> None:
        super().__init__()
        self.look = look
        self.kept: list[Any] = []
        self.types: set[type] = set()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.types.add(type(data))
        self.kept.append(self.look(data))
        return len(data)


class Buffered(Raw, io.BufferedIOBase):  # type: ignore[misc]
    """The same of the other kind."""


@pytest.mark.parametrize("kind", [Raw, Buffered])
def test_the_buffer_is_lent_to_a_sink_of_pythons_own_kind(kind: type[Raw], tmp_path: Path) -> None:
    """Its contract says that `write` keeps nothing; so no bytes are allocated for each chunk."""
    (tmp_path / "in").write_bytes(DATA)
    pool = BufferPool(size=1000)
    sink = kind()
    with (tmp_path / "in").open("rb", buffering=0) as source:
        assert copy_stream(source, sink, pool) == len(DATA)
    assert sink.types == {memoryview}
    assert b"".join(sink.kept) == DATA
    assert (pool.hits, pool.misses) == (0, 1)


def test_a_kept_view_of_the_lent_buffer_is_an_error_and_never_other_bytes() -> None:
    """It is released after the call. A view of it would be read later, so that ends the copy."""
    sink = Raw(lambda data: data)
    assert copy_stream(io.BytesIO(DATA), sink, BufferPool(size=1000)) == len(DATA)
    with pytest.raises(ValueError, match="released"):
        bytes(sink.kept[0])
    with pytest.raises(BufferError, match=r"is lent for that call, but it is kept.*Raw"):
        copy_stream(io.BytesIO(DATA), Raw(pickle.PickleBuffer), BufferPool(size=1000))


def test_an_error_of_such_a_sink_is_raised_as_it_is() -> None:
    """Even if it has kept a view."""
    views = []

    def fail(data: Any) -> None:
        views.append(pickle.PickleBuffer(data))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        copy_stream(io.BytesIO(DATA), Raw(fail), BufferPool(size=1000))


def test_chunks_go_from_memory_to_a_keeping_sink_by_reference() -> None:
    pipe, sink, chunk = MemoryPipe(), Keeper(), bytes(100)
    pipe.writer.write(chunk)
    pipe.writer.close()
    assert copy_stream(pipe.reader, sink) == 100
    assert sink.kept[0] is chunk
    pipe.reader.close()


def test_a_long_copy_borrows_one_buffer_and_gives_it_back(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(DATA * 10)
    pool = BufferPool(size=1000)
    for _ in range(2):
        with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
            assert copy_stream(source, sink, pool) == len(DATA) * 10
    assert (tmp_path / "out").read_bytes() == DATA * 10
    assert (pool.hits, pool.misses) == (1, 1)


@pytest.mark.parametrize("buffering", [0, -1])
@pytest.mark.parametrize("opener", [open, gzip.open, bz2.open])
def test_files_and_decompressors_are_copied(tmp_path: Path, opener: Any, buffering: int) -> None:
    path = tmp_path / "file"
    with opener(path, "wb") as file:
        file.write(DATA)
    with opener(path, "rb", **({"buffering": buffering} if opener is open else {})) as source:
        assert source.read(10) == DATA[:10]
        target = io.BytesIO()
        assert copy_stream(source, target) == len(DATA) - 10
    assert target.getvalue() == DATA[10:]


@pytest.mark.parametrize("make_sink", [NullWriter, lambda: CaptureWriter(Captured()), io.BytesIO, Keeper])
def test_a_stream_over_a_descriptor_is_a_source_for_all(
    threads: ThreadPoolExecutor, make_sink: Callable[[], Any]
) -> None:
    source, target = pipe()
    with (
        FdReader(source, owned_description=True) as reader,
        FdWriter(target, owned_description=True) as writer,
    ):

        def feed() -> None:
            with writer:
                assert copy_stream(io.BytesIO(DATA), writer) == len(DATA)

        feeding = threads.submit(feed)
        assert copy_stream(reader, make_sink()) == len(DATA)
        assert reader.count == len(DATA)
        feeding.result(DEADLINE)


@pytest.mark.parametrize("buffering", [0, 100])
def test_non_blocking_files_are_waited_for(threads: ThreadPoolExecutor, buffering: int) -> None:
    numbers = os.pipe()
    for number in numbers:
        os.set_blocking(number, False)
    arrived = io.BytesIO()
    with (
        open(numbers[0], "rb", buffering=buffering) as source,  # noqa: PTH123 - a descriptor
        open(numbers[1], "wb", buffering=buffering) as sink,  # noqa: PTH123
    ):

        def feed() -> None:
            assert copy_stream(io.BytesIO(DATA * 4), sink) == len(DATA) * 4
            while True:
                try:
                    sink.close()
                except BlockingIOError:
                    continue
                return

        feeding = threads.submit(feed)
        assert copy_stream(source, arrived) == len(DATA) * 4
        feeding.result(DEADLINE)
    assert arrived.getvalue() == DATA * 4


def test_a_text_source_is_refused_by_name() -> None:
    with pytest.raises(
        TypeError, match=r"read\(\) of the source returned str, not bytes: it is a text stream"
    ):
        copy_stream(io.StringIO("text"), io.BytesIO())


@pytest.mark.parametrize("answer", [5, object(), ["x"]])
def test_a_read_that_returns_no_bytes_is_refused_by_name(answer: object) -> None:
    source = type("Odd", (), {"read": lambda _self, _n: answer})()
    with pytest.raises(TypeError, match=f"read\\(\\) of the source returned {type(answer).__name__}"):
        copy_stream(source, io.BytesIO())


def test_a_source_may_give_other_buffers_than_bytes() -> None:
    answers: list[Any] = [bytearray(b"ab"), memoryview(b"cd"), b""]
    source = type("Loose", (), {"read": lambda _self, _n: answers.pop(0)})()
    sink = Keeper()
    assert copy_stream(source, sink) == 4
    assert sink.kept == [b"ab", b"cd"]


@pytest.mark.parametrize(("answer", "error"), [(-1, OSError), (10**9, OSError), ("x", TypeError)])
def test_a_readinto_that_returns_nonsense_is_refused(answer: object, error: type[Exception]) -> None:
    source = type("Odd", (), {"readinto": lambda _self, _view: answer})()
    with pytest.raises(error, match=r"readinto\(\) of the source"):
        copy_stream(source, io.BytesIO())


def test_a_source_without_any_method_is_refused_by_type() -> None:
    with pytest.raises(TypeError, match="which 'object' does not have"):
        copy_stream(object(), io.BytesIO())


def test_a_method_that_is_not_supported_is_stepped_down_from() -> None:
    class OnlyRead(io.BufferedIOBase):
        """Its read1 and readinto1 are the base class's, which only say that they are not supported."""

        def __init__(self) -> None:
            self.left = [b"ab", b"c"]

        def read(self, _n: int | None = -1, /) -> bytes:
            return self.left.pop(0) if self.left else b""

    sink = io.BytesIO()
    assert copy_stream(OnlyRead(), sink) == 3
    assert sink.getvalue() == b"abc"


def test_a_file_that_is_not_open_for_reading_says_so(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(io.UnsupportedOperation):
        copy_stream(file, io.BytesIO())


def test_a_sink_that_takes_nothing_is_an_error_not_a_loop() -> None:
    with pytest.raises(OSError, match="returned 0"):
        copy_stream(io.BytesIO(b"x"), Stingy(0))


def test_a_stream_without_a_descriptor_that_would_block_is_an_error() -> None:
    class Empty(io.RawIOBase):
        def readinto(self, _view: Any) -> None:
            return None

    with pytest.raises(BlockingIOError, match="no descriptor to wait for"):
        copy_stream(Empty(), io.BytesIO())


def test_the_errors_of_both_sides_come_through_and_the_buffer_comes_back() -> None:
    pool = BufferPool(size=10)
    reason = KeyError("mine")

    def fail(*_: object) -> None:
        raise reason

    broken = type("Broken", (), {"read": fail, "write": fail})()
    for source, sink in ((broken, io.BytesIO()), (io.BytesIO(b"x"), broken)):
        with pytest.raises(KeyError) as caught:
            copy_stream(source, sink, pool)
        assert caught.value is reason
    assert (pool.hits, pool.misses) == (1, 1)


def test_a_large_chunk_into_a_short_writer_is_not_copied_again_and_again() -> None:
    class Sparing:
        """An unknown sink that takes a little of what it gets, and counts how much it was shown."""

        def __init__(self) -> None:
            self.shown = 0

        def write(self, data: bytes) -> int:
            self.shown += len(data)
            return min(len(data), 65536)

    pipe, sink = MemoryPipe(), Sparing()
    pipe.writer.write(bytes(8 * 1024 * 1024))
    pipe.writer.close()
    assert copy_stream(pipe.reader, sink) == 8 * 1024 * 1024
    assert sink.shown <= 3 * 8 * 1024 * 1024
    pipe.reader.close()

"""Two threads and more on one pipe: who blocks is woken by the other end, by an interrupt, and by a close."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from tests.support.waiting import DEADLINE, until_blocked

from penstock.core.errors import ClosedPipe
from penstock.streams.memory_pipe import MemoryWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

    from penstock.streams.reader import Reader
    from penstock.streams.writer import Writer

MORE_THAN_FITS = bytes(10 * 1024 * 1024)

READS: dict[str, Callable[[Reader], object]] = {
    "read": lambda reader: reader.read(),
    "read-n": lambda reader: reader.read(5),
    "read1": lambda reader: reader.read1(),
    "readinto": lambda reader: reader.readinto(bytearray(5)),
    "readline": lambda reader: reader.readline(),
    "next": lambda reader: next(reader, b""),
    "chunks": lambda reader: list(reader.chunks()),
}
any_read = pytest.mark.parametrize("read", READS.values(), ids=READS)


def fill_and_block(writer: Writer) -> None:
    """Write until it blocks: what is too large for an in-memory pipe goes only into an empty one."""
    writer.write(b"first")
    writer.write(MORE_THAN_FITS)


@any_read
def test_an_interrupt_wakes_a_blocked_reader_with_the_reason(
    ends: tuple[Reader, Writer], threads: ThreadPoolExecutor, read: Callable[[Reader], object]
) -> None:
    reader, _ = ends
    reason = KeyError("reason")
    reading = threads.submit(read, reader)
    until_blocked(reader)
    reader.interrupt(reason)
    assert reading.exception(DEADLINE) is reason


def test_an_interrupt_wakes_a_blocked_writer_with_the_reason(
    ends: tuple[Reader, Writer], threads: ThreadPoolExecutor
) -> None:
    _, writer = ends
    reason = KeyError("reason")
    writing = threads.submit(fill_and_block, writer)
    until_blocked(writer)
    writer.interrupt(reason)
    assert writing.exception(DEADLINE) is reason
    assert writer.count < len(MORE_THAN_FITS)


@pytest.mark.parametrize("side", ["reader", "writer"])
def test_an_interrupt_that_races_with_the_block_is_never_lost(
    make_pipe: Callable[[], tuple[Reader, Writer]], threads: ThreadPoolExecutor, side: str
) -> None:
    for _ in range(100):
        reader, writer = make_pipe()
        start = threading.Barrier(2)
        reason = KeyError("reason")

        def block(start: threading.Barrier = start, ends: tuple[Reader, Writer] = (reader, writer)) -> None:
            start.wait(DEADLINE)
            if side == "reader":
                ends[0].read()
            else:
                fill_and_block(ends[1])

        with reader, writer:
            blocking = threads.submit(block)
            start.wait(DEADLINE)
            (reader if side == "reader" else writer).interrupt(reason)
            assert blocking.exception(DEADLINE) is reason


@any_read
def test_closing_the_writer_wakes_a_blocked_reader_with_eof(
    ends: tuple[Reader, Writer], threads: ThreadPoolExecutor, read: Callable[[Reader], object]
) -> None:
    reader, writer = ends
    reading = threads.submit(read, reader)
    until_blocked(reader)
    writer.close()
    assert not reading.result(DEADLINE)


def test_closing_the_reader_wakes_a_blocked_writer_with_a_broken_pipe(
    ends: tuple[Reader, Writer], threads: ThreadPoolExecutor
) -> None:
    reader, writer = ends
    writing = threads.submit(fill_and_block, writer)
    until_blocked(writer)
    reader.close()
    error = writing.exception(DEADLINE)
    assert type(error) is (ClosedPipe if isinstance(writer, MemoryWriter) else BrokenPipeError)


@any_read
def test_closing_a_reader_in_which_another_thread_is_blocked_wakes_it(
    ends: tuple[Reader, Writer], threads: ThreadPoolExecutor, read: Callable[[Reader], object]
) -> None:
    reader, _ = ends
    reading = threads.submit(read, reader)
    until_blocked(reader)
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reading.result(DEADLINE)


def test_closing_a_writer_in_which_another_thread_is_blocked_wakes_it(
    ends: tuple[Reader, Writer], threads: ThreadPoolExecutor
) -> None:
    _, writer = ends
    writing = threads.submit(fill_and_block, writer)
    until_blocked(writer)
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writing.result(DEADLINE)


@any_read
def test_data_wakes_a_blocked_reader_that_asks_for_no_more(
    ends: tuple[Reader, Writer], threads: ThreadPoolExecutor, read: Callable[[Reader], object]
) -> None:
    reader, writer = ends
    reading = threads.submit(read, reader)
    until_blocked(reader)
    writer.write(b"line\n")
    if read in (READS["read"], READS["chunks"]):
        writer.close()
    assert reading.result(DEADLINE)


@pytest.mark.parametrize("side", ["reader", "writer"])
def test_many_threads_blocked_in_one_end_are_all_woken_by_an_interrupt(
    ends: tuple[Reader, Writer], threads: ThreadPoolExecutor, side: str
) -> None:
    reader, writer = ends
    if side == "reader" and isinstance(writer, MemoryWriter):
        pytest.skip("an in-memory pipe is read by one thread at a time")
    end: Reader | Writer = reader if side == "reader" else writer
    jobs = [
        threads.submit(reader.read1) if side == "reader" else threads.submit(fill_and_block, writer)
        for _ in range(4)
    ]
    until_blocked(end)
    reason = KeyError("reason")
    end.interrupt(reason)
    assert [job.exception(DEADLINE) for job in jobs] == [reason] * 4


@pytest.mark.slow
def test_a_mebibyte_goes_through_a_pipe_that_holds_far_less(
    ends: tuple[Reader, Writer], threads: ThreadPoolExecutor
) -> None:
    reader, writer = ends
    data = bytes(range(256)) * 4096

    def write() -> int:
        with writer:
            return writer.write(data)

    writing = threads.submit(write)
    assert reader.read() == data
    assert writing.result(DEADLINE) == 1024 * 1024
    assert writer.count == reader.count == 1024 * 1024


def test_each_write_of_several_threads_is_whole_and_all_arrive(
    ends: tuple[Reader, Writer], threads: ThreadPoolExecutor
) -> None:
    reader, writer = ends
    writes = 20

    def write(mark: bytes) -> None:
        for _ in range(writes):
            writer.write(mark * 9999 + b"\n")

    jobs = [threads.submit(write, mark) for mark in (b"a", b"b", b"c")]
    lines = [reader.readline() for _ in range(3 * writes)]
    for job in jobs:
        job.result(DEADLINE)
    assert sorted(lines) == [
        mark * 9999 + b"\n" for mark in (b"a",) * writes + (b"b",) * writes + (b"c",) * writes
    ]
    assert writer.count == 3 * writes * 10_000


def test_lines_go_back_and_forth_between_two_threads(
    make_pipe: Callable[[], tuple[Reader, Writer]], threads: ThreadPoolExecutor
) -> None:
    there, to_there = make_pipe()
    here, to_here = make_pipe()

    def answer() -> None:
        with to_here:
            for line in there:
                to_here.write(line.upper())

    with there, to_there, here:
        answering = threads.submit(answer)
        for number in range(200):
            to_there.write(b"line %d\n" % number)
            assert here.readline() == b"LINE %d\n" % number
        to_there.close()
        answering.result(DEADLINE)


@pytest.mark.slow
def test_chunks_of_all_sizes_arrive_in_order_whoever_is_faster(
    ends: tuple[Reader, Writer], threads: ThreadPoolExecutor
) -> None:
    reader, writer = ends
    sizes = [1, 7, 8, 9, 4096, 4097, 65536, 100_000] * 5
    data = b"".join(bytes([number % 251]) * size for number, size in enumerate(sizes))

    def write() -> None:
        with writer:
            start = 0
            for size in sizes:
                writer.write(data[start : start + size])
                start += size

    writing = threads.submit(write)
    assert b"".join(reader.chunks()) == data
    writing.result(DEADLINE)


def test_a_reader_that_stops_early_ends_a_writer_that_never_would(
    ends: tuple[Reader, Writer], threads: ThreadPoolExecutor
) -> None:
    reader, writer = ends

    def write_for_ever() -> None:
        while True:
            writer.write(b"yes\n" * 1000)

    writing = threads.submit(write_for_ever)
    assert reader.readline() == b"yes\n"
    with pytest.raises(TimeoutError):
        writing.result(0)
    reader.close()
    assert isinstance(writing.exception(DEADLINE), BrokenPipeError)

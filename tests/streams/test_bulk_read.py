"""What holds once a pipe has brought much, and reads go on until nothing is there."""

from __future__ import annotations

import gc
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.waiting import DEADLINE, until_blocked

from penstock.streams.fd_streams import FdReader, FdWriter
from penstock.system.fds import duplicate, is_open, open_read, open_write, pipe

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    from penstock.system.fds import Fd


PAGE = 4096


def long_pipe() -> tuple[FdReader, Fd]:
    """A reader that has seen much, of a pipe that is empty."""
    source, sink = pipe()
    reader = FdReader(source, owned_description=True)
    os.write(sink.fileno(), bytes(2 * PAGE))
    assert reader.read(2 * PAGE) == bytes(2 * PAGE)
    assert reader._descriptor._read_bulk is not None
    return reader, sink


@settings(deadline=None, max_examples=40)
@given(
    pieces=st.lists(
        st.one_of(
            st.integers(1, 3 * PAGE),
            st.sampled_from([PAGE - 1, PAGE, PAGE + 1, 65535, 65536, 65537, 300_000]),
        ),
        max_size=30,
    ),
    chunk_size=st.sampled_from([1, 100, PAGE, 65536, 1 << 17]),
)
def test_every_byte_comes_once_and_in_order_whatever_the_sizes(pieces: list[int], chunk_size: int) -> None:
    source, sink = pipe()
    data = b"".join(bytes([place % 251]) * min(size, 40 * chunk_size) for place, size in enumerate(pieces))
    read: list[bytes] = []

    def write() -> None:
        with FdWriter(sink, owned_description=True) as writer:
            start = 0
            for size in pieces:
                writer.write(data[start : start + size])
                start += size

    writing = threading.Thread(target=write)
    writing.start()
    with FdReader(source, owned_description=True, chunk_size=chunk_size) as reader:
        read.extend(reader.chunks())
        writing.join()
        assert reader.count == len(data)
    assert b"".join(read) == data
    assert all(0 < len(chunk) <= chunk_size for chunk in read)


@pytest.mark.parametrize("size", [1, 100, PAGE - 1, PAGE, PAGE + 1, 50_000])
def test_available_bytes_are_not_held_back_until_more_come(size: int) -> None:
    reader, sink = long_pipe()
    with reader:
        for number in range(3):
            os.write(sink.fileno(), bytes([number]) * size)
            assert reader.read1() == bytes([number]) * size
        sink.close()
        assert reader.read1() == b""


def test_the_end_comes_after_the_last_bytes() -> None:
    reader, sink = long_pipe()
    with reader:
        os.write(sink.fileno(), b"last")
        sink.close()
        assert list(reader.chunks()) == [b"last"]
        assert reader.read1() == reader.read(5) == b""


@pytest.mark.parametrize("stop", ["interrupt", "close"])
def test_a_reader_that_waits_for_more_is_woken_and_its_descriptor_closed(
    threads: ThreadPoolExecutor, stop: str
) -> None:
    reader, sink = long_pipe()
    reason = KeyError("reason")
    reading = threads.submit(reader.read)
    until_blocked(reader)
    if stop == "interrupt":
        reader.interrupt(reason)
        assert reading.exception(DEADLINE) is reason
    reader.close()
    assert isinstance(reading.exception(DEADLINE), KeyError if stop == "interrupt" else ValueError)
    sink.close()


def test_stops_that_race_with_a_stream_at_full_speed_are_never_lost(threads: ThreadPoolExecutor) -> None:
    for turn in range(50):
        source, sink = pipe()
        reader = FdReader(source, owned_description=True)
        writer = FdWriter(sink, owned_description=True)
        reason = KeyError("reason")
        flowing = threading.Event()

        def write(writer: FdWriter = writer) -> None:
            while True:
                writer.write(bytes(PAGE))

        def read(reader: FdReader = reader, flowing: threading.Event = flowing) -> None:
            for _ in reader.chunks():
                if reader.count > 300_000:
                    flowing.set()

        jobs = threads.submit(write), threads.submit(read)
        assert flowing.wait(DEADLINE)
        if turn % 2:
            reader.interrupt(reason)
            assert jobs[1].exception(DEADLINE) is reason
        reader.close()
        assert isinstance(jobs[1].exception(DEADLINE), KeyError if turn % 2 else ValueError)
        assert isinstance(jobs[0].exception(DEADLINE), BrokenPipeError)
        assert source.closed
        writer.close()


def test_the_stranger_who_gets_the_number_next_keeps_it() -> None:
    reader, sink = long_pipe()
    number = reader._descriptor._fd.fileno()
    reader.close()
    other = duplicate(sink.fileno(), number)
    assert other.fileno() == number
    del reader
    gc.collect()
    assert is_open(number)
    other.close()
    sink.close()


def test_a_forked_copy_reads_nothing_of_the_stranger_who_has_its_number() -> None:
    reader, sink = long_pipe()
    reader._descriptor.may_grow = False  # nothing else of the descriptor is asked for
    number = reader._descriptor._fd.fileno()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.dup2(os.open("/dev/zero", os.O_RDONLY), number)
            reader.read1()
        except ValueError:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.write(sink.fileno(), b"ours")
    assert reader.read1() == b"ours"
    reader.close()
    sink.close()


def test_files_sockets_and_shared_descriptions_are_not_read_in_bulk(tmp_path: Path) -> None:
    data = bytes(10 * PAGE)
    with FdWriter(open_write(tmp_path / "file"), owned_description=True) as writer:
        writer.write(data)
    left, right = socket.socketpair()
    source, sink = pipe()
    with left, right:
        left.sendall(data)
        left.shutdown(socket.SHUT_WR)
        os.write(sink.fileno(), data)
        sink.close()
        for fd, owned in (
            (open_read(tmp_path / "file"), True),
            (duplicate(right.fileno()), True),
            (source, False),
        ):
            with FdReader(fd, owned_description=owned) as reader:
                assert reader.read() == data
                assert reader._descriptor._read_bulk is None

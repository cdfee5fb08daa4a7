"""What holds for streams over descriptors alone: whose flags they touch, and when the number is closed."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from tests.support.waiting import DEADLINE, until_blocked

from penstock.streams import fd_streams
from penstock.streams.fd_streams import FdReader, FdWriter
from penstock.system import features, system_calls
from penstock.system.fds import (
    Fd,
    duplicate,
    is_nonblocking,
    null,
    open_read,
    open_write,
    pipe,
    set_nonblocking,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path


MEBIBYTE = 1024 * 1024


def test_only_a_description_of_our_own_is_made_non_blocking() -> None:
    for owned in (True, False):
        source, sink = pipe()
        with (
            FdReader(source, owned_description=owned) as reader,
            FdWriter(sink, owned_description=owned) as writer,
        ):
            writer.write(b"x" * 10_000)
            assert reader.read(10_000) == b"x" * 10_000
            assert is_nonblocking(source.fileno()) is owned
            assert is_nonblocking(sink.fileno()) is owned


@pytest.mark.parametrize("owned", [True, False])
def test_closing_the_stream_closes_the_descriptor(owned: bool) -> None:  # noqa: FBT001
    source, sink = pipe()
    FdReader(source, owned_description=owned).close()
    FdWriter(sink, owned_description=owned).close()
    assert source.closed
    assert sink.closed


def test_a_descriptor_in_use_is_closed_by_the_thread_that_uses_it(
    threads: ThreadPoolExecutor,
) -> None:
    source, sink = pipe()
    reader = FdReader(source, owned_description=True)
    in_call, let_go = threading.Event(), threading.Event()

    def slow_read(number: int, size: int) -> bytes:
        in_call.set()
        assert let_go.wait(DEADLINE)
        return os.read(number, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system_calls, "read", slow_read)
        reading = threads.submit(reader.read1)
        assert in_call.wait(DEADLINE)
        os.write(sink.fileno(), b"late")
        reader.close()
        assert not source.closed
        let_go.set()
        assert reading.result(DEADLINE) == b"late"
    assert source.closed
    sink.close()


def test_closes_and_reads_that_race_close_the_descriptor_once_and_always(threads: ThreadPoolExecutor) -> None:
    for _ in range(200):
        source, sink = pipe()
        reader = FdReader(source, owned_description=True)
        start = threading.Barrier(3)

        def read(start: threading.Barrier = start, reader: FdReader = reader) -> None:
            start.wait(DEADLINE)
            reader.read()

        def close(start: threading.Barrier = start, reader: FdReader = reader) -> None:
            start.wait(DEADLINE)
            reader.close()

        reading, *closing = threads.submit(read), threads.submit(close), threads.submit(close)
        assert isinstance(reading.exception(DEADLINE), ValueError)
        for job in closing:
            job.result(DEADLINE)
        assert source.closed
        sink.close()


@pytest.mark.parametrize("eventfd", [features.EVENTFD, False])
def test_a_blocked_stream_is_woken_with_and_without_eventfd(
    threads: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    eventfd: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(features, "EVENTFD", eventfd)
    source, sink = pipe()
    reason = KeyError("reason")
    with FdReader(source, owned_description=True) as reader:
        reading = threads.submit(reader.read)
        until_blocked(reader)
        reader.interrupt(reason)
        assert reading.exception(DEADLINE) is reason
    sink.close()


def test_no_waker_is_made_if_no_call_blocks() -> None:
    source, sink = pipe()
    with FdReader(source, owned_description=True) as reader, FdWriter(sink, owned_description=True) as writer:
        writer.write(b"line\n")
        assert reader.readline() == b"line\n"
        assert reader._descriptor._waker is None
        assert writer._descriptor._waker is None


def test_a_stream_survives_when_no_descriptor_is_left_for_its_waker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, sink = pipe()

    def fail() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with FdReader(source, owned_description=True) as reader, FdWriter(sink, owned_description=True) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(fd_streams, "Waker", fail)
            with pytest.raises(OSError, match="open files"):
                reader.read1()
        writer.write(b"x")
        assert reader.read1() == b"x"


def test_epipe_comes_as_the_kernel_gave_it_and_count_says_what_was_written(
    threads: ThreadPoolExecutor,
) -> None:
    source, sink = pipe()
    writer = FdWriter(sink, owned_description=True)
    writing = threads.submit(writer.write, bytes(MEBIBYTE))
    until_blocked(writer)
    source.close()
    error = writing.exception(DEADLINE)
    assert type(error) is BrokenPipeError
    assert error.errno == errno.EPIPE
    assert 0 < writer.count < MEBIBYTE
    writer.close()


@pytest.mark.parametrize("owned", [True, False])
def test_a_regular_file_is_written_and_read_whole(tmp_path: Path, owned: bool) -> None:  # noqa: FBT001
    data = bytes(range(256)) * 1000
    with FdWriter(open_write(tmp_path / "file"), owned_description=owned) as writer:
        assert writer.write(data) == len(data)
        assert writer._descriptor._waker is None
    with FdReader(open_read(tmp_path / "file"), owned_description=owned) as reader:
        assert reader.readinto(bytearray(10)) == 10
        assert reader.read() == data[10:]
        assert reader._descriptor._waker is None


@pytest.mark.parametrize("owned", [True, False])
@pytest.mark.parametrize("nonblocking", [True, False])
def test_sockets_work_too(
    threads: ThreadPoolExecutor,
    owned: bool,  # noqa: FBT001
    nonblocking: bool,  # noqa: FBT001
) -> None:
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(not nonblocking)
        right.setblocking(not nonblocking)
        writer = FdWriter(duplicate(left.fileno()), owned_description=owned)
        reader = FdReader(duplicate(right.fileno()), owned_description=owned)
        with writer, reader:
            writing = threads.submit(writer.write, bytes(MEBIBYTE))
            assert reader.read(MEBIBYTE) == bytes(MEBIBYTE)
            assert writing.result(DEADLINE) == MEBIBYTE


def test_a_terminal_is_read_and_written() -> None:
    main, side = os.openpty()
    with (
        FdReader(Fd(side), owned_description=False) as reader,
        FdWriter(Fd(main), owned_description=False) as writer,
    ):
        writer.write(b"typed\n")
        assert reader.readline() == b"typed\n"


@pytest.mark.parametrize("owned", [True, False])
@pytest.mark.parametrize("method", ["chunks", "read", "lines"])
def test_a_terminal_is_not_read_past_its_end(method: str, owned: bool) -> None:  # noqa: FBT001
    """There each end is for one read: the next one would wait for more to be typed."""
    main, side = os.openpty()
    with (
        FdWriter(Fd(main), owned_description=owned) as writer,
        FdReader(Fd(side), owned_description=owned) as reader,
    ):
        writer.write(b"typed\n\x04")
        read: dict[str, Callable[[], list[bytes]]] = {
            "chunks": lambda: list(reader.chunks()),
            "read": lambda: [reader.read()],
            "lines": lambda: list(reader),
        }
        assert read[method]() == [b"typed\n"]
        assert reader.read1() == b""


@pytest.mark.gotcha(17)
def test_a_shared_blocking_pipe_gets_no_more_than_fits(
    threads: ThreadPoolExecutor,
) -> None:
    """Else the write would block in the kernel, where no interrupt reaches it."""
    source, sink = pipe()
    writer = FdWriter(sink, owned_description=False)
    sizes: list[int] = []

    def write(number: int, data: bytes) -> int:
        sizes.append(len(data))
        return os.write(number, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system_calls, "write", write)
        writing = threads.submit(writer.write, bytes(MEBIBYTE))
        until_blocked(writer)
        writer.interrupt(KeyError("reason"))
        assert isinstance(writing.exception(DEADLINE), KeyError)
    assert max(sizes, default=0) <= select.PIPE_BUF
    writer.close()
    source.close()


def test_an_error_of_the_kernel_comes_through() -> None:
    with (
        FdReader(null(writable=True), owned_description=True) as reader,
        pytest.raises(OSError, match="Bad file"),
    ):
        reader.read()
    with (
        FdWriter(null(writable=False), owned_description=True) as writer,
        pytest.raises(OSError, match="Bad file"),
    ):
        writer.write(b"x")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110 - evaluated at import
@pytest.mark.parametrize("owned", [True, False])
def test_a_full_device_is_enospc(owned: bool) -> None:  # noqa: FBT001
    writer = FdWriter(open_write("/dev/full"), owned_description=owned)
    with writer, pytest.raises(OSError, match="No space left"):
        writer.write(b"x")
    assert writer.count == 0


def test_a_pipe_that_was_non_blocking_before_is_left_so() -> None:
    source, sink = pipe()
    set_nonblocking(source.fileno())
    with (
        FdReader(source, owned_description=False) as reader,
        FdWriter(sink, owned_description=False) as writer,
    ):
        writer.write(b"x")
        assert reader.read(1) == b"x"
        assert is_nonblocking(source.fileno())
        assert not is_nonblocking(sink.fileno())

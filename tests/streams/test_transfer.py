"""The copy ladder over every pair of descriptors, down every rung; waking and closing it from outside."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import stat
import threading
import time
import tty
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.waiting import DEADLINE, until

from penstock.streams.buffer_pool import BufferPool
from penstock.streams.copy_methods import choose_methods, methods_for
from penstock.streams.transfer import Transfer
from penstock.system import features, system_calls
from penstock.system.fds import Fd, duplicate, open_read, open_write, pipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import ThreadPoolExecutor

ALL = frozenset({"splice", "sendfile", "copy-file-range"})
SWITCHES = ["COPY_FILE_RANGE", "SENDFILE", "SPLICE"]
BEFORE = b"what stood there before"


class Source(NamedTuple):
    fd: Fd
    write: Fd | None  # where the bytes go in; None where they are there already


class Sink(NamedTuple):
    fd: Fd
    read: Fd | None  # where they come out
    path: Path | None = None
    before: bytes = b""


def _socket_pair(kind: str) -> tuple[Fd, Fd]:
    if kind == "unix":
        one, other = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            one = socket.create_connection(server.getsockname())
            other = server.accept()[0]
    return Fd(one.detach()), Fd(other.detach())


def _source(kind: str, data: bytes, folder: Path) -> Source:
    if kind == "pipe":
        return Source(*pipe())
    if kind in ("file", "offset"):
        head = BEFORE if kind == "offset" else b""
        (folder / "source").write_bytes(head + data)
        fd = open_read(folder / "source")
        os.lseek(fd.fileno(), len(head), os.SEEK_SET)
        return Source(fd, None)
    return Source(*_socket_pair(kind))


def _sink(kind: str, folder: Path) -> Sink:
    if kind == "pipe":
        reader, writer = pipe()
        return Sink(writer, reader)
    if kind in ("file", "offset", "append"):
        path = folder / "sink"
        path.write_bytes(b"" if kind == "file" else BEFORE)
        before = path.read_bytes()
        fd = open_write(path, append=True) if kind == "append" else Fd(os.open(path, os.O_RDWR))
        if kind == "offset":
            os.lseek(fd.fileno(), len(before), os.SEEK_SET)
        return Sink(fd, None, path, before)
    if kind == "null":
        return Sink(open_write(os.devnull), None)
    if kind == "pty":
        controller, terminal = pty.openpty()
        tty.setraw(terminal)
        return Sink(Fd(terminal), Fd(controller))
    return Sink(*_socket_pair(kind))


def _write_all(fd: Fd, data: bytes) -> None:
    try:
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                done += os.write(fd.fileno(), view[done:])
    finally:
        fd.close()


def _read_all(fd: Fd, *, until: int | None = None) -> bytes:
    found: list[bytes] = []
    size = 0
    try:
        while until is None or size < until:
            piece = os.read(fd.fileno(), 65536)
            if not piece:
                break
            found.append(piece)
            size += len(piece)
    finally:
        fd.close()
    return b"".join(found)


def _carry(
    threads: ThreadPoolExecutor, source: Source, sink: Sink, data: bytes, *, owned: bool, pool: BufferPool
) -> tuple[Transfer, bytes | None]:
    """Run a transfer of `data`; return what came out, None for /dev/null."""
    terminal = sink.read is not None and stat.S_ISCHR(os.fstat(sink.read.fileno()).st_mode)
    transfer = Transfer(source.fd, sink.fd, source_owned=owned, sink_owned=owned, pool=pool)
    feeding = None if source.write is None else threads.submit(_write_all, source.write, data)
    reading = None
    if sink.read is not None:
        # The end of a terminal is an error, and may drop what was not read.
        reading = threads.submit(_read_all, sink.read, until=len(data) if terminal else None)
    try:
        assert transfer.run() == len(data)
        if terminal and reading is not None:
            reading.result(DEADLINE)
    finally:
        transfer.close()
    assert transfer.count == len(data)
    if feeding is not None:
        feeding.result(DEADLINE)
    if reading is not None:
        return transfer, reading.result(DEADLINE)
    if sink.path is None:
        return transfer, None
    found = sink.path.read_bytes()
    assert found.startswith(sink.before)
    return transfer, found[len(sink.before) :]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give one folder to all examples."""
    return tmp_path_factory.mktemp("ladder")


@pytest.mark.slow
@pytest.mark.parametrize("sink_kind", ["pipe", "file", "offset", "append", "null", "pty", "unix", "tcp"])
@pytest.mark.parametrize("source_kind", ["pipe", "file", "offset", "unix", "tcp"])
def test_every_pair_carries_random_data(
    source_kind: str, sink_kind: str, threads: ThreadPoolExecutor, folder: Path
) -> None:
    """What goes in comes out, whoever owns the descriptions, down whichever rung."""

    @settings(max_examples=8, deadline=None, database=None)
    @given(
        piece=st.binary(max_size=500),
        times=st.sampled_from([0, 1, 7, 900]),
        flags=st.sampled_from(["owned", "borrowed", "borrowed and non-blocking"]),
        off=st.integers(0, len(SWITCHES)),
        size=st.sampled_from([1021, 65536]),
    )
    def carry(piece: bytes, times: int, flags: str, off: int, size: int) -> None:
        data = piece * times
        with pytest.MonkeyPatch.context() as patch:
            for name in SWITCHES[:off]:
                patch.setattr(features, name, False)
            source, sink = _source(source_kind, data, folder), _sink(sink_kind, folder)
            if flags == "borrowed and non-blocking":
                os.set_blocking(source.fd.fileno(), False)
                os.set_blocking(sink.fd.fileno(), False)
            owned = flags == "owned"
            _, found = _carry(threads, source, sink, data, owned=owned, pool=BufferPool(size))
        assert found is None or found == data

    carry()


@pytest.mark.parametrize(
    ("source_kind", "sink_kind", "expected"),
    [
        ("file", "file", ["copy-file-range", "sendfile", "pooled"]),
        ("file", "append", ["pooled"]),
        ("file", "pipe", ["splice", "sendfile", "pooled"]),
        ("file", "tcp", ["sendfile", "pooled"]),
        ("file", "null", ["sendfile", "pooled"]),
        ("pipe", "pipe", ["splice", "pooled"]),
        ("pipe", "file", ["splice", "pooled"]),
        ("pipe", "append", ["pooled"]),
        ("pipe", "tcp", ["pooled"]),
        ("pipe", "unix", ["pooled"]),
        ("pipe", "pty", ["splice", "pooled"]),
        ("pipe", "null", ["splice", "pooled"]),
        ("tcp", "pipe", ["splice", "pooled"]),
        ("tcp", "file", ["pooled"]),
        ("tcp", "unix", ["pooled"]),
    ],
)
def test_each_rung_is_used_when_the_better_ones_are_off(
    source_kind: str, sink_kind: str, expected: list[str], threads: ThreadPoolExecutor, folder: Path
) -> None:
    """The rungs of a pair are these, and each of them carries the bytes and gives its name."""
    data = os.urandom(300_000)
    names = {"copy-file-range": "COPY_FILE_RANGE", "sendfile": "SENDFILE", "splice": "SPLICE"}
    with pytest.MonkeyPatch.context() as patch:
        for place, rung in enumerate(expected):
            source, sink = _source(source_kind, data, folder), _sink(sink_kind, folder)
            assert methods_for(source.fd.fileno(), sink.fd.fileno()) == expected[place:]
            transfer, found = _carry(threads, source, sink, data, owned=True, pool=BufferPool())
            # A terminal may poll as ready and yet take nothing, again and again; then the step down is right.
            assert transfer.kind in (expected[place:] if sink_kind == "pty" else [rung])
            assert found is None or found == data
            if rung in names:
                patch.setattr(features, names[rung], False)


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("sink", ["file", "pipe", "socket", "other"])
@pytest.mark.parametrize("source", ["file", "pipe", "socket", "other"])
def test_the_decision_keeps_the_kernels_rules(source: str, sink: str, *, append: bool) -> None:
    """Pooled is last; splice has a pipe; sendfile reads a file; O_APPEND gets none of them but a pipe."""
    found = choose_methods(source, sink, append=append, movers=ALL)
    assert found[-1] == "pooled"
    assert "splice" not in found or "pipe" in (source, sink)
    assert "sendfile" not in found or source == "file"
    assert "copy-file-range" not in found or (source, sink) == ("file", "file")
    assert not append or sink == "pipe" or found == ["pooled"]
    assert choose_methods(source, sink, append=append, movers=()) == ["pooled"]


def test_a_file_that_does_not_know_its_size_is_read_to_its_end(tmp_path: Path) -> None:
    """The first 0 of a mover is not believed: files of /proc have no size."""
    if not features.PROCFS:
        pytest.skip("no procfs here")
    transfer = Transfer(
        open_read("/proc/version"), open_write(tmp_path / "sink"), source_owned=True, sink_owned=True
    )
    transfer.run()
    transfer.close()
    assert (tmp_path / "sink").read_bytes() == Path("/proc/version").read_bytes()


def test_borrowed_descriptions_keep_their_flags(threads: ThreadPoolExecutor, folder: Path) -> None:
    """A blocking descriptor of the caller's still blocks afterwards."""
    source, sink = _source("pipe", b"", folder), _sink("pipe", folder)
    kept = duplicate(source.fd.fileno()), duplicate(sink.fd.fileno())
    try:
        transfer = Transfer(source.fd, sink.fd, source_owned=False, sink_owned=False)
        assert source.write is not None
        feeding = threads.submit(_write_all, source.write, b"x" * 10)
        transfer.run()
        transfer.close()
        feeding.result(DEADLINE)
        assert all(os.get_blocking(fd.fileno()) for fd in kept)
    finally:
        for fd in (*kept, sink.read):
            if fd is not None:
                fd.close()


BLOCKED = [
    ("pipe", "pipe"),
    ("pipe", "tcp"),
    ("pipe", "unix"),
    ("tcp", "pipe"),
    ("unix", "pipe"),
    ("tcp", "tcp"),
    ("file", "tcp"),
    ("file", "pipe"),
]


def _until_it_sleeps(transfer: Transfer) -> None:
    # The poll with the waker is made for the first sleep; a wake-up from then on is not lost.
    until(lambda: transfer._source.poll is not None or transfer._sink.poll is not None)


@contextlib.contextmanager
def open_and_close(*fds: Fd | None) -> Iterator[None]:
    """Close them at the end, whatever happens."""
    try:
        yield
    finally:
        for fd in fds:
            if fd is not None:
                fd.close()


@pytest.mark.parametrize("how", ["interrupt", "close"])
@pytest.mark.parametrize("owned", [True, False])
@pytest.mark.parametrize("side", ["source", "sink"])
@pytest.mark.parametrize(("source_kind", "sink_kind"), BLOCKED)
def test_a_blocked_transfer_wakes(
    source_kind: str,
    sink_kind: str,
    side: str,
    how: str,
    threads: ThreadPoolExecutor,
    tmp_path: Path,
    *,
    owned: bool,
) -> None:
    """An empty source or a full sink keeps nobody from being interrupted or closed, with the CPU at rest."""
    if side == "source" and source_kind == "file":
        return
    source = _source(source_kind, bytes(1 << 24), tmp_path)
    sink = _sink(sink_kind, tmp_path)
    reason = RuntimeError("enough")
    with open_and_close(source.write, sink.read):
        if side == "sink" and source.write is not None:
            os.set_blocking(source.write.fileno(), False)
        transfer = Transfer(source.fd, sink.fd, source_owned=owned, sink_owned=owned)
        running = threads.submit(transfer.run)
        _until_it_sleeps(transfer)
        if side == "sink" and source.write is not None:
            _fill_until_blocked(transfer, source.write)
        if how == "interrupt":
            transfer.interrupt(reason)
            assert running.exception(DEADLINE) is reason
            with pytest.raises(RuntimeError, match="enough"):
                transfer.run()
        transfer.close()
        error = running.exception(DEADLINE)
        assert error is reason or isinstance(error, ValueError)
        assert source.fd.closed
        assert sink.fd.closed


def _fill_until_blocked(transfer: Transfer, fd: Fd) -> None:
    """Write until nothing goes any more, and the sink is what the transfer waits for."""
    deadline = time.monotonic() + DEADLINE
    while transfer._sink.poll is None:
        assert time.monotonic() < deadline, "the sink never filled"
        with contextlib.suppress(BlockingIOError):
            os.write(fd.fileno(), bytes(65536))
        os.sched_yield()


@pytest.mark.gotcha(17)
def test_a_full_pipe_does_not_spin(threads: ThreadPoolExecutor, tmp_path: Path) -> None:
    """While the sink is full and the source is not empty, the thread sleeps: a handful of calls are made."""
    calls = 0
    real = os.splice

    def counted(source: int, sink: int, length: int, *, flags: int) -> int:
        nonlocal calls
        calls += 1
        return real(source, sink, length, flags=flags)

    source, sink = _source("pipe", b"", tmp_path), _sink("pipe", tmp_path)
    with open_and_close(source.write, sink.read), pytest.MonkeyPatch.context() as patch:
        patch.setattr(system_calls, "splice", counted)
        assert source.write is not None
        os.set_blocking(source.write.fileno(), False)
        transfer = Transfer(source.fd, sink.fd, source_owned=True, sink_owned=True)
        running = threads.submit(transfer.run)
        _fill_until_blocked(transfer, source.write)
        before = calls
        threading.Event().wait(0.05)  # time in which a spinning thread would make thousands of calls
        assert calls - before < 20
        transfer.interrupt(RuntimeError("enough"))
        assert isinstance(running.exception(DEADLINE), RuntimeError)
        transfer.close()


@pytest.mark.parametrize("off", [False, True])
@pytest.mark.parametrize("sink_kind", ["pipe", "unix"])
def test_a_reader_that_has_gone_is_a_broken_pipe(
    sink_kind: str, threads: ThreadPoolExecutor, tmp_path: Path, *, off: bool
) -> None:
    """EPIPE comes up as it is, from every rung."""
    source, sink = _source("pipe", b"", tmp_path), _sink(sink_kind, tmp_path)
    assert source.write is not None
    assert sink.read is not None
    sink.read.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "SPLICE", features.SPLICE and not off)
        transfer = Transfer(source.fd, sink.fd, source_owned=True, sink_owned=True)
        feeding = threads.submit(_write_all, source.write, b"x" * 100)
        with pytest.raises(BrokenPipeError):
            transfer.run()
        transfer.close()
    feeding.result(DEADLINE)


def test_the_count_can_be_read_while_it_runs(threads: ThreadPoolExecutor, tmp_path: Path) -> None:
    """Another thread sees how far it is."""
    source, sink = _source("pipe", b"", tmp_path), _sink("pipe", tmp_path)
    assert source.write is not None
    assert sink.read is not None
    transfer = Transfer(source.fd, sink.fd, source_owned=True, sink_owned=True)
    running = threads.submit(transfer.run)
    os.write(source.write.fileno(), b"12345")
    assert os.read(sink.read.fileno(), 100) == b"12345"
    until(lambda: transfer.count == 5)
    source.write.close()
    assert running.result(DEADLINE) == 5
    transfer.close()
    sink.read.close()


@pytest.mark.parametrize("off", [False, True])
def test_the_end_of_the_source_is_seen_though_the_sink_is_full(
    threads: ThreadPoolExecutor, tmp_path: Path, *, off: bool
) -> None:
    """What came in has gone out, so that the reader need not make room for the transfer to end."""
    source, sink = _source("pipe", b"", tmp_path), _sink("pipe", tmp_path)
    assert source.write is not None
    os.set_blocking(sink.fd.fileno(), False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(sink.fd.fileno(), bytes(4096))
    with open_and_close(sink.read), pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "SPLICE", features.SPLICE and not off)
        transfer = Transfer(source.fd, sink.fd, source_owned=True, sink_owned=True)
        source.write.close()
        assert threads.submit(transfer.run).result(DEADLINE) == 0
        transfer.close()

"""The kernel's movers, one call at a time."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from penstock.system import features, splice
from penstock.system.fds import Fd, open_both, open_read, open_write, pipe, pipe_capacity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MOVERS = {
    "splice": splice.splice,
    "sendfile": splice.sendfile,
    "copy-file-range": splice.copy_file_range,
}
SWITCHES = {"splice": "SPLICE", "sendfile": "SENDFILE", "copy-file-range": "COPY_FILE_RANGE"}


@pytest.fixture
def file(tmp_path: Path) -> Iterator[tuple[Fd, Fd]]:
    """Give a source with ten bytes and an empty sink."""
    (tmp_path / "source").write_bytes(b"0123456789")
    source, sink = open_read(tmp_path / "source"), open_write(tmp_path / "sink")
    yield source, sink
    source.close()
    sink.close()


@pytest.mark.parametrize("name", ["sendfile", "copy-file-range"])
def test_a_mover_goes_on_at_both_positions(name: str, file: tuple[Fd, Fd], tmp_path: Path) -> None:
    """Each call begins where the last one ended, and the end of the file is 0."""
    if name not in splice.movers():
        pytest.skip(f"no {name} here")
    source, sink = file[0].fileno(), file[1].fileno()
    assert [MOVERS[name](source, sink, 4) for _ in range(4)] == [4, 4, 2, 0]
    assert (tmp_path / "sink").read_bytes() == b"0123456789"


@pytest.mark.skipif(not features.SPLICE, reason="no splice here")
def test_splice_never_waits_for_a_pipe() -> None:
    """An empty pipe is EAGAIN though it is a blocking one; so is a full one; no writer is EOF."""
    ends = pipe(), pipe()
    (source, writer), (reader, sink) = ends
    try:
        with pytest.raises(BlockingIOError):
            splice.splice(source.fileno(), sink.fileno(), 10)
        os.write(writer.fileno(), b"x" * 4096)
        os.set_blocking(sink.fileno(), False)
        while select.select([], [sink.fileno()], [], 0)[1]:
            os.write(sink.fileno(), b"y" * 4096)
        os.set_blocking(sink.fileno(), True)
        with pytest.raises(BlockingIOError):
            splice.splice(source.fileno(), sink.fileno(), 10)
        os.read(source.fileno(), 4096)
        os.read(reader.fileno(), 4096)
        writer.close()
        assert splice.splice(source.fileno(), sink.fileno(), 10) == 0
    finally:
        for fd in (source, writer, reader, sink):
            fd.close()


@pytest.mark.parametrize("name", MOVERS)
def test_a_mover_that_is_switched_off_is_as_on_a_kernel_without_it(
    name: str, file: tuple[Fd, Fd], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not listed, and it fails with ENOSYS, which is a reason to step down."""
    monkeypatch.setattr(features, SWITCHES[name], False)
    assert name not in splice.movers()
    move: Callable[[int, int, int], int] = MOVERS[name]
    with pytest.raises(OSError, match=os.strerror(errno.ENOSYS)) as caught:
        move(file[0].fileno(), file[1].fileno(), 4)
    assert splice.cannot(caught.value)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EINVAL, errno.EXDEV, errno.EOPNOTSUPP, errno.EPERM])
def test_refusals_are_reasons_to_step_down(number: int) -> None:
    """The kernel cannot do this pair."""
    assert splice.cannot(OSError(number, ""))


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EPIPE, errno.ENOSPC, errno.ECONNRESET, errno.EFBIG])
def test_other_errors_are_not(number: int) -> None:
    """They are met by every rung alike."""
    assert not splice.cannot(OSError(number, ""))


@pytest.mark.skipif(not features.COPY_FILE_RANGE, reason="no copy_file_range here")
def test_an_append_file_is_refused_by_a_reason_to_step_down(file: tuple[Fd, Fd], tmp_path: Path) -> None:
    """copy_file_range says EBADF there."""
    sink = open_write(tmp_path / "sink", append=True)
    try:
        with pytest.raises(OSError, match=r"\S") as caught:
            splice.copy_file_range(file[0].fileno(), sink.fileno(), 4)
        assert splice.cannot(caught.value)
    finally:
        sink.close()


needs_tee = pytest.mark.skipif(not features.TEE, reason="no tee here")


@pytest.fixture
def pipes() -> Iterator[tuple[Fd, Fd, Fd, Fd]]:
    """Give the ends of two pipes: reader and writer of the source, reader and writer of the sink."""
    ends = (*pipe(), *pipe())
    yield ends
    for fd in ends:
        fd.close()


@needs_tee
def test_tee_leaves_the_bytes_in_the_source(pipes: tuple[Fd, Fd, Fd, Fd]) -> None:
    """It begins with the first one each time, and takes no more than it was told."""
    source, writer, reader, sink = pipes
    os.write(writer.fileno(), b"abc")
    assert splice.tee(source.fileno(), sink.fileno(), 2) == 2
    assert splice.tee(source.fileno(), sink.fileno(), 10) == 3
    assert os.read(reader.fileno(), 10) == b"ababc"
    assert os.read(source.fileno(), 10) == b"abc"


@needs_tee
def test_tee_never_waits(pipes: tuple[Fd, Fd, Fd, Fd]) -> None:
    """An empty source is EAGAIN though both pipes block; so is a full sink; no writer is EOF."""
    source, writer, reader, sink = pipes
    with pytest.raises(BlockingIOError):
        splice.tee(source.fileno(), sink.fileno(), 10)
    os.write(writer.fileno(), b"x")
    for _ in range(pipe_capacity(sink.fileno()) // os.sysconf("SC_PAGE_SIZE")):
        assert splice.tee(source.fileno(), sink.fileno(), 10) == 1
    with pytest.raises(BlockingIOError):  # though it holds so few bytes
        splice.tee(source.fileno(), sink.fileno(), 10)
    os.read(reader.fileno(), 4096)
    os.read(source.fileno(), 10)
    writer.close()
    assert splice.tee(source.fileno(), sink.fileno(), 10) == 0


@needs_tee
def test_tee_to_a_pipe_without_a_reader_does_not_end_a_host_that_sigpipe_would_end(
    pipes: tuple[Fd, Fd, Fd, Fd],
) -> None:
    """It raises BrokenPipeError, and no signal is left."""
    source, writer, reader, sink = pipes
    os.write(writer.fileno(), b"abc")
    reader.close()
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        with pytest.raises(BrokenPipeError):
            splice.tee(source.fileno(), sink.fileno(), 10)
        assert signal.SIGPIPE not in signal.sigpending()
    finally:
        signal.signal(signal.SIGPIPE, before)


@needs_tee
def test_tee_refuses_a_file(pipes: tuple[Fd, Fd, Fd, Fd], file: tuple[Fd, Fd]) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        splice.tee(pipes[0].fileno(), file[1].fileno(), 10)


@needs_tee
@pytest.mark.parametrize("missing", ["switch", "module"])
def test_tee_may_be_missing(
    missing: str, pipes: tuple[Fd, Fd, Fd, Fd], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Switched off, or not in the C library: ENOSYS, and then it is switched off."""
    monkeypatch.setattr(features, "TEE", missing == "module")
    if missing == "module":
        monkeypatch.setitem(sys.modules, "penstock.system.tee_ctypes", None)
        monkeypatch.delattr("penstock.system.tee_ctypes", raising=False)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSYS)):
        splice.tee(pipes[0].fileno(), pipes[3].fileno(), 10)
    assert not features.TEE


@needs_tee
def test_only_a_pipe_without_a_name_may_be_teed(
    pipes: tuple[Fd, Fd, Fd, Fd], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens a name can read what tee leaves in the source."""
    os.mkfifo(tmp_path / "name")
    named = open_both(tmp_path / "name")
    assert splice.can_tee(pipes[0].fileno())
    assert not splice.can_tee(named.fileno())
    named.close()
    monkeypatch.setattr(features, "PROCFS", False)
    assert not splice.can_tee(pipes[0].fileno())

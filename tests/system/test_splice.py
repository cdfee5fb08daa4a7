"""The kernel's movers, one call at a time."""

from __future__ import annotations

import errno
import os
import select
from typing import TYPE_CHECKING

import pytest

from penstock.system import features, splice
from penstock.system.fds import Fd, open_read, open_write, pipe

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

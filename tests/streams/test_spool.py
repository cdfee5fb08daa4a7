"""The queues that hold what a reader does not take yet: order, accounting, disk, limits."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import PenstockError, SpoolLimitExceeded
from penstock.streams import spool
from penstock.streams.spool import SpoolBudget, SpoolQueue
from penstock.system import unnamed_file
from penstock.system.unnamed_file import free_bytes, open_unnamed, storage_folder

SIZES = st.sampled_from([0, 1, 7, 100, 4095, 4096, 5000, 70_000])


def _take(queue: SpoolQueue, size: int) -> bytes:
    """Remove up to `size` bytes, in as many pieces as the queue has them."""
    pieces = []
    while size and len(queue):
        with queue.peek(size) as data:
            assert 0 < len(data) <= size
            pieces.append(bytes(data))
        queue.drop(len(pieces[-1]))
        size -= len(pieces[-1])
    return b"".join(pieces)


@given(
    steps=st.lists(st.tuples(st.booleans(), SIZES), max_size=60),
    memory=st.sampled_from([0, 10_000, 1 << 30]),
    window=st.sampled_from([0, 5000, 1 << 18]),
    segment=st.sampled_from([1, 10_000, 1 << 26]),
)
def test_bytes_come_out_in_order(
    steps: list[tuple[bool, int]], memory: int, window: int, segment: int
) -> None:
    """Whatever is in memory and whatever on disk; and the budget is empty in the end."""
    budget = SpoolBudget(1 << 30, memory)
    queue = SpoolQueue(budget, window)
    model = bytearray()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "_SEGMENT_BYTES", segment)
        for number, (adds, size) in enumerate(steps):
            if adds:
                data = bytes([number]) * size
                queue.append(data)
                model += data
            else:
                assert _take(queue, size) == model[:size]
                del model[:size]
            assert len(queue) == len(model)
            assert max(0, len(model) - window) <= budget.held <= len(model)
        half = len(model) // 2
        assert _take(queue, half) == model[:half]
        queue.close()
        queue.close()
    assert budget.held == 0
    assert len(queue) == 0


def test_a_chunk_is_kept_as_it_is() -> None:
    """In memory there is no copy."""
    queue = SpoolQueue(SpoolBudget())
    data = bytes(100_000)
    queue.append(data)
    with queue.peek(1 << 20) as view:
        assert view.obj is data
    queue.drop(99_999)
    assert len(queue) == 1
    with pytest.raises(ValueError, match="peek"):
        queue.drop(2)
    queue.close()


def test_a_buffer_of_the_caller_is_not_written_to() -> None:
    """Small chunks are joined, but only to a chunk that the queue made itself."""
    queue = SpoolQueue(SpoolBudget())
    mine = bytearray(b"x" * 5000)
    for data in (mine, b"a", b"b"):
        queue.append(data)
    assert len(mine) == 5000
    assert _take(queue, 5002) == bytes(mine) + b"ab"


def test_many_small_chunks_cost_little_memory() -> None:
    queue = SpoolQueue(SpoolBudget())
    for _ in range(300_000):
        queue.append(b"x")
    assert len(queue._chunks) < 10
    assert _take(queue, 1 << 20) == b"x" * 300_000


def test_beyond_the_memory_bytes_go_to_files_that_are_freed_from_the_front(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spool, "_SEGMENT_BYTES", 1 << 20)
    monkeypatch.setattr(spool, "storage_folder", lambda: os.environ["TMPDIR"])
    budget = SpoolBudget(memory=1 << 20)
    queue = SpoolQueue(budget)
    chunks = [bytes([number]) * (1 << 18) for number in range(24)]
    for chunk in chunks:
        queue.append(chunk)
    assert budget.peak == budget.held == 6 << 20
    files = [segment.fd.fileno() for segment in queue._segments]
    assert len(files) == 5
    assert sum(os.fstat(file).st_size for file in files) == 5 << 20
    assert all(os.fstat(file).st_nlink == 0 for file in files)
    for chunk in chunks[:12]:
        assert _take(queue, 1 << 18) == chunk
    assert len(queue._segments) == 3
    for chunk in chunks[12:]:
        assert _take(queue, 1 << 18) == chunk
    assert sum(os.fstat(segment.fd.fileno()).st_size for segment in queue._segments) == 0
    assert budget.held == 0
    queue.append(b"in memory again")
    assert _take(queue, 100) == b"in memory again"
    queue.close()


def test_the_limit_is_of_the_run_and_given_back() -> None:
    budget = SpoolBudget(100, memory=50)
    one, other = SpoolQueue(budget), SpoolQueue(budget, window=10)
    one.append(bytes(50))
    other.append(bytes(50))  # to disk as a whole, although its window has room for a part
    with pytest.raises(SpoolLimitExceeded) as caught:
        one.append(b"x" * 50)
    assert len(one) == 50
    assert caught.value.limit == 100
    assert isinstance(caught.value, PenstockError)
    assert "100 bytes" in str(caught.value)
    assert "spool=" in str(caught.value)
    other.close()
    one.append(b"x" * 50)
    one.close()
    assert budget.held == 0


def test_the_window_is_not_counted() -> None:
    budget = SpoolBudget(0)
    queue = SpoolQueue(budget, window=1000)
    queue.append(bytes(1000))
    assert budget.forbids
    with pytest.raises(SpoolLimitExceeded):
        queue.append(b"x")
    assert _take(queue, 600) == bytes(600)
    queue.append(bytes(600))
    assert budget.held == budget.peak == 0
    queue.close()


def test_the_default_limit_leaves_half_of_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """But never less than the memory, which needs no disk."""
    for free, limit in ((1000, 500), (1 << 50, 10 << 30), (10, 100), (None, 100)):

        def free_bytes(folder: str, free: int | None = free) -> int:
            if free is None:
                raise FileNotFoundError(2, "no such folder", folder)
            return free

        monkeypatch.setattr(spool, "free_bytes", free_bytes)
        budget = SpoolBudget(memory=100)
        with pytest.raises(SpoolLimitExceeded) as caught:
            budget.reserve(1 << 60, 1 << 60)
        assert caught.value.limit == limit


def test_a_file_that_cannot_be_made_loses_no_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "storage_folder", lambda: "/no/such/folder")
    budget = SpoolBudget(1000, memory=0)
    queue = SpoolQueue(budget, window=10)
    queue.append(b"0123456789")
    with pytest.raises(FileNotFoundError):
        queue.append(b"x")
    assert budget.held == 0
    assert _take(queue, 100) == b"0123456789"
    queue.close()


def test_queues_of_several_threads_share_the_budget() -> None:
    budget = SpoolBudget(1 << 30, memory=1000)

    def fill_and_empty() -> None:
        queue = SpoolQueue(budget)
        for _ in range(200):
            queue.append(bytes(300))
            _take(queue, 250)
        queue.close()

    threads = [threading.Thread(target=fill_and_empty) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.held == 0
    assert budget._in_memory == 0
    assert "held=0" in repr(budget)


def test_the_folder_is_tmpdir_unless_that_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unnamed_file, "_is_in_memory", lambda _folder: False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert storage_folder() == str(tmp_path)
    monkeypatch.setattr(unnamed_file, "_is_in_memory", lambda _folder: True)
    assert storage_folder() == "/var/tmp"
    monkeypatch.setattr(unnamed_file, "_is_in_memory", lambda _folder: False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    assert storage_folder() == "/var/tmp"
    assert free_bytes(str(tmp_path)) > 0


def test_a_tmpfs_is_recognised() -> None:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    folders = [folder for _, folder, kind, *_ in mounts if kind == "tmpfs" and os.path.ismount(folder)]
    assert all(unnamed_file._is_in_memory(folder) for folder in folders)
    assert not unnamed_file._is_in_memory("/proc")


@pytest.mark.parametrize("unnamed", [True, False])
def test_the_file_has_no_name(*, unnamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the file system has no such files."""
    if not unnamed:
        monkeypatch.delattr(os, "O_TMPFILE")
    file = open_unnamed(str(tmp_path))
    assert not list(tmp_path.iterdir())
    assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600
    os.pwrite(file.fileno(), b"abc", 0)
    assert os.pread(file.fileno(), 10, 0) == b"abc"
    file.close()

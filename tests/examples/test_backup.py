"""A backup to two disks: the archive, its checksum, and what is left if something fails."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

from penstock import PipelineError
from penstock.examples import backup

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

CONTENT = os.urandom(1 << 20)
"""More than the pipes hold."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two files."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "large").write_bytes(CONTENT)
    (folder / "small").write_bytes(b"small\n")
    return folder


@pytest.fixture
def disks(tmp_path: Path) -> list[Path]:
    """Two empty folders."""
    found = [tmp_path / "disk-1", tmp_path / "disk-2"]
    for disk in found:
        disk.mkdir()
    return found


def unpacked(copy: Path, program: str) -> bytes:
    """Return the archive before its compression."""
    with copy.open("rb") as file:
        return subprocess.run([program, "-dc"], stdin=file, capture_output=True, check=True).stdout


@pytest.mark.parametrize("program", ["zstd", "gzip"])
def test_each_disk_has_the_whole_archive(
    folder: Path, disks: list[Path], monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """The same on both, with the checksum that was computed on the way."""
    if program == "gzip":
        monkeypatch.setattr(shutil, "which", lambda _program: None)
    elif backup.compressor()[0] != program:
        pytest.skip("zstd is not installed")
    copies = backup.targets(folder, disks)
    checksum = backup.back_up(folder, copies)
    assert backup.damaged(copies, checksum) == []
    for copy in copies:
        archive = unpacked(copy, program)
        assert hashlib.sha256(archive).hexdigest() == checksum
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            file = tar.extractfile("folder/large")
            assert file is not None
            assert file.read() == CONTENT


def test_a_copy_that_was_changed_is_found(folder: Path, disks: list[Path]) -> None:
    """A bit that flipped, and an end that was cut off."""
    for disk in disks:
        copies = backup.targets(folder, disks)
        checksum = backup.back_up(folder, copies)
        broken = disk / copies[0].name
        data = broken.read_bytes()
        broken.write_bytes(data[: len(data) // 2] if disk == disks[0] else data[:-20] + bytes(20))
        assert backup.damaged(copies, checksum) == [broken]


def test_a_failure_leaves_the_last_backup_on_all_disks(folder: Path, disks: list[Path]) -> None:
    """`tar` fails at the end, when nearly everything has been written."""
    copies = backup.targets(folder, disks)
    backup.back_up(folder, copies)
    before = [copy.read_bytes() for copy in copies]
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(PipelineError) as caught:
        backup.back_up(folder, copies)
    assert caught.value.stage == "tar"
    assert [copy.read_bytes() for copy in copies] == before
    assert [len(list(disk.iterdir())) for disk in disks] == [1, 1]


def test_the_program_says_what_it_has_written(folder: Path, disks: list[Path]) -> None:
    """A line for each copy; and a line about what is missing."""
    words = [sys.executable, "-m", "penstock.examples.backup", str(folder)]
    ended = subprocess.run([*words, *map(str, disks)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = [line.split("  ") for line in ended.stdout.splitlines()]
    assert [path for _, path in lines] == [str(copy) for copy in backup.targets(folder, disks)]
    assert all(len(checksum) == 64 for checksum, _ in lines)
    ended = subprocess.run([*words, str(folder / "no-disk")], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "no-disk" in ended.stderr
    assert ended.stderr.count("\n") == 1

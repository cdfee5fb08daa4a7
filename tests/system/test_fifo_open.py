"""Opening a FIFO: a wait for the other end that another thread can end at any moment."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from tests.support.waiting import DEADLINE

from penstock.system.fifo_open import Opening, is_fifo

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.system.fds import Fd


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """Make a FIFO."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("writing", [False, True], ids=["reading", "writing"])
def test_stop_ends_the_wait_whenever_it_comes(fifo: Path, writing: bool) -> None:  # noqa: FBT001
    """Before the open, in its middle, and after it; nothing stays open."""
    for _ in range(200):
        opening = Opening(fifo, writing=writing)
        opened: list[Fd | None] = []
        thread = threading.Thread(target=lambda opening=opening, to=opened: to.append(opening.open()))
        thread.start()
        opening.cancel()
        thread.join(DEADLINE)
        assert opened == [None]
        opening.cancel()


def test_two_that_open_both_ends_meet(fifo: Path) -> None:
    """Each has what it asked for."""
    ends: dict[bool, Fd | None] = {}
    openings = {writing: Opening(fifo, writing=writing) for writing in (False, True)}
    threads = [
        threading.Thread(target=lambda writing=writing: ends.update({writing: openings[writing].open()}))
        for writing in openings
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    reader, writer = ends[False], ends[True]
    assert reader is not None
    assert writer is not None
    os.write(writer.fileno(), b"x")
    writer.close()
    assert os.read(reader.fileno(), 10) == b"x"
    assert os.read(reader.fileno(), 10) == b""
    reader.close()


def test_paths_that_are_not_fifos(tmp_path: Path) -> None:
    """Files, folders, what is missing, and what can be no path."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path, tmp_path / "missing", "a\0b"):
        assert not is_fifo(path)

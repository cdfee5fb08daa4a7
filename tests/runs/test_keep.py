"""`keep`: what crosses each edge is kept in a file."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from penstock import CAPTURE, StartError, command, map_lines, reading, shared, tee

if TYPE_CHECKING:
    from pathlib import Path


def test_each_edge_has_a_file(tmp_path: Path) -> None:
    """In order of the edges, named after their ends; fused stages are taken apart."""
    folder = tmp_path / "kept"
    line = command("printf", "a\nb\n") | map_lines(bytes.upper) | map_lines(bytes.swapcase)
    assert line.run(stdout=CAPTURE, keep=folder).stdout == b"a\nb\n"
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert kept == {
        "01-printf-upper": b"a\nb\n",
        "02-upper-swapcase": b"A\nB\n",
        "03-swapcase-stdout": b"a\nb\n",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_graph_is_kept_too(tmp_path: Path) -> None:
    """It ends as it does without, though its branches meet again."""
    numbers = shared(command("seq", "-w", "100000"))
    graph = command("comm", "-12", reading(numbers | command("grep", "99999")), reading(numbers))
    result = (graph | tee(command("wc", "-l"))).run(stdout=CAPTURE, keep=tmp_path, timeout=30)
    assert result.stdout == b"099999\n"
    assert int(result.output("wc")) == 1
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes["01-shared_seq-grep"] == sizes["03-shared_seq-comm-reading_2"] == 700_000


def test_a_second_run_begins_the_files_anew(tmp_path: Path) -> None:
    for text in ("first and longer", "second"):
        command("printf", text).run(stdout=CAPTURE, keep=tmp_path)
        assert next(tmp_path.iterdir()).read_text() == text


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="keep"):
        command("true").run(keep=tmp_path / "file")

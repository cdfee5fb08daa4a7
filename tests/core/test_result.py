"""What a run leaves behind: how it reads, and that it can be sent elsewhere."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from penstock.core.errors import ExitError, PipelineError
from penstock.core.result import EdgeResult, Result, StageResult
from penstock.core.table import table

STAGES = (
    StageResult("seq", "command", pid=5, returncode=0, user_time=0.25, max_rss=3 * 2**20, elapsed=0.5),
    StageResult("upper", "function", error=ValueError("bad\nline"), elapsed=0.25),
    StageResult("sort", "command", pid=6, returncode=3, error=ExitError(3, ["sort"])),
)
ERROR = PipelineError("upper", STAGES[1].error or ValueError(), index=1)


def test_a_result_without_an_error_is_ok() -> None:
    """The verdict decides, not the stages: a forgiven error in a stage leaves the run a success."""
    assert Result(None, 0.1, STAGES, ()).ok
    assert not Result(ERROR, 0.1, STAGES, ()).ok


def test_returncodes_has_one_for_each_stage() -> None:
    """None for a Python stage."""
    assert Result(None, 0.1, STAGES, ()).returncodes == (0, None, 3)


def test_a_result_prints_as_a_small_table() -> None:
    """One line for the verdict, one for the header, one for each stage, whatever its error's text holds."""
    lines = str(Result(ERROR, 0.5, STAGES, ())).splitlines()
    assert lines[0].startswith("failed: upper: bad")
    rows = lines[-3:]
    assert [row.split()[0] for row in rows] == ["seq", "upper", "sort"]
    assert "3.0M" in rows[0]
    assert "bad line" in rows[1]
    assert "exit status 3" in rows[2]
    assert str(Result(None, 0.5, (), ())).startswith("ok (0.500s)")


def test_a_result_cannot_be_changed() -> None:
    """It tells what was."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Result(None, 0.1, (), ()).elapsed = 2.0  # type: ignore[misc]


def test_a_result_survives_a_pickle() -> None:
    """As where a pool's worker ran the pipeline."""
    result = Result(
        None, 0.1, STAGES[:1], (EdgeResult("seq", "stdout", "capture", 10),), stdout=b"0123456789"
    )
    assert pickle.loads(pickle.dumps(result)) == result


def test_a_table_has_no_trailing_blanks_and_one_line_for_each_row() -> None:
    """Also with empty cells, and with line ends inside a cell."""
    text = table(["a", "b"], [["x", ""], ["", "y\nz"]])
    assert text == "a  b\nx\n   y z"

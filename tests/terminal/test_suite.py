"""The tests of cancelling, of leftovers and of interrupts, once more in a process that has a terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.terminals import Desk

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FILES = [
    "api/test_cancel_all.py",
    "limits/test_limits.py",
    "limits/test_trees.py",
    "runs/test_cancellation.py",
    "runs/test_completion.py",
    "runs/test_guest.py",
    "runs/test_host.py",
    "runs/test_interrupts.py",
    "runs/test_processes.py",
    "runs/test_starting.py",
    "stages/test_kill_sequence.py",
    "system/test_process.py",
    "system/test_process_tree.py",
]


@pytest.mark.parametrize("file", FILES)
def test_the_same_holds_at_a_terminal(desk: Desk, tmp_path: Path, file: str) -> None:
    """There the commands share the process group of pytest itself."""
    terminal = desk.start(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no"),
        *("-p", "no:randomly", f"--basetemp={tmp_path / 'inner'}", f"tests/{file}"),
        cwd=ROOT,
        env={"COLUMNS": "200"},
    )
    status = terminal.status(timeout=100)
    assert status == 0, terminal.everything.decode(errors="replace")[-5000:]

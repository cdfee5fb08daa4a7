"""Resets in a forked copy: their order, and that each is called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import penstock

if TYPE_CHECKING:
    from tests.support.hosts import Host

PROGRAM = """
import os, sys
from penstock.system.fork_guard import reset_in_child
result = os.open(os.environ["RESULT"], os.O_WRONLY)
sys.unraisablehook = lambda unraisable: os.write(result, f"{unraisable.exc_value} ".encode())

def note(text):
    return lambda: os.write(result, f"{text} ".encode())

def fail():
    raise ValueError("failed")

reset_in_child(note("runs"), "runs")
reset_in_child(note("state"), "state")
reset_in_child(fail, "descriptors")
reset_in_child(note("descriptors"), "descriptors")
reset_in_child(note("state again"), "state")
child = os.fork()
if child == 0:
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_resets_go_by_their_steps_and_a_failing_one_stops_no_other(host: Host) -> None:
    """In the child only, whatever registered first; the interpreter reports the failure, as of any hook."""
    assert host.run(PROGRAM, prelude="").result == "descriptors state state again runs failed "


def test_no_other_module_has_a_hook_of_its_own() -> None:
    """Its place would depend on the order of imports."""
    (folder,) = penstock.__path__
    modules = [path for path in Path(folder).rglob("*.py") if "register_at_fork" in path.read_text("utf-8")]
    assert [path.name for path in modules] == ["fork_guard.py"]

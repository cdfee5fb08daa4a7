"""Runs in a subinterpreter: those that need no thread work, and the others say why they do not."""

from __future__ import annotations

import subprocess
import sys

import pytest

INSIDE = """
import sys
sys.path[:] = {path!r}
try:
    from penstock import StartError, command, echo, map_lines
except ImportError as error:
    print("refused:", error, flush=True)
else:
    for run in (
        lambda: print((command("echo", "a") | command("cat")).text().strip(), flush=True),
        lambda: (echo("a") | map_lines(bytes.upper)).run(stdout=2),
        lambda: command("sleep", "1000").start(),
    ):
        try:
            run()
        except StartError as error:
            print("refused:", error, flush=True)
"""

PROGRAM = """
import sys
kind, inside = sys.argv[1:]
try:
    import _interpreters as interpreters
    made = interpreters.create(kind)
except ImportError:
    import _xxsubinterpreters as interpreters
    made = interpreters.create(isolated=kind == "isolated")
print(interpreters.run_string(made, inside), flush=True)
interpreters.destroy(made)
print("destroyed", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["legacy", "isolated"])
def test_a_subinterpreter_ends_without_an_abort(kind: str) -> None:
    """At its own end, with no thread left in it."""
    if kind == "isolated" and sys.version_info[:2] == (3, 12):
        pytest.skip("Python 3.12 itself aborts after isolated subinterpreters with modules in C")
    argv = [sys.executable, "-c", PROGRAM, kind, INSIDE.format(path=sys.path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    *said, outcome, last = done.stdout.splitlines()
    assert (outcome, last) == ("None", "destroyed")
    if kind == "legacy" or said[0] == "a":  # an isolated one may refuse a module that is needed
        assert said.pop(0) == "a"
        assert len(said) == 2
    assert said
    assert all(line.startswith("refused: ") for line in said)
    if kind == "legacy":
        assert all("this is a subinterpreter" in line for line in said)

"""KeyboardInterrupt at any moment of a run whose stdin is a reader that was begun."""

from __future__ import annotations

import os
from typing import Any

import pytest
from tests.support.interrupts import Interruption
from tests.support.waiting import until

from penstock import CAPTURE, DEVNULL, command, function
from penstock.runtime import supervisor

pytestmark = pytest.mark.slow

OPTIONS: dict[str, Any] = {"timeout": 0.02, "grace": 0.2, "check": False}
DATA = b"".join(b"%d\n" % number for number in range(50))
STAGES = {
    "command": command("sleep", "1000"),
    "copied": command("cat"),
    "function": function(lambda _ctx, stdin, stdout: stdout.write(stdin.readline())),
}


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("text", [False, True], ids=["bytes", "text"])
@pytest.mark.parametrize(
    "within", ["/streams/", "/engine/reader_stdin", "/runtime/timed", "/runtime/pipe_rest"]
)
@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupt_leaves_a_reader_that_works(stage: str, within: str, text: bool) -> None:  # noqa: FBT001
    """It reads what is left, in order, and then what comes; no method of it is replaced."""
    for turn in range(1, 200):
        read, write = os.pipe()
        os.write(write, DATA)
        reader: Any = os.fdopen(read, "r" if text else "rb")
        with reader:
            reader.readline()
            interruption, raised = Interruption(turn, within), False
            try:
                with interruption:
                    STAGES[stage].run(
                        stdin=reader, stdout=DEVNULL if stage != "copied" else CAPTURE, **OPTIONS
                    )
            except KeyboardInterrupt:
                raised = True
            assert raised or interruption.left > 0, f"it was swallowed in {interruption.where}"
            until(lambda: not supervisor.active_runs)
            os.write(write, b"end\n")
            os.close(write)
            rest = reader.read()
            rest = rest.encode() if text else rest
            assert (DATA + b"end\n").endswith(rest), interruption.where
            assert rest.endswith(b"end\n")
            # A worker that was interrupted in a start may be about to put a method back.
            buffered = reader.buffer if text else reader
            until(lambda: (set(vars(buffered.raw)), set(vars(buffered))) == ({"name"}, set()))  # noqa: B023
            if interruption.left > 0:
                break

"""KeyboardInterrupt at any moment of a run: it ends the run, leaves nothing, and is raised."""

from __future__ import annotations

import dis
import sys
from typing import TYPE_CHECKING, Any

import pytest

from penstock import CAPTURE, DEVNULL, command, function

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_LEFT_OUT = ("<genexpr>", "__del__", "read_stat")
SLEEP = command("sleep", "1000")
OPTIONS: dict[str, Any] = {"timeout": 0.05, "grace": 0.2, "check": False}
RUNS: dict[str, Callable[[], object]] = {
    "commands": lambda: (SLEEP | SLEEP).run(stdout=DEVNULL, **OPTIONS),
    "both": lambda: (SLEEP | function(lambda _c, i, _o: i.read()) | SLEEP).run(stdout=CAPTURE, **OPTIONS),
}


class Interruption:
    """Raises KeyboardInterrupt at the `turn`-th moment at which the interpreter may run a signal handler in a
    function of the package: where it starts, after a call, at a jump back.
    """

    def __init__(self, turn: int) -> None:
        self.left = turn
        self.where = "nowhere"
        self._last: dict[FrameType, str] = {}

    def __call__(self, frame: FrameType, event: str, _argument: object) -> Any:
        # Out of a finalizer, and out of a generator expression that is being closed, nothing can be raised.
        # And this raises a step later than the interpreter does, which at the end of a `try` is too late.
        if "/penstock/" not in frame.f_code.co_filename or frame.f_code.co_name in _LEFT_OUT:
            return None
        frame.f_trace_opcodes = True
        if event == "call":
            self._pass(frame)
        elif event == "opcode":
            if self._last.get(frame, "").startswith(("CALL", "JUMP_BACKWARD")):
                self._pass(frame)
            self._last[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        return self

    def _pass(self, frame: FrameType) -> None:
        if self.left == 1 and _in_finalizer(frame):
            return  # what it calls can raise nothing either: the next moment then
        self.left -= 1
        if self.left == 0:
            self._last.clear()
            self.where = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
            raise KeyboardInterrupt


def _in_finalizer(frame: FrameType | None) -> bool:
    """Of what an earlier, interrupted run has left to the garbage collector, which may come at any moment."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("first", range(3))
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_an_interrupt_at_any_moment_ends_the_run(run: Callable[[], object], first: int) -> None:
    """Some hundred moments spread over start, wait and deadline; the leak check looks for what is left."""
    run()  # what is loaded once, is loaded
    before = sys.gettrace()
    for turn in range(300 + 29 * first, 2200, 89):
        interruption, raised = Interruption(turn), False
        sys.settrace(interruption)
        try:
            run()
        except KeyboardInterrupt:
            raised = True
        finally:
            sys.settrace(before)
        assert raised or interruption.left > 0, f"it was swallowed in {interruption.where}"

"""A KeyboardInterrupt at a chosen moment in the code of the package."""

from __future__ import annotations

import dis
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType
    from typing import Self

__all__ = ["Interruption"]

_LEFT_OUT = ("<genexpr>", "__del__", "read_stat")


class Interruption:
    """Raises KeyboardInterrupt at the `turn`-th moment at which the interpreter may run a signal handler in a
    function of the package: where it starts, after a call, at a jump back. In this thread, within the block.

    `left` is above 0 afterwards where there were fewer moments, `where` the one that it was. `within` is a
    part of the path of the files that count.
    """

    def __init__(self, turn: int, within: str = "/penstock/") -> None:
        self.left = turn
        self.where = "nowhere"
        self._within = within
        self._last: dict[FrameType, str] = {}
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)
        self._last.clear()  # the frames of the last calls hold on to the run, and to its descriptors

    def __call__(self, frame: FrameType, event: str, _argument: object) -> Any:
        """Trace."""
        # Out of a finalizer, and out of a generator expression that is being closed, nothing can be raised.
        # And this raises a step later than the interpreter does, which at the end of a `try` is too late.
        if self._within not in frame.f_code.co_filename or frame.f_code.co_name in _LEFT_OUT:
            return None
        frame.f_trace_opcodes = True
        if event == "call":
            self._pass(frame)
        elif event == "opcode":
            step = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            # After a call that has raised, no signal handler runs before the exception is handled.
            if self._last.get(frame, "").startswith(("CALL", "JUMP_BACKWARD")) and step != "PUSH_EXC_INFO":
                self._pass(frame)
            self._last[frame] = step
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

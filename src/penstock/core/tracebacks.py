"""Tracebacks of errors that users get: without the local variables of Penstock's own frames.

A traceback keeps the frames that an exception came through, and a frame its local variables: secrets in clear
text, which error reporters show, and file descriptors, which stay open as long as the error is kept. So the
frames of this package forget theirs before an error is handed out. Frames of user code keep them.

Out of scope: frames that still run. Those hold no clear text.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["forget_locals"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # noqa: PTH100, PTH120 - pathlib is dear to import


def forget_locals(error: BaseException) -> None:
    """Clear the local variables of our frames in the tracebacks of an error, its causes and its contexts."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        _clear(one.__traceback__)
        pending += one.__cause__, one.__context__


def _clear(traceback: TracebackType | None) -> None:
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_code.co_filename.startswith(_PACKAGE):
            try:  # noqa: SIM105 - `suppress` needs a frame of its own
                frame.clear()
            except RuntimeError:  # it still runs
                pass
        traceback = traceback.tb_next

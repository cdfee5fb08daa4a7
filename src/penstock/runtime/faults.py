"""Exceptions of the engine's own steps, which nobody expects: for want of memory, descriptors or threads.

Each of them ends in the verdict of a run. The reactor and the thread pool catch those of their callbacks, and
give them to the owner of the callback. `engine.faults` is what a run makes of them.

A callback that says that something has ended has no owner. `call_again` calls it once more if it raises. Each
step of the engine may be repeated, because an interrupt may cut it short.

A signal handler may raise in a thread that drives its own run, between any two steps. Its exception is not a
fault of the engine: it ends the run, and is raised.

Out of scope: the end of the run, and everything that is not an `Exception`, such as KeyboardInterrupt.
"""

from __future__ import annotations

import functools
import signal
import threading

from penstock.runtime.log import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any

__all__ = ["call_again", "is_fault", "is_own_error", "raised_by_signal_handler"]


def call_again(callback: Callable[[], object]) -> None:
    """Call `callback()`, and once more if it raises. Report it if it raises again; raise nothing."""
    try:
        callback()
    except Exception as error:
        if raised_by_signal_handler(error):
            raise
        try:
            callback()
        except Exception as again:  # noqa: BLE001 - as above
            report("unexpected error at the end of a step", again)


def is_fault(error: BaseException) -> bool:
    """Whether `error`, which came out of a step of the engine, is to end the run as its error."""
    return isinstance(error, Exception) and not raised_by_signal_handler(error)


def is_own_error(error: BaseException) -> bool:
    """Whether what a function has raised is its own failure, and not the way out of the whole program."""
    return not (isinstance(error, KeyboardInterrupt | SystemExit) or raised_by_signal_handler(error))


def raised_by_signal_handler(error: BaseException) -> bool:
    """Whether a signal handler of this program has raised `error`, as its traceback tells."""
    if threading.current_thread() is not threading.main_thread():
        return False  # handlers run in the main thread
    handlers = {_code(signal.getsignal(signum)) for signum in signal.valid_signals()} - {None}
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in handlers:
            return True
        traceback = traceback.tb_next
    return False


def _code(handler: Any) -> CodeType | None:
    """Return the code of a signal handler that is written in Python."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if not hasattr(handler, "__code__"):
        handler = getattr(handler, "__call__", None)  # noqa: B004 - an object whose class is written in Python
    handler = getattr(handler, "__func__", handler)
    code: CodeType | None = getattr(handler, "__code__", None)
    return code

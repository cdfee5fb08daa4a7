"""Writes that never end the host by SIGPIPE.

Python ignores SIGPIPE, so that a write to a pipe without a reader is an error. A host may have restored the
default (`signal.signal(SIGPIPE, SIG_DFL)`, as a filter on the command line does), by which the same write
ends it. Then SIGPIPE is blocked in the writing thread for the time of the call, and taken away if it came.

The disposition is looked up for each call, because the host may change it at any time. No child is started
inside such a call, so none inherits the mask.
"""

from __future__ import annotations

import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")

__all__ = ["without_sigpipe"]

_SIGPIPE, _DEFAULT = int(signal.SIGPIPE), int(signal.SIG_DFL)
_getsignal: Callable[[int], Any] = getattr(signal, "_signal", signal).getsignal
"""The one in C. `signal.getsignal` makes an enum of its answer, which takes ten times as long."""


def without_sigpipe(call: Callable[P, R]) -> Callable[P, R]:
    """Return a function that does as `call`, which writes, and never ends the process."""

    def write(*args: P.args, **options: P.kwargs) -> R:
        if _getsignal(_SIGPIPE) != _DEFAULT:
            return call(*args, **options)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (_SIGPIPE,))
        try:
            return call(*args, **options)
        finally:
            # It comes to this thread, also if a part was written. A host that has blocked it keeps it.
            if _SIGPIPE not in before and _SIGPIPE in signal.sigpending():
                signal.sigwait((_SIGPIPE,))
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    return write

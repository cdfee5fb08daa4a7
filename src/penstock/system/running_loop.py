"""Whether an event loop runs in the calling thread: for a run that no loop serves.

It imports nothing, because runs without a loop use it too.
"""

from __future__ import annotations

import sys

__all__ = ["in_event_loop"]


def in_event_loop() -> bool:
    """Return whether a loop of asyncio or trio runs in the calling thread."""
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    try:
        if asyncio is not None and asyncio._get_running_loop() is not None:  # noqa: SLF001 - see `event_loops`
            return True
        return trio is not None and bool(trio.lowlevel.in_trio_run())
    except AttributeError:  # another thread is importing it
        return False

"""What of a run is served by an event loop: found among what was surveyed, and tied to the loop.

The parts of a run know nothing of loops. Where a stage or an endpoint is for an event loop, the survey says
so, and here it is given what it takes: a function that makes a stream out of our end of its pipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.launch import Survey
    from penstock.system.loops import Loop

__all__ = ["bind"]


def bind(surveyed: Survey, loop: Loop) -> None:
    """Have `loop` serve what would otherwise be served by the caller's own thread."""
    from penstock.data.astreams import FdReceiver, FdSender  # noqa: PLC0415 - they need anyio

    _, _, (source, sink), kinds = surveyed
    if source.kind == "pipe":
        source.value = lambda fd: FdSender(fd, loop)
    if sink.kind in ("pipe", "iterate"):
        sink.value = lambda fd: FdReceiver(fd, loop)
        kinds[-1] = "os-pipe"

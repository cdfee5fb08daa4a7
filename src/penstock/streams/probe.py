"""The facts that one end of an edge shows from outside, without touching a byte.

Each stream, tap and port has a method `probe()`, which returns a `Probe`. It takes no lock that a stage may
hold, so any thread may call it at any time, also while the end is being closed. Its parts:

* the number of bytes that went through this end; None if nobody counted them;
* whether the thread or task that uses the end waits for bytes or for room; None if that is not known;
* what holds the bytes of the edge: the descriptor of a pipe, or the fill and the capacity of a pipe in
  memory, in bytes; None if neither is at hand.

Plain tuples, so that a stream need not import anything for it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from penstock.system.unread import Descriptor

    Probe: TypeAlias = tuple[int | None, bool | None, Descriptor | tuple[int, int] | None]

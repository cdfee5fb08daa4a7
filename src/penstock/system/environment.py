"""The environment that this process hands on: read once, and again only when it has changed.

To read `os.environ` decodes every variable, and a child needs them encoded again: 40 microseconds a run for
40 variables, spent before anything is started. So what was read last is kept, beside the bytes that it was
read from; a comparison with these, a third of a microsecond, tells whether it still holds, whoever changed
the mapping and how. (`os.putenv` called by hand changes neither `os.environ` nor what children get.)

What is handed out is shared by all runs, so nobody may change it. One reference holds all that belongs
together, so threads need no lock.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["inherited"]


class _Snapshot:
    __slots__ = ("decoded", "raw")

    def __init__(self, raw: Mapping[bytes, bytes], decoded: dict[str, str]) -> None:
        self.raw = raw
        self.decoded = decoded


_last = _Snapshot({}, {})


def inherited() -> dict[str, str]:
    """The variables of this process, by name: the same object as long as none has changed."""
    global _last  # noqa: PLW0603 - one a process is the point
    raw = getattr(os.environ, "_data", None)
    if raw is None:  # another interpreter's, or a host's own mapping in its place
        return dict(os.environ)
    last = _last
    if last.raw != raw:
        # In this order: a change in between makes the next comparison fail.
        _last = last = _Snapshot(dict(raw), dict(os.environ))
    return last.decoded

"""The environment that children inherit: read once, and again only when it has changed.

Reading `os.environ` decodes every variable, and a child needs them encoded again. For 40 variables that takes
40 microseconds a run, before anything is started. So the last result is cached with the bytes that it was
read from. Comparing these takes a third of a microsecond, and detects every change of the mapping. (A direct
call of `os.putenv` changes neither `os.environ` nor the environment of children.)

All runs share the returned dict, so no caller may change it. The cache is one reference, so threads need no
lock.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
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
    """Return the variables of this process. The object is the same until one changes; do not modify it."""
    global _last  # noqa: PLW0603 - one for the process is the point
    raw = getattr(os.environ, "_data", None)
    if raw is None:  # another Python implementation, or a host that has replaced `os.environ`
        return dict(os.environ)
    last = _last
    if last.raw != raw:
        # In this order, so that a change in between makes the next comparison fail.
        _last = last = _Snapshot(dict(raw), dict(os.environ))
    return last.decoded

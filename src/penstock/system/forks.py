"""The lock that is held across a fork of the host program.

Whatever a forked copy must not see half done is done with `guard` held: making and closing descriptors, and
imports in the middle of a run (the interpreter does not make new the lock of an import that another thread
was busy with). It is re-entrant, because a signal handler or the garbage collector may run in a thread that
holds it. This module is imported with the package itself, so that the hooks stand before any thread of ours
does anything.
"""

from __future__ import annotations

import os
from _thread import RLock

guard = RLock()


def held_here() -> bool:
    """Whether the calling thread holds it: what runs in it now has come in between."""
    return guard._is_owned()  # type: ignore[attr-defined,no-any-return]  # noqa: SLF001 - as threading.Condition asks


os.register_at_fork(before=guard.acquire, after_in_parent=guard.release, after_in_child=guard.release)

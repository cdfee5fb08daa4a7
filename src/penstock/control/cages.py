"""The cgroups of runs: made when the first command needs one, given back at the end, and used again.

A group is made for everything that limits were given for: a pipeline, or a single command. It is removed when
the run has ended. One whose limits have a name is kept for a while for the next run that has the same name
and limits, at most `_KEPT` of them and for `_PATIENCE` seconds; at the end of the process all go. Nothing is
in a group that waits: what its run has left there was killed or let go.

`_lock` guards the lists and is held for bookkeeping only. A removal that the kernel refuses, because a
process in the group is still dying, is tried again by the supervisor; at the end of the process, where nobody
comes back, the end of those processes is waited for.
"""

from __future__ import annotations

import atexit
import itertools
import os
import threading
import time
from typing import TYPE_CHECKING, TypeAlias

from penstock.control.supervisor import supervisor
from penstock.system import cgroups
from penstock.system.trees import catch

if TYPE_CHECKING:
    from penstock.core.limits import Limits
    from penstock.system.cgroups import Cage

    Key: TypeAlias = "tuple[str, tuple[tuple[str, float], ...]]"

__all__ = ["clear", "give_back", "take"]

_KEPT = 8
_PATIENCE = 5.0
"""Seconds that a group waits for its next use."""
_AGAIN = 0.02
"""Seconds until the removal of a group is tried again."""

_LAST_WAIT = 1.0
"""Seconds that the end of the process waits for those that die in its groups."""

_lock = threading.Lock()
_busy: list[Cage] = []
_idle: list[tuple[float, Key, Cage]] = []
_dying: list[Cage] = []
_serial = itertools.count(1)
_owner = os.getpid()


def take(limits: Limits) -> tuple[Cage | None, dict[str, str]]:
    """Return a group for these limits, and why each limit that it does not keep is not kept."""
    key = _key(limits)
    with _lock:
        place = next((place for place, (_, found, _) in enumerate(_idle) if found == key), None)
        cage = None if place is None else _idle.pop(place)[2]
    missing: dict[str, str] = {}
    if cage is None:
        name = f"penstock-{limits.name or 'run'}-{os.getpid()}-{next(_serial)}"
        cage, missing = cgroups.make(name, limits.grouped, cgroups.trees())
    else:
        missing = {field: "" for field in limits.grouped if field not in cage.kept}
    if cage is not None:
        with _lock:
            _busy.append(cage)
        cage.reset()
    return cage, missing


def give_back(limits: Limits, cage: Cage, *, kill: bool) -> None:
    """End or let go what is left in a group, and keep it for the next or remove it. Never raises OSError."""
    if os.getpid() != _owner:  # a forked copy, whose run this is not
        return
    if cage.members():
        if kill:
            cage.kill()
        else:
            cage.release()
    now = time.monotonic()
    if limits.name is not None and not cage.members():
        with _lock:
            keep = cage in _busy and len(_idle) < _KEPT
            if keep:
                _busy.remove(cage)
                _idle.append((now + _PATIENCE, _key(limits), cage))
        if keep:
            supervisor().call_at(now + _PATIENCE, _sweep)
            return
    removed = cage.remove()
    with _lock:
        if cage in _busy:  # else the process ends, and whoever sees to that has it
            _busy.remove(cage)
            _dying.extend(() if removed else (cage,))
    if not removed:
        supervisor().call_at(now + _AGAIN, _sweep)


def _sweep() -> None:
    """Remove what has waited long enough, in the supervisor's thread."""
    now = time.monotonic()
    with _lock:
        _dying.extend(cage for due, _, cage in _idle if due <= now)
        _idle[:] = [entry for entry in _idle if entry[0] > now]
        leaving, _dying[:] = list(_dying), []
    left = [cage for cage in leaving if not cage.remove()]
    if left:
        with _lock:
            _dying.extend(left)
        supervisor().call_at(now + _AGAIN, _sweep)


def _key(limits: Limits) -> Key:
    return limits.name or "", tuple(limits.grouped.items())


def clear() -> None:
    """Remove those that wait, now; the ends of processes that still die in one are waited for."""
    with _lock:
        leaving = [*_dying, *(cage for _, _, cage in _idle)]
        _dying.clear()
        _idle.clear()
    _remove(leaving)


def _at_exit() -> None:
    """Leave nothing behind, nor anybody in it."""
    if os.getpid() != _owner:
        return
    with _lock:
        busy, _busy[:] = list(_busy), []
    for cage in busy:
        cage.kill()
    _remove(busy)
    clear()


def _remove(leaving: list[Cage]) -> None:
    deadline = time.monotonic() + _LAST_WAIT
    while leaving and time.monotonic() < deadline:
        leaving = [cage for cage in leaving if not cage.remove()]
        for descendant in catch(pid for cage in leaving for pid in cage.members()):
            descendant.wait(max(0.0, deadline - time.monotonic()))
            descendant.close()


def _after_fork_in_child() -> None:
    global _lock, _owner  # noqa: PLW0603 - it may have been held at the fork by a thread that is not here
    _lock = threading.Lock()
    for each in (_busy, _dying, _idle):
        each.clear()
    _owner = os.getpid()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)

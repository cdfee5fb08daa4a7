"""The cgroups of runs: made when the first command needs one, and reused or removed at the end of the run.

Each pipeline or command with limits gets a group of its own, which is removed when the run has ended. If the
limits have a name, the group is kept for the next run with the same name and limits. At most `_MAX_IDLE` are
kept, each for `timing.cgroup_idle_s` seconds, and none beyond the end of the process. An idle group is empty:
the processes that its run has left were killed or released.

`_lock` guards the lists and is held for bookkeeping only. The kernel refuses to remove a group while one of
its processes is still dying; then the supervisor tries again. At the end of the process there is no later, so
the removal waits for those processes.
"""

from __future__ import annotations

import itertools
import os
import threading
import time

from penstock.core.timing import timing
from penstock.runtime.idle_pool import IdlePool
from penstock.runtime.supervisor import supervisor
from penstock.system import cgroups
from penstock.system.fork_guard import reset_in_child
from penstock.system.process_tree import open_handles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from penstock.core.limits import Limits
    from penstock.system.cgroups import Cgroup

    Key: TypeAlias = "tuple[str, tuple[tuple[str, float], ...]]"

__all__ = ["acquire", "clear", "release"]

_MAX_IDLE = 8
_RETRY_DELAY_S = 0.02
"""Seconds until the next try to remove a group."""

_EXIT_TIMEOUT_S = 1.0
"""Seconds that the end of the process waits for processes that are dying in its groups."""

_lock = threading.Lock()
_busy: list[Cgroup] = []
_dying: list[Cgroup] = []
_serial = itertools.count(1)
_owner = os.getpid()


def acquire(limits: Limits) -> tuple[Cgroup | None, dict[str, str]]:
    """Return a group for these limits, and the reason for each limit that it does not enforce."""
    key = _key(limits)
    waiting = _idle.take(lambda entry: _note_busy(entry[1]), lambda entry: entry[0] == key)
    if waiting is not None:
        cgroup = waiting[1]
        cgroup.reset()
        return cgroup, {field: "" for field in limits.grouped if field not in cgroup.kept}
    name = f"penstock-{limits.name or 'run'}-{os.getpid()}-{next(_serial)}"
    made, missing = cgroups.make(name, limits.grouped, cgroups.trees())
    if made is not None:
        _note_busy(made)
        made.reset()
    return made, missing


def release(limits: Limits, cgroup: Cgroup, *, kill: bool) -> None:
    """Kill or release the processes in a group, then keep or remove it. Never raises OSError.

    Do nothing if it was released before.
    """
    if os.getpid() != _owner:  # a forked copy, which does not own the run
        return
    with _lock:
        if cgroup not in _busy:  # released before, or `_at_exit` has taken it over
            return
    if cgroup.members():
        if kill:
            cgroup.kill()
        else:
            cgroup.release()
    keep = limits.name is not None and not cgroup.members()
    with _lock:
        if cgroup not in _busy:  # the process is ending, and `_at_exit` removes the group
            return
    # Added to the next list first, so that `_at_exit` always finds it on one of them.
    if keep:
        _idle.put((_key(limits), cgroup))
    else:
        _remove_soon([cgroup])
    with _lock:
        if cgroup in _busy:
            _busy.remove(cgroup)


def _note_busy(cgroup: Cgroup) -> None:
    with _lock:
        _busy.append(cgroup)


def _remove_soon(leaving: list[Cgroup]) -> None:
    """Remove groups. The supervisor tries again while a process in one is dying."""
    left = [cgroup for cgroup in leaving if not cgroup.remove()]
    if left:
        with _lock:
            _dying.extend(left)
        supervisor().call_at(time.monotonic() + _RETRY_DELAY_S, _retry)


def _retry() -> None:
    """Try again to remove the groups that could not be removed. In the supervisor's thread."""
    with _lock:
        dying, _dying[:] = _dying[:], []
    _remove_soon(dying)


def _key(limits: Limits) -> Key:
    return limits.name or "", tuple(limits.grouped.items())


def clear() -> None:
    """Remove all idle groups now, and wait for processes that are still dying in one."""
    _clear(_idle.take_all())


def _clear(waiting: list[tuple[Key, Cgroup]]) -> None:
    with _lock:
        dying, _dying[:] = _dying[:], []
    _remove([*dying, *(cgroup for _, cgroup in waiting)])


def _at_exit(waiting: list[tuple[Key, Cgroup]]) -> None:
    """Kill what is left in all groups, and remove them."""
    if os.getpid() != _owner:
        return
    with _lock:
        busy, _busy[:] = _busy[:], []
    for cgroup in busy:
        cgroup.kill()
    _remove(busy)
    _clear(waiting)


def _remove(leaving: list[Cgroup]) -> None:
    deadline = time.monotonic() + _EXIT_TIMEOUT_S
    while leaving and time.monotonic() < deadline:
        leaving = [cgroup for cgroup in leaving if not cgroup.remove()]
        for descendant in open_handles(pid for cgroup in leaving for pid in cgroup.members()):
            descendant.wait(max(0.0, deadline - time.monotonic()))
            descendant.close()


def _after_fork_in_child() -> None:
    global _lock, _owner  # noqa: PLW0603 - a thread that is not here may have held the lock at the fork
    _lock = threading.Lock()
    _busy.clear()
    _dying.clear()
    _owner = os.getpid()


_idle: IdlePool[tuple[Key, Cgroup]] = IdlePool(
    _MAX_IDLE, lambda: timing.cgroup_idle_s, close=lambda entry: _remove_soon([entry[1]]), at_exit=_at_exit
)
"""Groups of limits with a name, for the next run with the same name and limits."""

reset_in_child(_after_fork_in_child, "state")

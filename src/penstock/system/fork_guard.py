"""Delay a fork of the host program while an operation is half done, and reset the copy after it.

Operations that a forked copy must not see half done run `with fork_guard:`, such as making and closing
descriptors. Imports in the middle of a run are written `with late_import:`, because the interpreter does not
renew the lock of an import that another thread was busy with. The guard excludes forks and nothing else: each
thread has a lock of its own, and only a fork takes them all, so threads do not exclude each other. With one
lock for all, each start of a pipeline would release and take it several times, and wait for the GIL each
time. Of two hundred threads that started pipelines, nearly all were seen to queue for it, some for seconds.

The locks are re-entrant, because a signal handler or the garbage collector may run in a thread that holds its
own. `fork_guard` has the `__enter__` and `__exit__` of the calling thread's lock, found and called in C. So
no interrupt comes between taking the lock and the block that releases it. The package imports this module
first, so that the hooks are registered before any of our threads starts.
"""

from __future__ import annotations

import _thread
import errno
import os
import time
from _thread import RLock, _local
from _weakrefset import WeakSet  # `weakref` would be loaded for nothing else, by every first run
from operator import attrgetter

from penstock.core import fork_resets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

__all__ = [
    "OUT_OF_RESOURCES",
    "check_threads",
    "fork_guard",
    "fork_guard_held",
    "late_import",
    "reset_in_child",
]

_LOCK_TIMEOUT_S = 2.0
"""Seconds that a fork waits for all locks. Only holders that wait for the forking thread use it up."""

_locks: WeakSet[RLock] = WeakSet()
"""The locks of all living threads."""
_registry_lock = RLock()
"""Held while `_locks` changes."""
_acquired: list[RLock] = []
"""The locks that the current fork holds."""


class _Guard(_local):
    """One object, and in each thread another lock."""

    def __init__(self) -> None:
        # Called in each thread, when it first uses the object. The lock is registered before it is used, so
        # that a fork knows about every lock in use.
        lock = RLock()
        with _registry_lock:
            _locks.add(lock)
        self.lock = lock

    if not TYPE_CHECKING:
        __enter__ = property(attrgetter("lock.__enter__"))
        __exit__ = property(attrgetter("lock.__exit__"))


if TYPE_CHECKING:
    fork_guard: RLock
    late_import: RLock
else:
    fork_guard = late_import = _Guard()
"""`late_import` is for imports inside functions: a fork must not copy the lock of an import under way."""
OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors of an import that may succeed later."""


_start_thread = _thread.start_new_thread


def check_threads() -> None:
    """Raise RuntimeError if the functions of threads were replaced since this package was imported.

    Half of the package would use threads and locks of the one kind, half of the other, and wait for ever.
    """
    if _thread.start_new_thread is not _start_thread:
        raise RuntimeError(
            "Python's threads were replaced (as by gevent.monkey.patch_all()) after penstock was imported: "
            "replace them first, and import penstock then"
        )


def fork_guard_held() -> bool:
    """Whether the calling thread holds the guard: then the current code has interrupted a guarded block."""
    return fork_guard.lock._is_owned()  # type: ignore[attr-defined,no-any-return]  # noqa: SLF001 - as threading.Condition asks


def _before_fork() -> None:
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    _acquire(_registry_lock, deadline)
    for lock in list(_locks):
        _acquire(lock, deadline)


def _acquire(lock: RLock, deadline: float) -> None:
    if lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
        _acquired.append(lock)


def _after_fork() -> None:
    while _acquired:
        _acquired.pop().release()


def _after_fork_in_child() -> None:
    global _registry_lock, _locks  # noqa: PLW0603 - a thread that is not here may hold a lock that the fork did not get
    _after_fork()
    _registry_lock = RLock()
    _locks = WeakSet([fork_guard.lock])  # type: ignore[attr-defined]


_resets: dict[str, list[Callable[[], object]]] = {"descriptors": [], "state": fork_resets.state, "runs": []}
"""The steps in their order, and what each calls."""


def reset_in_child(reset: Callable[[], object], step: Literal["descriptors", "state", "runs"]) -> None:
    """Have `reset()` called in each forked copy of this process, before anything else runs there.

    The steps follow each other in this order, whatever was imported first:

    * `descriptors`: close the copies of descriptors, so that no later step can wait for one or warn of it.
    * `state`: renew locks, which threads of the parent may hold, and empty pools. Drop no user objects.
    * `runs`: drop runs, which may run the finalizers of user objects, which may use all of the above.

    Within a step the order is that of the calls, so a module comes after those that it imports.
    """
    _resets[step].append(reset)


def _reset() -> None:
    _after_fork_in_child()
    _call_all([reset for resets in _resets.values() for reset in resets][::-1])


def _call_all(waiting: list[Callable[[], object]]) -> None:
    """Call them from the last to the first. If one raises, the others are called all the same."""
    try:
        while waiting:
            waiting.pop()()
    finally:
        if waiting:
            _call_all(waiting)


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_reset)

"""Make the watches of a run: of memory, and of output that stops.

Few runs have one, so their modules are loaded here, when a run does.
"""

from __future__ import annotations

from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.engine.idle_watch import IdleWatch
    from penstock.engine.memory_watches import Watches
    from penstock.engine.ports import StdoutPort
    from penstock.engine.tree import GroupRun, StageRun
    from penstock.runtime.events import EventEmitter
    from penstock.runtime.reactor import Reactor

__all__ = ["make_idle_watch", "make_memory_watches"]


def make_memory_watches(
    groups: Sequence[GroupRun], leaves: Sequence[StageRun], reactor: Reactor, events: EventEmitter
) -> Watches | None:
    """Return the memory watches of a run; None if no pipeline of it has one."""
    if all(group.options.get("watch") is None for group in groups):
        return None
    with late_import:
        from penstock.engine.memory_watches import Watches  # noqa: PLC0415 - as said above

    return Watches(groups, leaves, reactor, events)


def make_idle_watch(
    timeout: float | None, reactor: Reactor, sink: StdoutPort, on_idle: Callable[[], None]
) -> IdleWatch | None:
    """Return the watch that calls `on_idle()` if no output comes for `timeout` seconds, or None."""
    if timeout is None:
        return None
    with late_import:
        from penstock.engine.idle_watch import IdleWatch  # noqa: PLC0415 - as said above

    return IdleWatch(timeout, reactor, sink, on_idle)

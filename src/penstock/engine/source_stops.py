"""Stop the first stages of a run on purpose, so that the others finish on what they have.

A line has one first stage. In a graph each stage that reads no other one is first: a merge ends when all that
it reads have ended.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from penstock.engine.ports import StdinPort
    from penstock.engine.tree import StageRun

__all__ = ["stop_sources"]


def stop_sources(
    leaves: Sequence[StageRun],
    ports: Mapping[int, StdinPort],
    grace: float | None,
    on_end: Callable[[], None],
) -> None:
    """Ask them to end, by force after `grace` seconds; `ports` feed them, by their indices.

    Those that have ended, or are to end for another reason, are left alone. In the reactor's thread.
    """
    for leaf in leaves:
        running, source = leaf.running, ports.get(leaf.index)
        if any(edge.tail is not None for edge in leaf.node.inputs):
            continue
        if running is None or source is None or leaf.end is not None or leaf.reason is not None:
            continue
        source.give_up()  # first: the feed may meet the end of the stage, or of the caller's device, at once
        running.stop(running.ctx.grace if grace is None else grace)
        if running.stopped is None:  # it has just ended by itself
            source.give_up(given_up=False)
        else:
            source.release(on_end)

"""Cancel stages, using the reasons that are recorded for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.system import procfs

if TYPE_CHECKING:
    from penstock.engine.tree import StageRun

__all__ = ["cancel_stages"]


def cancel_stages(leaves: list[StageRun]) -> None:
    """Cancel those stages that have a reason. In the reactor's thread; doing it again does no harm."""
    cancelled = [(leaf, leaf.reason.error) for leaf in leaves if leaf.reason is not None]
    running = [(leaf.running, error) for leaf, error in cancelled if leaf.running is not None]
    processes = procfs.recent() if any(one.pid is not None for one, _ in running) else None
    for leaf, error in cancelled:
        if leaf.ctx is not None:
            leaf.ctx.cancel(error)
    # All are prepared before the first is killed, so that none takes the end of its neighbour for EOF, or for
    # a reader that has had enough.
    for one, error in running:
        one.prepare_cancel(error, processes)
    for one, error in reversed(running):
        one.kill(error)

"""Cancel stages for the reasons that were recorded on them, and make the reasons that a run itself has.

Out of scope: recording a reason (`RunState.cancel`), and the way that leads here (`Execution.post_cancel`).
"""

from __future__ import annotations

from penstock.core.errors import Cancelled, PipelineCancelled, PipelineTimeout, StartError
from penstock.engine.tree import CancelReason
from penstock.system import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.engine.tree import GroupRun, StageRun
    from penstock.system.process import ProcessTable

__all__ = [
    "because_failed",
    "because_not_started",
    "because_timed_out",
    "cancel_stages",
    "kill_stages",
]


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


def kill_stages(leaves: Sequence[StageRun], processes: ProcessTable) -> None:
    """Send SIGKILL to every child, without grace. In any thread; `processes` is what runs on the machine."""
    for leaf in leaves:
        if leaf.running is not None:
            leaf.running.kill_now(processes)


def because_not_started(name: str, root: GroupRun) -> CancelReason:
    """Return why the other stages of a run are cancelled if stage or endpoint `name` could not be started."""
    return CancelReason(Cancelled(f"{name} could not be started"), StartError, root, collateral=True)


def because_failed(name: str, group: GroupRun) -> CancelReason:
    """Return why the other stages of a `fail_fast` pipeline are cancelled if stage `name` failed."""
    return CancelReason(Cancelled(f"{name} failed"), PipelineCancelled, group, collateral=True)


def because_timed_out(timeout: float, group: GroupRun) -> CancelReason:
    """Return why the stages of a pipeline are cancelled at its deadline."""
    return CancelReason(TimeoutError(f"timed out after {timeout:g} s"), PipelineTimeout, group)

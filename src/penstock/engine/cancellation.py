"""Cancel stages for the reasons that were recorded on them, and make the reasons that a run itself has.

Out of scope: recording a reason (`RunState.cancel`), and the way that leads here (`Execution.post_cancel`).
"""

from __future__ import annotations

from penstock.core.errors import Cancelled, FinishEarly, PipelineCancelled, PipelineTimeout, StartError
from penstock.engine.stops import describe_stops
from penstock.engine.tree import CancelReason
from penstock.stages.kill_sequence import RunningProcess, freeze

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from penstock.engine.tree import GroupRun, StageRun
    from penstock.runtime.reactor import Reactor
    from penstock.stages.running import Running
    from penstock.system.process_tree import ProcessTree

__all__ = [
    "because_failed",
    "because_idle",
    "because_not_started",
    "because_of_output",
    "because_timed_out",
    "cancel_stages",
    "reason_of",
    "to_be_killed",
]


def cancel_stages(leaves: list[StageRun], reactor: Reactor) -> None:
    """Cancel those stages that have a reason. Doing it again does no harm.

    In the reactor's thread, or in the starter's if nothing is driven yet.
    """
    cancelled = [(leaf, leaf.reason.error) for leaf in leaves if leaf.reason is not None]
    running = [(leaf.running, error) for leaf, error in cancelled if leaf.running is not None]
    for leaf, error in cancelled:
        if leaf.ctx is not None:
            leaf.ctx.cancel(error)
    # All are prepared before the first is killed, so that none takes the end of its neighbour for EOF, or for
    # a reader that has had enough.
    for one, error in running:
        one.prepare_cancel(error)
    if any(isinstance(one, RunningProcess) for one, _ in running):
        reactor.collect(_freeze_and_kill, running)
    else:
        _kill(running)


def _freeze_and_kill(runs: list[list[tuple[Running, BaseException]]]) -> None:
    """End the stages of all runs that were cancelled in one turn."""
    try:
        freeze(one for running in runs for one, _ in running if isinstance(one, RunningProcess))
    finally:
        for running in runs:
            _kill(running)


def _kill(running: list[tuple[Running, BaseException]]) -> None:
    for one, error in reversed(running):
        one.kill(error)


def to_be_killed(leaves: Sequence[StageRun]) -> Iterator[tuple[ProcessTree, Callable[[], None]]]:
    """Yield the trees of all children, and what kills each without grace. In any thread."""
    for leaf in leaves:
        if isinstance(leaf.running, RunningProcess):
            pair = leaf.running.to_be_killed()
            if pair is not None:
                yield pair


def because_not_started(name: str, root: GroupRun) -> CancelReason:
    """Return why the other stages of a run are cancelled if stage or endpoint `name` could not be started."""
    return CancelReason(Cancelled(f"{name} could not be started"), StartError, root, collateral=True)


def because_failed(name: str, group: GroupRun) -> CancelReason:
    """Return why the other stages of a `fail_fast` pipeline are cancelled if stage `name` failed."""
    return CancelReason(Cancelled(f"{name} failed"), PipelineCancelled, group, collateral=True)


def because_of_output(root: GroupRun) -> CancelReason:
    """Return why the stages of a run are cancelled that writes more than may be captured."""
    return CancelReason(Cancelled("too much output"), PipelineCancelled, root, collateral=True)


def because_timed_out(timeout: float, group: GroupRun, leaves: Sequence[StageRun]) -> CancelReason:
    """Return why the stages of a pipeline are cancelled at its deadline; `leaves` are those of the run."""
    stops = describe_stops(leaf for leaf in leaves if leaf.within(group))
    return CancelReason(TimeoutError(f"timed out after {timeout:g} s{stops}"), PipelineTimeout, group)


def because_idle(timeout: float, root: GroupRun, leaves: Sequence[StageRun]) -> CancelReason:
    """Return why the stages of a run are cancelled that has written nothing for `timeout` seconds."""
    return CancelReason(
        TimeoutError(f"no output for {timeout:g} s{describe_stops(leaves)}"), PipelineTimeout, root
    )


def reason_of(reason: BaseException | str | None) -> BaseException:
    """Return the exception for the reason of a cancellation, as callers give it."""
    if reason is None or isinstance(reason, str):
        return Cancelled(reason or "cancelled")
    if not isinstance(reason, BaseException):
        raise TypeError(f"reason must be an exception, a str or None, not {reason!r}")
    if isinstance(reason, FinishEarly):
        raise TypeError("reason must not be FinishEarly, which is not a failure")
    return reason

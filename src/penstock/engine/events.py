"""Events about the start and the end of a run and of its stages."""

from __future__ import annotations

from penstock.core.errors import FinishEarly, text_of
from penstock.runtime.events import is_logged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from penstock.core.errors import PipelineError
    from penstock.engine.start_failure import StartFailure
    from penstock.engine.tree import GroupRun, NodeOutcome, StageRun
    from penstock.runtime.events import EventEmitter, Handler
    from penstock.stages.context import StageContext
    from penstock.stages.running import Running

__all__ = [
    "emit_abandoned",
    "emit_exit",
    "emit_run_end",
    "emit_run_start",
    "emit_start_failure",
    "report_start",
]


def emit_run_start(
    events: EventEmitter, root: GroupRun, leaves: Sequence[StageRun], once: set[object]
) -> None:
    """Report that the run begins. The set belongs to the run, and notes that this was done."""
    name = _name(root, leaves)
    context = {"pipeline": name, "stages": len(leaves)}
    events.emit("run-start", "", f"started: {name}", None, context, once=once)
    once.add(emit_run_start)


def report_start(ctx: StageContext, running: Running) -> bool:
    """Report that a stage was started. Return whether it is to be reported if something stops it."""
    if ctx.scope.events.handlers:
        _emit_start(ctx, running, _told(running))
        return True
    return bool(ctx.scope.services.found_terminal) and is_logged()


def emit_start_failure(events: EventEmitter, failure: StartFailure) -> None:
    """Report that a stage, or what a run needs besides its stages, could not be started."""
    ctx = None if failure.leaf is None else failure.leaf.ctx
    emitter = events if ctx is None else ctx.scope.events
    emitter.emit("start-failed", ctx or failure.stage, "could not be started", failure.cause)


def _emit_start(ctx: StageContext, running: Running, told: set[object]) -> None:
    ctx.pid = running.pid
    context = {} if running.pid is None else {"pid": running.pid}
    ctx.scope.events.emit("start", ctx, "started", None, context, once=told)
    told.add(_emit_start)


def _told(running: Running) -> set[object]:
    if running.told is None:
        running.told = set()
    return running.told


def emit_exit(running: Running, end: NodeOutcome) -> None:
    """Report that a stage has ended, and how. It may be done again, if an interrupt came in the middle."""
    ctx, told = running.ctx, _told(running)
    if _emit_start not in told and running.hand_over is None:  # an interrupt came before
        _emit_start(ctx, running, told)
    context: dict[str, Any] = {}
    if running.pid is not None:
        context["pid"] = running.pid
    if running.status is not None:
        context["returncode"] = running.status.returncode
    error = None if isinstance(end.error, FinishEarly) else end.error
    elapsed = running.ended - running.started
    if end.reason is not None:
        facts = {**context, "collateral": end.ignored}
        text = f"cancelled: {text_of(error)}"
        ctx.scope.events.emit("cancelled", ctx, text, error, facts, elapsed=elapsed, once=told)
    kind = "exit" if error is None or end.reason is not None else "failed"
    text = "ended" if error is None else f"ended: {text_of(error)}"
    ctx.scope.events.emit(kind, ctx, text, error, context, elapsed=elapsed, once=told)


def emit_run_end(  # noqa: PLR0913 - all that is known of the end
    events: EventEmitter,
    root: GroupRun,
    leaves: Sequence[StageRun],
    error: PipelineError | None,
    elapsed: float,
    once: set[object],
    *,
    failed_to_start: bool = False,
) -> None:
    """Report that the run has ended, and before that its failure, to listeners that know of none.

    It may be done again with the same set, if an interrupt came in the middle of it.
    """
    if emit_run_start not in once:  # an interrupt came before
        emit_run_start(events, root, leaves, once)
    name = _name(root, leaves)
    if error is not None and not failed_to_start:
        handlers = _uninformed(events, leaves, error)
        stage, cause = error.stage or name, error.cause
        events.emit("failed", stage, text_of(cause), cause, handlers=handlers, once=once)
    text = "ended" if error is None else f"ended: {text_of(error)}"
    events.emit("run-end", "", text, error, {"pipeline": name}, elapsed=elapsed, once=once)


def _uninformed(
    events: EventEmitter, leaves: Sequence[StageRun], error: PipelineError
) -> tuple[Handler, ...]:
    """Return the listeners that no event of a stage has given this very error."""
    leaf = None if error.index is None else leaves[error.index]
    end = None if leaf is None else leaf.end
    if leaf is None or leaf.ctx is None or end is None or not leaf.exit_event_sent:
        return events.handlers
    if end.error is not error.cause or end.reason is not None:
        return events.handlers
    own = events.handler  # a nested pipeline may have a handler of its own, which got it
    return () if own is None or leaf.ctx.scope.events is events else (own,)


def emit_abandoned(events: EventEmitter, reason: BaseException | None) -> None:
    """Report that the run no longer waits for the `close()` of an object it was handed."""
    events.emit("abandoned", "stdout", "its close() did not return", reason)


def _name(root: GroupRun, leaves: Sequence[StageRun]) -> str:
    """Return the name of the pipeline; of one without, the names of its stages."""
    name: str | None = root.option("name")
    return name or " | ".join(leaf.stage.name for leaf in leaves)

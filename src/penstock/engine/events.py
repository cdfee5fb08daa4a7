"""Events about the end of a stage, and about the run itself."""

from __future__ import annotations

from penstock.core.errors import FinishEarly, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from penstock.core.errors import PipelineError
    from penstock.engine.tree import GroupRun, NodeOutcome, StageRun
    from penstock.runtime.events import EventEmitter
    from penstock.stages.running import Running

__all__ = ["emit_abandoned", "emit_exit", "emit_failed"]


def emit_exit(running: Running, end: NodeOutcome) -> None:
    """Report that a stage has ended, and how."""
    ctx = running.ctx
    context: dict[str, Any] = {}
    if running.pid is not None:
        context["pid"] = running.pid
    if running.status is not None:
        context["returncode"] = running.status.returncode
    error = None if isinstance(end.error, FinishEarly) else end.error
    if end.reason is not None:
        ctx.emit_event("cancelled", f"cancelled: {text_of(error)}", error, context)
    ctx.emit_event("exit", "ended" if error is None else f"ended: {text_of(error)}", error, context)


def emit_failed(
    events: EventEmitter, error: PipelineError, root: GroupRun, leaves: Sequence[StageRun]
) -> None:
    """Report that the run failed, and which stage is the cause; if none is, the pipeline is named."""
    stage = error.stage or root.option("name") or " | ".join(leaf.stage.name for leaf in leaves)
    events.emit("failed", stage, text_of(error.cause), error.cause)


def emit_abandoned(events: EventEmitter, reason: BaseException | None) -> None:
    """Report that the run no longer waits for the `close()` of an object it was handed."""
    events.emit("abandoned", "stdout", "its close() did not return", reason)

"""The events that a run tells of its stages and of itself; those of a stage's own are told by its context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.core.errors import FinishEarly, text_of
from penstock.system.fork_guard import guard

if TYPE_CHECKING:
    from penstock.core.errors import PipelineError
    from penstock.engine.tree import End, Group
    from penstock.runtime.dispatcher import Dispatcher
    from penstock.stages.running import Running

__all__ = ["tell_abandoned", "tell_end", "tell_failure"]


def tell_end(running: Running, end: End) -> None:
    """Say that a stage has ended, and how."""
    ctx = running.ctx
    context: dict[str, Any] = {}
    if running.pid is not None:
        context["pid"] = running.pid
    if running.status is not None:
        context["returncode"] = running.status.returncode
    error = None if isinstance(end.error, FinishEarly) else end.error
    if end.reason is not None:
        ctx.tell("cancelled", f"cancelled: {text_of(error)}", error, context)
    ctx.tell("exit", "ended" if error is None else f"ended: {text_of(error)}", error, context)


def tell_failure(root: Group, dispatcher: Dispatcher, error: PipelineError) -> None:
    """Say that the run failed, and which stage is why."""
    _tell(root, dispatcher, "failed", error.stage, text_of(error.cause), error.cause)


def tell_abandoned(root: Group, dispatcher: Dispatcher, reason: BaseException | None) -> None:
    """Say that what was handed over to be closed was not waited for any longer."""
    _tell(root, dispatcher, "abandoned", "stdout", "its close() did not return", reason)


def _tell(  # noqa: PLR0913 - the parts of an event
    root: Group, dispatcher: Dispatcher, kind: str, stage: str, message: str, error: BaseException | None
) -> None:
    handler = root.option("on_event")
    if handler is None:
        return
    with guard:  # a fork must not copy the lock of an import in the middle of it
        from penstock.core.events import Event  # noqa: PLC0415 - for those who listen only

    event = Event(kind, stage, message, error)
    dispatcher.submit(lambda: handler(event))

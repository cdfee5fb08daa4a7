"""Events for the run's handler: the one place that builds an `Event`.

`Event` is imported when the first event is built, because most runs have no handler. A handler never
runs in the thread that emits: the dispatcher delivers, in order.
"""

from __future__ import annotations

import time
from functools import partial

from penstock.core.placeholders import masked
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from penstock.core.events import Event
    from penstock.runtime.dispatcher import Dispatcher

__all__ = ["EventEmitter", "new_event"]


class EventEmitter:
    """Emits the events of one run, or of one pipeline in it, to one handler. Any method, from any thread."""

    __slots__ = ("dispatcher", "handler")

    def __init__(self, handler: Callable[[Event], object] | None, dispatcher: Dispatcher) -> None:
        self.handler = handler
        """The `on_event` of the pipeline; None if nobody listens."""
        self.dispatcher = dispatcher

    def emit(
        self,
        kind: str,
        stage: str,
        message: str,
        error: BaseException | None = None,
        context: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        """Queue an event. Do nothing if nobody listens.

        A `context` that runs user code when it is built is given as a function, and built on delivery.
        """
        handler = self.handler
        if handler is None:
            return
        if callable(context):
            build, moment = context, time.time()
            self.dispatcher.submit(lambda: handler(new_event(kind, stage, message, error, build(), moment)))
        else:
            self.dispatcher.submit(partial(handler, new_event(kind, stage, message, error, context)))

    def emit_leftover(self, stage: str, pids: Sequence[int]) -> None:
        """Report that a stage which ended by itself has left processes behind."""
        text = ", ".join(map(str, pids))
        self.emit("leftover", stage, f"left processes behind: {text}", None, {"pids": list(pids)})


def new_event(  # noqa: PLR0913 - the fields of an event
    kind: str,
    stage: str,
    message: str,
    error: BaseException | None = None,
    context: Mapping[str, Any] | None = None,
    moment: float | None = None,
) -> Event:
    """Build an event, of now unless `moment` (by `time.time()`) says otherwise."""
    with late_import:
        from penstock.core.events import Event  # noqa: PLC0415 - most runs have no handler
    when = time.time() if moment is None else moment
    return Event(kind, masked(stage), masked(message), error, context or {}, when)

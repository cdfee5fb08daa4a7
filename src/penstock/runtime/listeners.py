"""Add and remove listeners to all runs of this process: handlers of events, and observers of starts.

A run looks once, when it begins, who listens (`runtime.events`). Later listeners hear nothing of it, and one
that has ended is not called any more. A forked copy of the process keeps the listeners, as it keeps the
handlers of `logging`. The worker processes of isolated stages have none: the events of a stage reach the
host.

An observer is the private hook for tracing (`penstock.otel`). It is called when a run begins, in the thread
and the contextvars context of the caller that starts it; the rest of the start has that context too. It
returns an `Observation`, which gets the events of the run, and may add variables to the environment of each
stage.

Adding and removing are single steps of a dict, so no fork or signal handler meets a lock.
"""

from __future__ import annotations

from penstock.runtime.events import process_handlers, process_observers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.core.events import Event
    from penstock.runtime.events import Handler, Observer

__all__ = ["listen", "observe"]


class _Listener:
    """A handler of all runs, until it is ended."""

    __slots__ = ("_handler",)

    def __init__(self, handler: Handler) -> None:
        self._handler: Handler | None = handler

    def __call__(self, event: Event) -> None:
        handler = self._handler
        if handler is not None:
            handler(event)

    def end(self) -> None:
        """Call the handler no more. Idempotent; from any thread."""
        self._handler = None
        process_handlers.pop(self, None)


def listen(handler: Handler) -> Callable[[], None]:
    """Call `handler` with each event of the runs that begin from now on; return the function that ends it."""
    listener = _Listener(handler)
    process_handlers[listener] = None
    return listener.end


def observe(observer: Observer) -> Callable[[], None]:
    """Call `observer` at the start of each run that begins from now on; return the function that ends it."""
    key = object()
    process_observers[key] = observer

    def end() -> None:
        process_observers.pop(key, None)

    return end

"""Listen to the events of all runs of the process."""

from __future__ import annotations

from penstock.core.options import check_handler
from penstock.core.public import exported
from penstock.runtime.listeners import listen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.core.events import Event

__all__ = ["on_event"]


@exported
def on_event(handler: Callable[[Event], object]) -> Callable[[], None]:
    """Call `handler` with each `Event` of all runs that this process begins from now on.

    Returns a function that ends that: the handler is called no more, also for runs that go on. It may be
    called again, and from any thread. A handler that was added twice is called twice.

    Handlers are called as the option `on_event` is. They run in a worker thread, in a copy of the contextvars
    context of the caller that started the run, and one at a time for each run. The run's own handler comes
    first, then these in the order in which they were added. An exception is logged. Events of two runs may
    come at the same time, so a handler that is shared must allow for that; `run_id` tells them apart. A run
    waits for a quick handler, so `run()` returns when all its events were handled.

    A run that had begun before the call is not heard. A forked copy of the process keeps the handlers. Stages
    in worker processes are heard as others are. Raises TypeError if `handler` is not callable, or is async.

    >>> from penstock import command, on_event
    >>> ended = []
    >>> stop = on_event(lambda event: ended.append(event.argv) if event.kind == "exit" else None)
    >>> _ = command("true").run()
    >>> stop()
    >>> _ = command("false", ok_codes=(1,)).run()
    >>> ended
    [('true',)]
    """
    if handler is None:
        raise TypeError("handler must be callable, not None")
    check_handler("handler", handler)
    return listen(handler)

"""Events of a run for its listeners: the one place that builds an `Event`.

The listeners are the pipeline's own `on_event`, then those of the process in the order in which they were
added, then the log. None of them runs in the thread that emits: the dispatcher delivers, in order, in a copy
of the context of the caller that started the run. `Event` is imported when the first event is built, because
most runs have no listener.

A few kinds are warnings, and are logged in any run, if the program has configured logging. Without handlers,
`logging` would write them to stderr, which the commands of a program often write to, and others read.
"""

from __future__ import annotations

import itertools
import sys
import time
from contextvars import copy_context
from functools import partial

from penstock.core.loaded import loaded
from penstock.core.placeholders import masked
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextvars import Context
    from typing import Any, Protocol

    from penstock.core.events import Event
    from penstock.runtime.dispatcher import Dispatcher

    Handler = Callable[[Event], object]

    class EventSource(Protocol):
        """The stage that an event is about."""

        name: str

        @property
        def stage_id(self) -> str | None: ...
        @property
        def argv(self) -> tuple[str, ...] | None: ...
        @property
        def pid(self) -> int | None: ...

    class Observation(Protocol):
        """The part of an observer that deals with one run; see `runtime.listeners`."""

        def environment(self, stage: EventSource) -> Mapping[str, str | None]:
            """Return variables for a stage that is about to be started; None removes an inherited one.

            Variables that an `env` sets stay as they are. Called in the thread that starts the stage.
            """
            ...

        def handle(self, event: Event) -> object:
            """Take an event of the run, as a handler of `on_event` does."""

    Observer = Callable[[int, str | None, list[str]], Observation | None]
    """Called with the run's id, the name of its pipeline, if it has one, and the names of its stages."""


__all__ = [
    "WARNINGS",
    "EventEmitter",
    "is_logged",
    "listeners",
    "log_handler",
    "new_event",
    "process_handlers",
    "process_observers",
]

WARNINGS = frozenset({"abandoned", "leftover", "stopped", "unguarded"})
"""The kinds of events that the log has as warnings: something is left behind, or waits for the user."""
_DEBUG = 10
_WARNING = 30
"""As in logging, which is not imported for them."""

process_handlers: dict[Handler, None] = {}
"""The handlers of all runs of the process, in the order in which they were added."""
process_observers: dict[object, Observer] = {}
_logger: Any = None
"""The logger `penstock`, once a run has found that the program has imported logging."""
_run_ids = itertools.count(1)


def listeners() -> tuple[Handler, ...]:
    """Return who listens to a run that begins now, beside its own handler, in the order of the calls."""
    if not process_handlers and _logger is None and "logging" not in sys.modules:
        return ()
    is_debugged = is_logged(_DEBUG)
    found = tuple(process_handlers.copy())
    return (*found, log_handler()) if is_debugged else found


def is_logged(level: int = _WARNING) -> bool:
    """Whether the program has configured logging, and the logger `penstock` is enabled for the level.

    A program that has not imported logging has configured nothing, and does not pay for the import.
    """
    global _logger  # noqa: PLW0603 - one for the process
    if _logger is None:
        get_logger = loaded("logging", "getLogger")
        if get_logger is None:
            return False
        _logger = get_logger("penstock")
    return bool(_logger.isEnabledFor(level) and _logger.hasHandlers())


def log_handler() -> Handler:
    """Return the handler that writes events to the log."""
    with late_import:
        from penstock.runtime.event_log import log_event  # noqa: PLC0415 - few runs are logged

    return log_event


class EventEmitter:
    """Emits the events of one run, or of one pipeline in it. Any method, from any thread."""

    __slots__ = ("_context", "_listeners", "dispatcher", "handler", "handlers", "run_id")

    def __init__(
        self,
        handler: Handler | None,
        dispatcher: Dispatcher,
        listeners: tuple[Handler, ...] = (),
        run_id: int | None = None,
    ) -> None:
        """Make it in the thread that starts the run. Without `run_id`, it is for a new run."""
        self.handler = handler
        """The `on_event` of the pipeline."""
        self.dispatcher = dispatcher
        self.run_id = next(_run_ids) if run_id is None else run_id
        self._listeners = listeners
        self._context: Context | None = None
        self.handlers = listeners
        """Those that get its events, in this order; events need not be built if there are none."""
        if handler is not None:
            self.handlers = (handler, *listeners)
        if self.handlers:
            self._context = copy_context()

    def for_handler(self, handler: Handler | None) -> EventEmitter:
        """Return the emitter for a pipeline of the same run whose `on_event` is this."""
        if handler is self.handler:
            return self
        return EventEmitter(handler, self.dispatcher, self._listeners, self.run_id)

    def add(self, listeners: tuple[Handler, ...], context: Context) -> None:
        """Have listeners called too, and all of them in `context`. Before anything was emitted."""
        self._listeners += listeners
        self.handlers += listeners
        self._context = context

    def emit(  # noqa: PLR0913 - what an event consists of
        self,
        kind: str,
        source: str | EventSource,
        message: str,
        error: BaseException | None = None,
        context: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
        *,
        elapsed: float | None = None,
        handlers: tuple[Handler, ...] | None = None,
        once: set[object] | None = None,
    ) -> None:
        """Queue an event. Do nothing if nobody listens, unless it is a warning.

        `source` is the stage, or the name of what it is about. A `context` that runs user code when it is
        built is given as a function, and built on delivery. `handlers` is who gets it, by default all.

        An event that may be emitted again after an interrupt comes with a set `once`, the same each time. Of
        each kind a handler gets only the first.
        """
        if handlers is None:
            handlers = self.handlers
        if kind in WARNINGS and is_logged() and (log := log_handler()) not in handlers:
            handlers = (*handlers, log)
        if not handlers:
            return
        moment = time.time()
        event: Event | _Late
        if callable(context):
            event = _Late(partial(self._build, kind, source, message, error, moment, elapsed), context)
        else:
            event = self._build(kind, source, message, error, moment, elapsed, context)
        for handler in handlers:
            call = partial(handler, event) if not isinstance(event, _Late) else partial(event.give, handler)
            if once is not None:
                call = partial(_call_once, once, (kind, handler), call)
            self.dispatcher.submit(call if self._context is None else partial(self._context.run, call))

    def emit_leftover(self, source: str | EventSource, pids: Sequence[int]) -> None:
        """Report that a stage which ended by itself has left processes behind."""
        text = ", ".join(map(str, pids))
        self.emit("leftover", source, f"left processes behind: {text}", None, {"pids": list(pids)})

    def _build(  # noqa: PLR0913 - as above
        self,
        kind: str,
        source: str | EventSource,
        message: str,
        error: BaseException | None,
        moment: float,
        elapsed: float | None,
        context: Mapping[str, Any] | None,
    ) -> Event:
        return new_event(
            kind, source, message, error, context, moment=moment, run_id=self.run_id, elapsed=elapsed
        )


def _call_once(given: set[object], key: object, call: Callable[[], object]) -> None:
    """In the worker that delivers: there is one at a time for each run."""
    if key not in given:
        given.add(key)
        call()


class _Late:
    """An event that is built when the first handler gets it."""

    __slots__ = ("_build", "_context", "_event")

    def __init__(
        self, build: Callable[[Mapping[str, Any]], Event], context: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._build = build
        self._context = context
        self._event: Event | None = None

    def give(self, handler: Handler) -> None:
        """Call a handler with it."""
        if self._event is None:
            self._event = self._build(self._context())
        handler(self._event)


def new_event(  # noqa: PLR0913 - the fields of an event
    kind: str,
    source: str | EventSource,
    message: str,
    error: BaseException | None = None,
    context: Mapping[str, Any] | None = None,
    *,
    moment: float | None = None,
    run_id: int | None = None,
    elapsed: float | None = None,
) -> Event:
    """Build an event, of now unless `moment` (by `time.time()`) says otherwise."""
    with late_import:
        from penstock.core.events import Event  # noqa: PLC0415 - most runs have no listener
    context = context or {}
    facts: Mapping[str, Any] = {} if kind == "message" else context  # the user's own names may be the same
    stage, argv, stage_id, pid = (
        (source, None, None, None)
        if isinstance(source, str)
        else (source.name, source.argv, source.stage_id, source.pid)
    )
    return Event(
        kind,
        masked(stage),
        masked(message),
        error,
        context,
        time.time() if moment is None else moment,
        argv,
        stage_id,
        run_id,
        facts.get("pid", pid),
        facts.get("returncode"),
        elapsed,
    )

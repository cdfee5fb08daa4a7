"""OpenTelemetry: spans and metrics of runs and commands, and the trace context in children's environment.

    from penstock.otel import PenstockInstrumentor
    PenstockInstrumentor().instrument()

`opentelemetry-instrument python app.py` does the same. This needs the extra `otel`. Spans and metrics go to
the providers that the program has configured; without an SDK there are none.

A run is an internal span, whose parent is the current span of the caller that starts the run, or the one that
the environment of this process names. It is the current span of functions, of runs that they start, and of
handlers of events. A command is a client span below it, by the semantic conventions for command line
programs. Children get the context of their command's span, as `TRACEPARENT`, `TRACESTATE` and `BAGGAGE`, or
in the variables of the propagator that is configured. Variables that `env` sets stay as they are.

Errors. The span of a command has the status "error" if the command failed, or was cancelled for its own sake.
It has none for a pipe error, such as that of `yes` in `yes | head`, or if it ended for the sake of another
stage. The span of a run has it if the run failed. `error.type` is an exit status ("3"), the name of a signal
("SIGKILL"), or the type of an exception.

Nothing here can harm a run: exceptions go to the log. Out of scope: spans of Python stages.
"""

from __future__ import annotations

import os
import re
import signal
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from penstock import ExitError, PipelineError, is_pipe_error
from penstock.core.errors import text_of
from penstock.runtime.listeners import observe

try:
    from opentelemetry import context as otel_context
    from opentelemetry import metrics, propagate, trace
    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined] # untyped
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled
    from opentelemetry.propagators.textmap import Getter, Setter
    from opentelemetry.trace import SpanKind, Status, StatusCode
except ModuleNotFoundError as missing:
    raise ImportError("penstock.otel needs OpenTelemetry: pip install 'penstock[otel]'") from missing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from penstock import Event
    from penstock.runtime.events import EventSource

__all__ = ["PenstockInstrumentor"]

_ARGS_VARIABLE: Final = "OTEL_PYTHON_PENSTOCK_CAPTURE_ARGS"
_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
"""Bounds for histograms of durations, in seconds: from a quick command to a long job."""
_MAX_NAME: Final = 120
"""Characters of the name of a run's span."""


class PenstockInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # it has no types
    """Makes spans and metrics of all runs of the process that begin while it is on.

    `instrument(tracer_provider=None, meter_provider=None, capture_args=None)` switches it on, and
    `uninstrument()` off. There is one instrumentor a process. The providers are the global ones by default.
    With `capture_args=True` the span of a command has its arguments, in which a `Secret` is `***`, as
    `process.command_args`. By default it has none, unless the environment variable
    `OTEL_PYTHON_PENSTOCK_CAPTURE_ARGS` is `true`.

    >>> from opentelemetry.sdk.trace import TracerProvider
    >>> from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    >>> from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    >>> from penstock import command
    >>> provider, exporter = TracerProvider(), InMemorySpanExporter()
    >>> provider.add_span_processor(SimpleSpanProcessor(exporter))
    >>> PenstockInstrumentor().instrument(tracer_provider=provider)
    >>> _ = command("true").run(name="nothing")
    >>> PenstockInstrumentor().uninstrument()
    >>> [span.name for span in exporter.get_finished_spans()]
    ['true', 'nothing']
    """

    _stop: Callable[[], None] | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return nothing: it comes with the package that it instruments."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        capture_args = kwargs.get("capture_args")
        if capture_args is None:
            capture_args = os.environ.get(_ARGS_VARIABLE, "").strip().lower() == "true"
        telemetry = _Telemetry(
            kwargs.get("tracer_provider"), kwargs.get("meter_provider"), capture_args=bool(capture_args)
        )
        self._stop = observe(telemetry.begin_run)

    def _uninstrument(self, **_kwargs: Any) -> None:
        if self._stop is not None:
            self._stop()
            self._stop = None


class _Telemetry:
    """The tracer and the instruments, which all runs share."""

    def __init__(self, tracer_provider: Any, meter_provider: Any, *, capture_args: bool) -> None:
        try:
            own_version = version("penstock")
        except PackageNotFoundError:  # run from its sources
            own_version = ""
        self.tracer = trace.get_tracer("penstock", own_version, tracer_provider)
        self.capture_args = capture_args
        meter = metrics.get_meter("penstock", own_version, meter_provider)
        self.active = meter.create_up_down_counter(
            "penstock.runs.active", unit="{run}", description="Runs that have begun and have not ended."
        )
        self.run_duration = meter.create_histogram(
            "penstock.run.duration",
            unit="s",
            description="Duration of runs.",
            explicit_bucket_boundaries_advisory=_BUCKETS_S,
        )
        self.command_duration = meter.create_histogram(
            "penstock.command.duration",
            unit="s",
            description="Duration of commands.",
            explicit_bucket_boundaries_advisory=_BUCKETS_S,
        )

    def begin_run(self, _run_id: int, name: str | None, stages: list[str]) -> _RunSpans | None:
        """Begin the span of a run, in a context that is the run's own; None if spans are suppressed."""
        if not is_instrumentation_enabled():
            return None
        return _RunSpans(self, name, stages)


class _RunSpans:
    """The spans of one run."""

    def __init__(self, telemetry: _Telemetry, name: str | None, stages: list[str]) -> None:
        self._telemetry = telemetry
        self._attributes: dict[str, Any] = {} if name is None else {"penstock.pipeline.name": name}
        parent = otel_context.get_current()
        if not trace.get_current_span(parent).get_span_context().is_valid:
            parent = propagate.extract(os.environ, parent, _ENVIRONMENT_GETTER)
        self._span = telemetry.tracer.start_span(
            (name or " | ".join(stages))[:_MAX_NAME],
            parent,
            SpanKind.INTERNAL,
            {**self._attributes, "penstock.pipeline.stages": len(stages)},
        )
        self._context = trace.set_span_in_context(self._span, parent)
        otel_context.attach(self._context)  # never detached: the context is this run's copy
        self._commands: dict[str | None, Span] = {}
        self._cancelled: dict[str | None, Event] = {}
        self._counted = False

    def environment(self, stage: EventSource) -> Mapping[str, str | None]:
        """Begin the span of a command, and return the variables by which its children find it."""
        context = self._context
        if stage.argv is not None:
            context = trace.set_span_in_context(self._begin_command(stage, stage.argv), context)
        return _variables(context)

    def _begin_command(self, stage: EventSource, argv: tuple[str, ...]) -> Span:
        attributes: dict[str, Any] = {"process.executable.name": _executable_name(argv)}
        if argv[0].startswith("/"):
            attributes["process.executable.path"] = argv[0]
        if self._telemetry.capture_args:
            attributes["process.command_args"] = argv
        span = self._telemetry.tracer.start_span(
            _executable_name(argv), self._context, SpanKind.CLIENT, attributes
        )
        self._commands[stage.stage_id] = span
        return span

    def handle(self, event: Event) -> None:
        """Take an event of the run."""
        kind = event.kind
        if kind == "run-start":
            self._counted = True
            self._telemetry.active.add(1)
        elif kind == "run-end":
            self._end_run(event)
        elif kind == "start" and event.pid is not None and event.stage_id in self._commands:
            self._commands[event.stage_id].set_attribute("process.pid", event.pid)
        elif kind == "cancelled":
            self._cancelled[event.stage_id] = event
        elif kind == "start-failed" or (kind in {"exit", "failed"} and event.elapsed is not None):
            self._end_command(event)

    def _end_command(self, event: Event) -> None:
        span = self._commands.pop(event.stage_id, None)
        cancelled = self._cancelled.pop(event.stage_id, None)
        if span is None or event.argv is None:  # a Python stage
            return
        attributes: dict[str, Any] = {}
        if event.returncode is not None:
            attributes["process.exit.code"] = event.returncode
        if event.error is not None:
            attributes["error.type"] = _error_type(event.error)
        span.set_attributes(attributes)
        is_collateral = cancelled is not None and cancelled.context.get("collateral")
        if event.error is not None and not is_collateral and not is_pipe_error(event.error):
            span.set_status(Status(StatusCode.ERROR, text_of(event.error)))
        span.end(_nanoseconds(event))
        if event.elapsed is not None:
            attributes["process.executable.name"] = _executable_name(event.argv)
            context = trace.set_span_in_context(span, self._context)
            self._telemetry.command_duration.record(event.elapsed, attributes, context)

    def _end_run(self, event: Event) -> None:
        for span in self._commands.values():  # of commands whose starts were interrupted
            span.end(_nanoseconds(event))
        self._commands.clear()
        error = event.error
        if error is not None:
            self._attributes["error.type"] = error_type = _error_type(error)
            self._span.set_attribute("error.type", error_type)
            self._span.set_status(Status(StatusCode.ERROR, _description(error)))
        self._span.end(_nanoseconds(event))
        if self._counted:
            self._telemetry.active.add(-1)
        if event.elapsed is not None:
            self._telemetry.run_duration.record(event.elapsed, self._attributes, self._context)


class _EnvironmentGetter(Getter["Mapping[str, str]"]):
    def get(self, carrier: Mapping[str, str], key: str) -> list[str] | None:
        value = carrier.get(_variable(key))
        return None if value is None else [value]

    def keys(self, carrier: Mapping[str, str]) -> list[str]:
        return list(carrier)


class _EnvironmentSetter(Setter["dict[str, str | None]"]):
    def set(self, carrier: dict[str, str | None], key: str, value: str) -> None:
        carrier[_variable(key)] = value


_ENVIRONMENT_GETTER: Final = _EnvironmentGetter()
_ENVIRONMENT_SETTER: Final = _EnvironmentSetter()


def _variables(context: Context) -> dict[str, str | None]:
    """Return the variables for a context; None for those of another one that must not be inherited."""
    variables: dict[str, str | None] = {
        _variable(name): None for name in propagate.get_global_textmap().fields
    }
    propagate.inject(variables, context, _ENVIRONMENT_SETTER)
    return variables


def _variable(key: str) -> str:
    """Return the name of the variable for a key of a propagator, by the specification of such carriers."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", key).upper()
    return f"_{name}" if not name or name[0].isdigit() else name


def _executable_name(argv: tuple[str, ...]) -> str:
    return os.path.basename(argv[0]) or argv[0]  # noqa: PTH119 - a text for people


def _nanoseconds(event: Event) -> int:
    return int(event.time * 1e9)


def _error_type(error: BaseException) -> str:
    if type(error) is PipelineError:  # the others of its family say more than their causes
        return _error_type(error.cause)
    if isinstance(error, ExitError):
        if error.signal is None:
            return str(error.returncode)
        try:
            return signal.Signals(error.signal).name
        except ValueError:  # a real-time signal
            return f"signal {error.signal}"
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _description(error: BaseException) -> str:
    """Return the text of a run's error without what the command wrote to stderr, which may be anything."""
    if isinstance(error, PipelineError) and error.stage is not None:
        return f"{error.stage}: {text_of(error.cause)}"
    return text_of(error)

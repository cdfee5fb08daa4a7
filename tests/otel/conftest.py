"""Spans and metrics in memory, and the instrumentor on while a test runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from penstock.otel import PenstockInstrumentor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan


class Telemetry:
    """The providers, and what has come out of them."""

    def __init__(self) -> None:
        self.spans_provider = TracerProvider(shutdown_on_exit=False)
        self._exporter = InMemorySpanExporter()
        self.spans_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.metrics_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer = self.spans_provider.get_tracer("test")

    def instrument(self, **options: Any) -> None:
        """Switch the instrumentor on."""
        PenstockInstrumentor().instrument(
            tracer_provider=self.spans_provider, meter_provider=self.metrics_provider, **options
        )

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, in that order."""
        return list(self._exporter.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        """The one span of a name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def points(self, metric: str) -> list[Any]:
        """The data points of a metric."""
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (() if data is None else data.resource_metrics)
            for scope in resource.scope_metrics
            for found in scope.metrics
            if found.name == metric
            for point in found.data.data_points
        ]

    def close(self) -> None:
        """End the providers."""
        self.spans_provider.shutdown()
        self.metrics_provider.shutdown()


@pytest.fixture
def bare() -> Iterator[Telemetry]:
    """Providers, with the instrumentor off; whoever switches it on need not switch it off."""
    telemetry = Telemetry()
    yield telemetry
    if PenstockInstrumentor().is_instrumented_by_opentelemetry:
        PenstockInstrumentor().uninstrument()
    telemetry.close()


@pytest.fixture
def telemetry(bare: Telemetry) -> Telemetry:
    """Providers, with the instrumentor on."""
    bare.instrument()
    return bare

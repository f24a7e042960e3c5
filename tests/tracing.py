"""Every span that this process makes, as it would leave: for tests of traces."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared import trace
from shared.telemetry import SafeExporter


@contextmanager
def recorded(*, ratio: float = 1.0) -> Iterator[InMemorySpanExporter]:
    """Record this share of traces inside the block, and none after it."""
    exporter = InMemorySpanExporter()
    provider = trace.configure(ratio=ratio)
    provider.add_span_processor(SimpleSpanProcessor(SafeExporter(exporter)))
    try:
        yield exporter
    finally:
        trace.configure()
        exporter.shutdown()

"""W3C trace context: one trace from the customer's HTTP request through every event to the webhook.

Context travels as a `traceparent` text in AMQP headers, inbox and outbox rows; exporting is not done here.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

HEADER = "traceparent"
_PROPAGATOR = TraceContextTextMapPropagator()


def configure() -> None:
    """Install a provider that gives spans real ids. Without one, spans that begin a trace have none."""
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        trace.set_tracer_provider(TracerProvider())


def current_traceparent() -> str | None:
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get(HEADER)


def current_trace_id() -> str | None:
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


@contextmanager
def span(name: str, *, parent: str | None = None, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[None]:
    """Run the block in a span. `parent` is a traceparent; None continues the current trace or begins one."""
    context = _PROPAGATOR.extract({HEADER: parent}) if parent else None
    with trace.get_tracer("tldr").start_as_current_span(name, context=context, kind=kind):
        yield

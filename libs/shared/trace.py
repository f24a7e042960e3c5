"""W3C trace context: one trace from the customer's HTTP request through every event to the webhook.

Context travels as a `traceparent` text in AMQP headers, inbox and outbox rows, and in the rows of long jobs.
Where spans go, if anywhere, is decided in `telemetry.py`.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes

HEADER = "traceparent"
CHAPTER_SPANS: Final = 200
_PROPAGATOR = TraceContextTextMapPropagator()
_TRACER = trace.get_tracer("tldr")

Value = str | int | float | bool | None


class HeadSampler(Sampler):
    """Decides where a trace begins; everything behind it follows, also over links.

    A request from outside is a beginning whatever its caller says, so that no caller makes us record everything.
    """

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio

    def should_sample(  # noqa: PLR0917 - the SDK's signature
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        parent = trace.get_current_span(parent_context).get_span_context()
        origins = [parent] if parent.is_valid else [link.context for link in links or ()]
        sampled = self._samples([] if kind is SpanKind.SERVER else origins)
        decision = Decision.RECORD_AND_SAMPLE if sampled else Decision.DROP
        return SamplingResult(decision, attributes, parent.trace_state)

    def _samples(self, origins: Sequence[SpanContext]) -> bool:
        """Chance decides and not the trace's id, which a caller may have chosen."""
        if self.ratio <= 0:
            return False
        if origins:
            return any(each.trace_flags.sampled for each in origins)
        return random.random() < self.ratio  # noqa: S311

    def get_description(self) -> str:
        return f"HeadSampler({self.ratio})"


def configure(*, ratio: float = 0.0, resource: Mapping[str, str] | None = None) -> TracerProvider:
    """Install a provider that gives spans real ids and records this share of traces; the one there stays.

    Without a provider, spans that begin a trace have no ids. The first call's `resource` stays.
    """
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        made = Resource.create(dict(resource)) if resource is not None else Resource.get_empty()
        provider = TracerProvider(sampler=HeadSampler(ratio), resource=made, shutdown_on_exit=False)
        trace.set_tracer_provider(provider)
    if isinstance(provider.sampler, HeadSampler):
        provider.sampler.ratio = ratio
    return provider


def current_traceparent() -> str | None:
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get(HEADER)


def current_trace_id() -> str | None:
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def current_span_id() -> str | None:
    context = trace.get_current_span().get_span_context()
    return f"{context.span_id:016x}" if context.is_valid else None


@contextmanager
def span(
    name: str,
    *,
    parent: str | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, Value] | None = None,
    link: str | None = None,
) -> Iterator[None]:
    """Run the block in a span. `parent` is a traceparent; None continues the current trace or begins one.

    With a `link`, which is a traceparent too, the span begins a new trace that points to the linked one.
    Attributes that are None are left out. An exception marks the span and leaves none of its words there.
    """
    with _TRACER.start_as_current_span(
        name,
        context=_PROPAGATOR.extract({HEADER: parent}) if parent else Context() if link else None,
        kind=kind,
        attributes=_present(attributes or {}),
        links=_links(link),
        record_exception=False,
    ):
        yield


def _links(traceparent: str | None) -> list[Link]:
    if traceparent is None:
        return []
    context = trace.get_current_span(_PROPAGATOR.extract({HEADER: traceparent})).get_span_context()
    return [Link(context)] if context.is_valid else []


def _present(attributes: Mapping[str, Value]) -> dict[str, str | int | float | bool]:
    return {name: value for name, value in attributes.items() if value is not None}


def annotate(attributes: Mapping[str, Value]) -> None:
    """Add to the current span what is known only now; None is left out."""
    current = trace.get_current_span()
    if current.is_recording():
        current.set_attributes(_present(attributes))


def fail(code: str) -> None:
    """Mark the current span as failed, for this reason."""
    current = trace.get_current_span()
    if current.is_recording():
        current.set_attribute("error.type", code)
        current.set_status(StatusCode.ERROR)


@contextmanager
def continued(traceparent: str | None) -> Iterator[None]:
    """Run the block, and the tasks that it starts, behind that span without making one; None changes nothing."""
    if traceparent is None:
        yield
        return
    token = contexts.attach(_PROPAGATOR.extract({HEADER: traceparent}))
    try:
        yield
    finally:
        contexts.detach(token)


class Chapters:
    """The spans of a job that may last for hours: its own trace at first, then new ones that link to it.

    No tool shows a trace of twenty thousand spans. `spans` is how many one chapter takes.
    """

    def __init__(self, origin: str | None, *, spans: int = CHAPTER_SPANS) -> None:
        self._origin = origin
        self._parent = origin
        self._spans = spans
        self._used = 0

    @contextmanager
    def span(self, name: str, *, attributes: Mapping[str, Value]) -> Iterator[None]:
        if self._used and self._used % self._spans == 0:
            self._parent = None
        link = self._origin if self._parent is None else None
        with span(name, parent=self._parent, link=link, attributes=attributes):
            self._parent = self._parent or current_traceparent()
            yield
        self._used += 1

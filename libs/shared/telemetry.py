"""Where spans and unexpected errors go, if the settings name a place: any OTLP collector, Logfire, Sentry.

Nothing here may hurt the service: exporting has threads, queues and time limits of its own, and without
settings none of it is imported. What leaves is named here; all else of a span stays.
"""

import platform
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Status

from shared import metrics, trace
from shared.logs import Report
from shared.settings import ServiceSettings

if TYPE_CHECKING:
    from shared.sentry import ErrorReports

log = structlog.get_logger()

NAMESPACE: Final = "tldr-highlight-api"
QUEUE_SPANS: Final = 4096
BATCH_SPANS: Final = 512
EVERY_S: Final = 2.0
EXPORT_TIMEOUT_S: Final = 5.0
STOP_S: Final = 3.0
COMPLAIN_EVERY_S: Final = 60.0
# Names that may leave. Addresses with their queries, headers, bodies and the words of exceptions have none.
SAFE_PREFIXES: Final = ("tldr.", "messaging.")
SAFE_ATTRIBUTES: Final = frozenset(
    {
        *("http.request.method", "http.response.status_code", "http.route"),
        *("url.scheme", "network.protocol.version", "error.type"),
    }
)


@dataclass(frozen=True)
class Destination:
    """A collector: the address for traces, and the headers that open it."""

    url: str
    headers: Mapping[str, str]


def destination(settings: ServiceSettings) -> Destination | None:
    """Where the settings send spans; None where they do not."""
    token = settings.logfire_token.get_secret_value()
    if token:
        base = settings.logfire_base_url or _logfire_region(token)
        return Destination(_traces(base), {"Authorization": token})
    if settings.otel_exporter_otlp_endpoint:
        headers = parse_headers(settings.otel_exporter_otlp_headers.get_secret_value())
        return Destination(_traces(settings.otel_exporter_otlp_endpoint), headers)
    return None


def _logfire_region(token: str) -> str:
    """Write tokens name their region: pylf_v1_eu_…"""
    region = "eu" if token.startswith("pylf_v1_eu_") else "us"
    return f"https://logfire-{region}.pydantic.dev"


def _traces(base: str) -> str:
    return f"{base.rstrip('/')}/v1/traces"


def parse_headers(text: str) -> dict[str, str]:
    """`name=value,…` with values percent-encoded, as OpenTelemetry writes them."""
    pairs = (each.partition("=") for each in text.split(",") if each.strip())
    return {name.strip(): unquote(value.strip()) for name, _, value in pairs}


class SafeExporter(SpanExporter):
    """Lets only named attributes out, counts what became of spans, and complains at most once a minute."""

    def __init__(self, exporter: SpanExporter, *, now_s: Callable[[], float] = monotonic) -> None:
        self._exporter = exporter
        self._now_s = now_s
        self._complain_at_s = -float("inf")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export([scrubbed(span) for span in spans])
        done = result is SpanExportResult.SUCCESS
        metrics.spans.labels("exported" if done else "failed").inc(len(spans))
        if not done and self._now_s() >= self._complain_at_s:
            self._complain_at_s = self._now_s() + COMPLAIN_EVERY_S
            log.warning("spans_not_exported", spans=len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def scrubbed(span: ReadableSpan) -> ReadableSpan:
    """The span without events, without words of errors, and with the attributes that may leave."""
    attributes = span.attributes or {}
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes={name: value for name, value in attributes.items() if _is_safe(name)},
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _is_safe(name: str) -> bool:
    return name in SAFE_ATTRIBUTES or name.startswith(SAFE_PREFIXES)


class CountingProcessor(BatchSpanProcessor):
    """Counts what comes in; what neither leaves nor fails was dropped by the full queue, or still waits."""

    def on_end(self, span: ReadableSpan) -> None:
        metrics.spans.labels("recorded").inc()
        super().on_end(span)


def span_processor(to: Destination, *, timeout_s: float = EXPORT_TIMEOUT_S) -> CountingProcessor:
    """Exports in batches from a thread of its own; what its bounded queue does not hold is lost."""
    from opentelemetry.exporter.otlp.proto.http import Compression  # noqa: PLC0415 - heavy, and rarely wanted
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    exporter = OTLPSpanExporter(
        endpoint=to.url, headers=dict(to.headers), timeout=timeout_s, compression=Compression.Gzip
    )
    return CountingProcessor(
        SafeExporter(exporter),
        max_queue_size=QUEUE_SPANS,
        schedule_delay_millis=EVERY_S * 1000,
        max_export_batch_size=BATCH_SPANS,
    )


@dataclass(frozen=True)
class Telemetry:
    """What was started: who takes error reports, and for each part the call that flushes and ends it."""

    report: Report | None = None
    closings: tuple[Callable[[], object], ...] = ()

    def stop(self, *, within_s: float = STOP_S) -> None:
        """Send what waits. A collector that does not answer is left after that time, with what it did not take."""
        threads = [threading.Thread(target=close, daemon=True) for close in self.closings]
        for thread in threads:
            thread.start()
        until_s = monotonic() + within_s
        for thread in threads:
            thread.join(max(0.0, until_s - monotonic()))


def start(service: str, settings: ServiceSettings) -> Telemetry:
    """Trace ids always; spans and error reports where the settings name a place for them."""
    exporting = _export(service, settings)
    reports = _error_reports(service, settings)
    return Telemetry(reports, (*exporting, *((reports.close,) if reports else ())))


def _export(service: str, settings: ServiceSettings) -> tuple[Callable[[], object], ...]:
    to = destination(settings)
    if to is None:
        trace.configure()
        return ()
    provider = trace.configure(ratio=settings.trace_sample_ratio, resource=_resource(service, settings))
    processor = span_processor(to)
    provider.add_span_processor(processor)
    return (processor.shutdown,)


def _error_reports(service: str, settings: ServiceSettings) -> "ErrorReports | None":
    dsn = settings.sentry_dsn.get_secret_value()
    if not dsn:
        return None
    from shared.sentry import ErrorReports  # noqa: PLC0415 - the SDK is heavy, and rarely wanted

    return ErrorReports(
        dsn, service=service, environment=settings.sentry_environment, version=settings.version
    )


def _resource(service: str, settings: ServiceSettings) -> dict[str, str]:
    return {
        "service.name": f"tldr-{service}",
        "service.namespace": NAMESPACE,
        "service.version": settings.version,
        "service.instance.id": platform.node(),
    }

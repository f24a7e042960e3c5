"""Where spans go by the settings, what of them may leave, and an end that waits for nobody."""

import threading
from collections.abc import Sequence
from time import monotonic

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags
from pydantic import ValidationError

from shared import metrics
from shared.settings import ServiceSettings
from shared.telemetry import (
    COMPLAIN_EVERY_S,
    CountingProcessor,
    Destination,
    SafeExporter,
    Telemetry,
    destination,
    scrubbed,
)

REQUIRED = {
    "database_url": "postgresql://u:p@h/d",
    "rabbitmq_url": "amqp://u:p@h/v",
    "ops_port": "0",
    "object_store_folder": "/objects",
    "url_signing_secret": "s" * 32,
    "secrets_keyring": "k",
}


def settings(**changes: str) -> ServiceSettings:
    return ServiceSettings.model_validate(REQUIRED | changes)


def test_without_settings_spans_go_nowhere() -> None:
    assert destination(settings()) is None


def test_a_collector_is_named_by_its_base_address_and_its_headers() -> None:
    to = destination(
        settings(
            otel_exporter_otlp_endpoint="http://collector:4318/",
            otel_exporter_otlp_headers="Authorization=Bearer%20abc, x-tenant = one",
        )
    )
    assert (
        Destination("http://collector:4318/v1/traces", {"Authorization": "Bearer abc", "x-tenant": "one"})
        == to
    )


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"logfire_token": "pylf_v1_us_abc"}, "https://logfire-us.pydantic.dev/v1/traces"),
        ({"logfire_token": "pylf_v1_eu_abc"}, "https://logfire-eu.pydantic.dev/v1/traces"),
        ({"logfire_token": "abc"}, "https://logfire-us.pydantic.dev/v1/traces"),
        (
            {"logfire_token": "abc", "logfire_base_url": "https://own.example"},
            "https://own.example/v1/traces",
        ),
    ],
)
def test_a_token_of_logfire_is_enough_and_names_its_region(given: dict[str, str], url: str) -> None:
    assert Destination(url, {"Authorization": given["logfire_token"]}) == destination(settings(**given))


@pytest.mark.parametrize(
    "wrong",
    [
        {"otel_exporter_otlp_endpoint": "collector:4318"},
        {"otel_exporter_otlp_headers": "no value"},
        {"trace_sample_ratio": "1.5"},
        {"sentry_dsn": "https://sentry.example/1"},
        {"otel_exporter_otlp_endpoint": "http://one", "logfire_token": "two"},
    ],
)
def test_wrong_settings_stop_the_start(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(**wrong)
    assert 1 == refused.value.error_count()


def span(**attributes: str | int) -> ReadableSpan:
    context = SpanContext(trace_id=1, span_id=2, is_remote=False, trace_flags=TraceFlags(1))
    return ReadableSpan(
        "GET /v1/streams", context=context, attributes=attributes, status=Status(StatusCode.ERROR, "canary")
    )


def test_addresses_queries_and_words_of_errors_stay() -> None:
    given = span(**{"url.query": "signature=canary", "url.path": "/canary", "gen_ai.prompt": "canary"})
    assert "canary" not in scrubbed(given).to_json()


def test_ids_routes_and_codes_leave() -> None:
    safe = {"tldr.stream_id": "str_1", "http.route": "/v1/streams", "http.response.status_code": 503}
    left = scrubbed(span(**safe))
    assert safe == dict(left.attributes or {})
    assert (StatusCode.ERROR, None) == (left.status.status_code, left.status.description)


class Broken(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.FAILURE


def counted(outcome: str) -> float:
    return metrics.REGISTRY.get_sample_value("tldr_spans_total", {"outcome": outcome}) or 0.0


def test_what_left_and_what_did_not_is_counted() -> None:
    exported, failed = counted("exported"), counted("failed")
    SafeExporter(InMemorySpanExporter()).export([span(), span()])
    SafeExporter(Broken()).export([span()])
    assert (exported + 2, failed + 1) == (counted("exported"), counted("failed"))


def test_what_the_queue_does_not_hold_is_dropped_at_once_and_shows_in_the_counts() -> None:
    released, recorded, exported = threading.Event(), counted("recorded"), counted("exported")

    class Slow(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            released.wait(20)
            return SpanExportResult.SUCCESS

    processor = CountingProcessor(SafeExporter(Slow()), max_queue_size=4, max_export_batch_size=2)
    began = monotonic()
    for _ in range(50):
        processor.on_end(span())
    took_s = monotonic() - began
    released.set()
    processor.shutdown()
    assert took_s < 5.0
    assert recorded + 50 == counted("recorded")
    assert 4 <= counted("exported") - exported <= 6


def test_a_collector_that_is_away_is_told_once_a_minute(caplog: pytest.LogCaptureFixture, capsys) -> None:
    now = [0.0]
    exporter = SafeExporter(Broken(), now_s=lambda: now[0])
    for at_s in (0.0, 1.0, COMPLAIN_EVERY_S - 1, COMPLAIN_EVERY_S + 1):
        now[0] = at_s
        exporter.export([span()])
    told = capsys.readouterr().out + caplog.text
    assert 2 == told.count("spans_not_exported")


def test_the_end_waits_for_nobody_longer_than_allowed() -> None:
    never, closed = threading.Event(), threading.Event()
    began = monotonic()
    Telemetry(closings=(never.wait, closed.set)).stop(within_s=0.2)
    took_s = monotonic() - began
    never.set()
    assert closed.is_set()
    assert took_s < 2.0

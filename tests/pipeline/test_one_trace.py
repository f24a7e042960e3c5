"""One trace from the customer's POST through all six services to the customer's webhooks."""

from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from sandbox.film import make_film
from sandbox.origin import HlsOrigin
from sandbox.receiver import WebhookReceiver
from shared.contract import SERVICES
from tests.conftest import Installation
from tests.pipeline.product import customer_of, product, until_terminal
from tests.tracing import recorded

CANARY = "canary-0f3a9"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=50, moments=((14.0, 18.0),))


async def test_all_that_a_post_causes_is_one_unbroken_trace(installation: Installation, film: Path) -> None:
    with recorded() as exporter:
        async with (
            HlsOrigin(film, speed=20, initial_segments=1) as origin,
            WebhookReceiver() as receiver,
            product(installation, reachable=(origin.url, receiver.url)) as made,
            customer_of(made) as customer,
        ):
            receiver.secrets[:] = [await customer.add_webhook(f"{receiver.url}?token={CANARY}")]
            origin.go_live()
            body = {"source_url": f"{origin.url}?signature={CANARY}"}
            stream = await customer.call("POST", "/v1/streams", body)
            stream = await until_terminal(customer, stream["id"])
            await receiver.wait_for(lambda one: one.type == "stream.completed", timeout_s=20)
        spans = exporter.get_finished_spans()

    assert "completed" == stream["status"]
    [post] = [span for span in spans if span.name == "POST /v1/streams"]
    ours = {_id(span): span for span in spans if span.context.trace_id == post.context.trace_id}

    assert [_id(post)] == [key for key, span in ours.items() if _parent(span) not in ours]
    assert set(SERVICES) == {_attribute(span, "messaging.consumer.group.name") for span in ours.values()} - {
        None
    }
    assert {stream["id"]} == {_attribute(span, "tldr.stream_id") for span in ours.values()} - {None}
    webhooks = {_id(span) for span in ours.values() if span.kind is SpanKind.CLIENT}
    told = {dict(one.headers)["traceparent"].split("-")[2] for one in receiver.distinct()}
    assert told == {f"{span_id:016x}" for span_id in webhooks}
    assert {"stream.started", "highlight.created", "stream.completed"} <= {
        one.type for one in receiver.received
    }
    assert CANARY not in "".join(span.to_json() for span in spans)


def _id(span: ReadableSpan) -> int:
    return span.context.span_id


def _parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def _attribute(span: ReadableSpan, name: str) -> object:
    return (span.attributes or {}).get(name)

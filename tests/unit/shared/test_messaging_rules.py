"""Rules on messaging that no single test of behaviour shows: they are read off the code and off the brokers."""

import ast
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from faststream import AckPolicy

from analyzer.settings import AnalyzerSettings
from clipper.settings import ClipperSettings
from shared import topology
from shared.broker import consume_broker, publish_broker
from shared.consumer import Consumer, ContractViolated
from shared.contract import SERVICES, active, consumed_by
from shared.events import HighlightConfirmed, Lane, StreamOnline
from shared.middleware import Middleware
from tests.conftest import REPOSITORY

URL = "amqp://user:password@127.0.0.1:1/vhost"
SOURCES = [
    path for folder in ("libs/shared", "services") for path in sorted((REPOSITORY / folder).rglob("*.py"))
]


def consumer(service: str) -> Consumer:
    middleware = Middleware(service=service, database=None, outbox=None, work_concurrency=1)  # type: ignore[arg-type]
    broker = consume_broker(URL, graceful_timeout_s=1)
    return Consumer(service=service, broker=broker, middleware=middleware, prefetch=4, work_prefetch=1)  # type: ignore[arg-type]


async def handler(*_arguments: object) -> None:
    """Stands for any handler."""


def test_every_subscriber_acknowledges_by_hand_with_a_bounded_prefetch() -> None:
    subject = consumer("clipper")
    for spec in consumed_by("clipper"):
        subject.state(spec.model, handler)
    subject.rescue_dead_letters()
    subscribers = subject._broker.subscribers
    assert 2 * len(consumed_by("clipper")) + 1 == len(subscribers)
    for each in subscribers:
        assert AckPolicy.MANUAL is each.ack_policy
        assert 4 == each.channel.prefetch_count


def test_a_service_cannot_subscribe_to_what_is_not_sent_to_it() -> None:
    with pytest.raises(ContractViolated):
        consumer("clipper").state(StreamOnline, handler)


def test_a_service_cannot_subscribe_twice() -> None:
    subject = consumer("clipper")
    subject.state(HighlightConfirmed, handler)
    with pytest.raises(ContractViolated):
        subject.state(HighlightConfirmed, handler)


def test_queues_are_quorum_with_limits_and_dead_letters_that_are_never_lost() -> None:
    for spec in active():
        for service in spec.consumers:
            queue = topology.queue(service, spec, Lane.LIVE)
            assert "quorum" == queue.arguments["x-queue-type"]
            assert "at-least-once" == queue.arguments["x-dead-letter-strategy"]
            assert "reject-publish" == queue.arguments["x-overflow"]
            assert 50 < queue.arguments["x-delivery-limit"]
            assert queue.durable
            assert re.search(r"\.v\d+$", queue.name), "arguments never change under a name"


def test_a_frozen_broker_is_noticed_by_a_short_heartbeat() -> None:
    for broker in (consume_broker(URL, graceful_timeout_s=1), publish_broker(URL)):
        query = parse_qs(urlsplit(str(broker._connection_kwargs["url"])).query)
        assert ["5"] == query["heartbeat"]


def test_retries_are_rows_and_never_requeues() -> None:
    for path in SOURCES:
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
        assert not [call.attr for call in calls if call.attr in {"nack", "reject"}], path


def test_messages_are_published_in_one_place_only() -> None:
    publishing = [path.name for path in SOURCES if re.search(r"\.publish\([^)]", path.read_text())]
    assert {"broker.py", "loops.py"} == set(publishing)
    assert "persist=True" in (REPOSITORY / "libs/shared/broker.py").read_text()
    assert "mandatory=True" in (REPOSITORY / "libs/shared/broker.py").read_text()


@pytest.mark.parametrize("model", [AnalyzerSettings, ClipperSettings])
def test_a_step_of_work_stays_far_below_the_brokers_consumer_timeout(model: type) -> None:
    bound = next(rule.le for rule in model.model_fields["media_timeout_s"].metadata if hasattr(rule, "le"))
    assert 60 >= bound


def test_handlers_and_routes_hold_no_try() -> None:
    for path in SOURCES:
        if path.name == "edge.py":  # ASGI middleware around the routes: it turns a slow body into a 408
            continue
        if path.name == "subscribers.py" or "routes" in path.parts:
            assert not [
                node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Try)
            ], path


def test_only_middleware_and_runtime_catch_everything() -> None:
    for path in SOURCES:
        if path.name in {"middleware.py", "runtime.py"}:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, path
                assert "Exception" != ast.unparse(node.type), path


def test_all_six_services_have_the_same_front() -> None:
    for service in SERVICES:
        folder = REPOSITORY / "services" / service
        for name in ("README.md", "__main__.py", "settings.py", "app.py", "subscribers.py"):
            assert (folder / name).is_file(), f"{service}/{name}"

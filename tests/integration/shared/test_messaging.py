"""The two handler shapes against a real broker and a real database: once-only effects, retries, parking."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aio_pika
import asyncpg
import pytest
from faststream.rabbit import RabbitBroker

from shared import topology
from shared.broker import Publisher, consume_broker, publish_broker
from shared.consumer import Consumer
from shared.contract import queue_name, routing_key
from shared.database import Database
from shared.epoch import Epoch
from shared.errors import PermanentError, PipelineError, RetryableError
from shared.events import ClipFailed, ClipReady, Event, HighlightConfirmed, Lane
from shared.ids import HighlightId, OrganizationId, StreamId, event_id
from shared.loops import Relay, Sweeper
from shared.middleware import Middleware
from shared.outbox import Outbox
from tests.builders import highlight_confirmed
from tests.conftest import Installation


def clip_failed(cause: HighlightConfirmed, reason: str) -> ClipFailed:
    return ClipFailed(
        event_id=event_id(cause.stream_id, ClipFailed.name, cause.highlight_id, cause.revision),
        organization_id=cause.organization_id,
        stream_id=cause.stream_id,
        occurred_at=datetime.now(UTC),
        highlight_id=cause.highlight_id,
        revision=cause.revision,
        stage="cut",
        code="test",
        reason=reason,
    )


@dataclass
class Clipper:
    """A stand-in for a workflow: it does what the test says, and counts."""

    behaviour: list[Exception | None] = field(default_factory=list)
    seen: list[HighlightConfirmed] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def cut(self, event: HighlightConfirmed) -> Sequence[Event]:
        self.seen.append(event)
        await self.gate.wait()
        error = self.behaviour.pop(0) if self.behaviour else None
        if error is not None:
            raise error
        return [clip_failed(event, "done")]

    def give_up(self, event: HighlightConfirmed, error: PipelineError) -> Sequence[Event]:
        return [clip_failed(event, f"given up: {error}")]


@dataclass
class Service:
    database: Database
    outbox: Outbox
    consumer: Consumer
    consuming: RabbitBroker
    publishing: RabbitBroker
    relay: Relay
    sweeper: Sweeper
    epoch: Epoch


@asynccontextmanager
async def clipper_service(
    installation: Installation, workflow: Clipper, *, graceful_timeout_s: float = 5
) -> AsyncIterator[Service]:
    database = Database(installation.database_url("clipper"), schema="clipper")
    outbox = Outbox("clipper")
    middleware = Middleware(service="clipper", database=database, outbox=outbox, work_concurrency=2)
    consuming = consume_broker(installation.rabbitmq_url, graceful_timeout_s=graceful_timeout_s)
    publishing = publish_broker(installation.rabbitmq_url)
    consumer = Consumer(
        service="clipper", broker=consuming, middleware=middleware, prefetch=4, work_prefetch=2
    )
    consumer.work(HighlightConfirmed, workflow.cut, give_up=workflow.give_up)
    epoch = Epoch(service="clipper", url=installation.rabbitmq_url, database=database, settle_s=0)
    relay = Relay(
        service="clipper",
        database=database,
        publisher=Publisher(publishing),
        epoch=epoch,
        outbox=outbox,
    )
    sweeper = Sweeper(database=database, middleware=middleware, subscriptions=consumer.subscriptions)
    consumer.rescue_dead_letters()
    await publishing.start()
    await consuming.start()
    try:
        yield Service(database, outbox, consumer, consuming, publishing, relay, sweeper, epoch)
    finally:
        if graceful_timeout_s >= 1:
            workflow.gate.set()
        await sweeper.stop(grace_s=graceful_timeout_s)
        await consuming.stop()
        await publishing.stop()
        await database.close()


async def send(installation: Installation, body: bytes, *, copies: int = 1) -> None:
    async with await aio_pika.connect(installation.rabbitmq_url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange("tldr.events", ensure=False)
        for _ in range(copies):
            await exchange.publish(
                aio_pika.Message(body), routing_key(HighlightConfirmed.name, Lane.LIVE), mandatory=True
            )


async def rows(installation: Installation, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(installation.admin_url)
    try:
        return list(await connection.fetch(query))
    finally:
        await connection.close()


async def until(installation: Installation, query: str, expected: list[tuple[object, ...]]) -> None:
    """Wait until the query gives the expected rows."""
    found: list[tuple[object, ...]] = []
    for _ in range(400):
        found = [tuple(row) for row in await rows(installation, query)]
        if found == expected:
            return
        await asyncio.sleep(0.025)
    assert expected == found


STATES = "SELECT state, attempt FROM clipper.inbox"
OUT = "SELECT event_name FROM clipper.outbox"


async def test_a_message_delivered_five_times_has_one_effect(installation: Installation) -> None:
    workflow = Clipper()
    workflow.gate.set()
    async with clipper_service(installation, workflow):
        await send(installation, highlight_confirmed().model_dump_json().encode(), copies=5)
        await until(installation, STATES, [("done", 1)])
        await until(installation, OUT, [("clip.failed",)])
    assert 1 == len(workflow.seen)


async def test_a_retryable_error_leaves_a_due_row_that_the_sweeper_runs_again(
    installation: Installation,
) -> None:
    workflow = Clipper([RetryableError("the store is away"), None])
    workflow.gate.set()
    async with clipper_service(installation, workflow) as service:
        await send(installation, highlight_confirmed().model_dump_json().encode())
        await until(installation, STATES, [("retry", 1)])
        await rows(installation, "UPDATE clipper.inbox SET due_at = now() RETURNING 1")
        await service.sweeper.turn()
        await until(installation, STATES, [("done", 2)])
    assert 2 == len(workflow.seen)


async def test_a_permanent_error_is_parked_and_told(installation: Installation) -> None:
    workflow = Clipper([PermanentError("cannot be cut")])
    workflow.gate.set()
    async with clipper_service(installation, workflow):
        await send(installation, highlight_confirmed().model_dump_json().encode())
        await until(installation, STATES, [("parked", 1)])
        found = await rows(installation, "SELECT body::jsonb ->> 'reason' AS reason FROM clipper.outbox")
    assert ["given up: cannot be cut"] == [row["reason"] for row in found]


async def test_a_bug_is_retried_and_parked_after_the_last_attempt(installation: Installation) -> None:
    workflow = Clipper([ValueError("a bug")] * 5)
    workflow.gate.set()
    async with clipper_service(installation, workflow) as service:
        await send(installation, highlight_confirmed().model_dump_json().encode())
        for attempt in range(1, 5):
            await until(installation, STATES, [("retry", attempt)])
            await rows(installation, "UPDATE clipper.inbox SET due_at = now() RETURNING 1")
            await service.sweeper.turn()
        await until(installation, STATES, [("parked", 5)])
    assert 5 == len(workflow.seen)


async def test_what_cannot_be_parsed_is_parked_and_its_neighbours_are_handled(
    installation: Installation,
) -> None:
    workflow = Clipper()
    workflow.gate.set()
    async with clipper_service(installation, workflow):
        await send(installation, b"{not json \x00")
        await send(installation, highlight_confirmed().model_dump_json().encode())
        await until(
            installation,
            "SELECT state, code FROM clipper.inbox ORDER BY state",
            [("done", None), ("parked", "unparsable")],
        )


async def test_a_second_delivery_while_leased_is_acknowledged_and_left(installation: Installation) -> None:
    workflow = Clipper()
    async with clipper_service(installation, workflow):
        body = highlight_confirmed().model_dump_json().encode()
        await send(installation, body)
        await until(installation, STATES, [("received", 1)])
        await send(installation, body)
        async with await aio_pika.connect(installation.rabbitmq_url) as connection:
            channel = await connection.channel()
            name = queue_name("clipper", HighlightConfirmed.name, Lane.LIVE)
            while (await channel.declare_queue(name, passive=True)).declaration_result.message_count:
                await asyncio.sleep(0.02)
        workflow.gate.set()
        await until(installation, STATES, [("done", 1)])
    assert 1 == len(workflow.seen)


async def test_a_worker_whose_lease_was_taken_writes_nothing(installation: Installation) -> None:
    workflow = Clipper()
    async with clipper_service(installation, workflow):
        await send(installation, highlight_confirmed().model_dump_json().encode())
        await until(installation, STATES, [("received", 1)])
        await rows(installation, "UPDATE clipper.inbox SET fence = fence + 1 RETURNING 1")
        workflow.gate.set()
        await asyncio.wait_for(_until_handled(workflow), 5)
    assert [] == await rows(installation, OUT)
    await until(installation, "SELECT state FROM clipper.inbox", [("received",)])


async def _until_handled(workflow: Clipper) -> None:
    while not workflow.seen:
        await asyncio.sleep(0.01)


async def test_the_relay_publishes_persistent_and_marks_what_was_confirmed(
    installation: Installation,
) -> None:
    workflow = Clipper()
    workflow.gate.set()
    async with clipper_service(installation, workflow) as service:
        await send(installation, highlight_confirmed().model_dump_json().encode())
        await until(installation, OUT, [("clip.failed",)])
        await service.relay.turn()
        await until(installation, "SELECT published_at IS NOT NULL FROM clipper.outbox", [(True,)])
        async with await aio_pika.connect(installation.rabbitmq_url) as connection:
            channel = await connection.channel()
            queue = await channel.get_queue(queue_name("gateway", ClipFailed.name, Lane.LIVE))
            message = await queue.get(timeout=5)
    assert message is not None
    assert 2 == message.delivery_mode
    assert "application/json" == message.content_type
    assert "traceparent" in message.headers


async def test_a_message_without_a_queue_stays_in_the_outbox(installation: Installation) -> None:
    workflow = Clipper()
    workflow.gate.set()
    name = queue_name("gateway", ClipFailed.name, Lane.LIVE)
    async with clipper_service(installation, workflow) as service:
        await service.epoch.ensure()
        await send(installation, highlight_confirmed().model_dump_json().encode())
        await until(installation, OUT, [("clip.failed",)])
        async with await aio_pika.connect(installation.rabbitmq_url) as connection:
            channel = await connection.channel()
            await channel.queue_delete(name)
            with pytest.raises(RetryableError):
                await service.relay.turn()
            await topology.declare(channel)
        await until(installation, "SELECT published_at IS NULL FROM clipper.outbox", [(True,)])
        await service.relay.turn()
        await until(installation, "SELECT published_at IS NULL FROM clipper.outbox", [(False,)])


async def test_a_lost_marker_makes_the_service_declare_and_replay(installation: Installation) -> None:
    workflow = Clipper()
    workflow.gate.set()
    name = queue_name("gateway", ClipFailed.name, Lane.LIVE)
    async with clipper_service(installation, workflow) as service:
        await send(installation, highlight_confirmed().model_dump_json().encode())
        await until(installation, OUT, [("clip.failed",)])
        await service.relay.turn()
        [epoch] = await rows(installation, "SELECT epoch FROM clipper.broker_epoch")
        async with await aio_pika.connect(installation.rabbitmq_url) as connection:
            channel = await connection.channel()
            await channel.queue_delete(name)
            await channel.exchange_delete(topology.marker_name("clipper", epoch["epoch"]))
        service.epoch.doubt()
        await service.relay.turn()
        async with await aio_pika.connect(installation.rabbitmq_url) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(name, passive=True)
            assert 1 == queue.declaration_result.message_count
    [begun] = await rows(installation, "SELECT epoch FROM clipper.broker_epoch")
    assert epoch["epoch"] != begun["epoch"]


async def test_an_event_outside_the_contract_cannot_be_emitted(installation: Installation) -> None:
    workflow = Clipper()
    workflow.gate.set()
    async with clipper_service(installation, workflow) as service, service.database.transaction() as session:
        with pytest.raises(AssertionError, match="may not produce"):
            await service.outbox.emit(session, [highlight_confirmed()])


def test_ids_of_the_same_work_are_the_same() -> None:
    stream, highlight = StreamId("str_0123456789ab"), HighlightId("hl_1")
    assert event_id(stream, ClipReady.name, highlight, 0) == event_id(stream, ClipReady.name, highlight, 0)
    assert event_id(stream, ClipReady.name, highlight, 0) != event_id(stream, ClipReady.name, highlight, 1)
    assert OrganizationId("org_1") == "org_1"


async def test_a_handler_that_is_cut_off_gives_its_lease_back_and_counts_no_attempt(
    installation: Installation,
) -> None:
    workflow = Clipper()
    async with clipper_service(installation, workflow, graceful_timeout_s=0.05):
        await send(installation, highlight_confirmed().model_dump_json().encode())
        await until(installation, STATES, [("received", 1)])
    released = "SELECT state, attempt, lease_until <= now() FROM clipper.inbox"
    await until(installation, released, [("received", 0, True)])
    again = Clipper()
    again.gate.set()
    async with clipper_service(installation, again) as service:
        await service.sweeper.turn()
        await until(installation, "SELECT state FROM clipper.inbox", [("done",)])

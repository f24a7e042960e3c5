"""What a broker can do to us: dead young queues, alarms, frost, restarts of consumers."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aio_pika
import pytest

from localcluster.children import scratch_folder
from localcluster.rabbitmq import RabbitServer
from shared import topology
from shared.contract import queue_name
from shared.errors import RetryableError
from shared.events import ClipFailed, HighlightConfirmed, Lane
from tests.builders import highlight_confirmed
from tests.conftest import Installation
from tests.integration.shared.test_messaging import STATES, Clipper, clipper_service, rows, send, until

pytestmark = pytest.mark.faults

RESTARTS = 50


@pytest.fixture
def rabbit() -> Iterator[RabbitServer]:
    with scratch_folder() as folder:
        server = RabbitServer(Path(folder) / "rabbit")
        server.start()
        yield server
        server.stop()


@pytest.fixture
async def own_broker(installation: Installation, rabbit: RabbitServer) -> AsyncIterator[Installation]:
    """The test's database, with a broker that may be hurt."""
    await topology.set_up(rabbit.url, settle_s=3)
    yield Installation(rabbit.url, installation.admin_url, installation.roles, installation.folder)


async def test_queues_outlive_a_kill_after_the_settle_time(rabbit: RabbitServer) -> None:
    await topology.set_up(rabbit.url)
    await asyncio.to_thread(rabbit.kill)
    await asyncio.to_thread(rabbit.start)
    assert () == await topology.dead_queues(rabbit.url)


async def test_queues_that_died_young_are_found_and_made_anew(rabbit: RabbitServer) -> None:
    async with await aio_pika.connect(rabbit.url) as connection:
        await topology.declare(await connection.channel())
    await asyncio.to_thread(rabbit.kill)
    await asyncio.to_thread(rabbit.start)
    await topology.set_up(rabbit.url, settle_s=3)
    assert () == await topology.dead_queues(rabbit.url)


async def test_fifty_restarts_of_a_consumer_dead_letter_nothing(installation: Installation) -> None:
    events = [highlight_confirmed(revision=n, event_id=f"00000000-0000-0000-0000-{n:012d}") for n in range(8)]
    for event in events:
        await send(installation, event.model_dump_json().encode())
    for _ in range(RESTARTS):
        workflow = Clipper()
        async with clipper_service(installation, workflow, graceful_timeout_s=0.05):
            await _until_seen(workflow)
    workflow = Clipper()
    workflow.gate.set()
    async with clipper_service(installation, workflow) as service:
        async with asyncio.timeout(60):
            while len(await rows(installation, f"{STATES} WHERE state = 'done'")) < len(events):
                await service.sweeper.turn()
                await asyncio.sleep(0.2)
    async with await aio_pika.connect(installation.rabbitmq_url) as connection:
        channel = await connection.channel()
        dead = await channel.declare_queue(topology.dead_queue_name("clipper"), passive=True)
        assert 0 == dead.declaration_result.message_count
    assert [] == await rows(installation, "SELECT 1 FROM clipper.inbox WHERE code = 'dead_lettered'")


async def _until_seen(workflow: Clipper) -> None:
    """A handler is at work, or everything is leased already: either way the consumer is up."""
    for _ in range(20):
        if workflow.seen:
            return
        await asyncio.sleep(0.01)


async def test_acknowledgements_flow_while_publishing_is_blocked(
    own_broker: Installation, rabbit: RabbitServer
) -> None:
    workflow = Clipper()
    workflow.gate.set()
    async with clipper_service(own_broker, workflow) as service:
        await service.relay.turn()
        await send(own_broker, highlight_confirmed().model_dump_json().encode())
        await until(own_broker, STATES, [("done", 1)])
        await asyncio.to_thread(rabbit.ctl, "set_vm_memory_high_watermark", "absolute", "1MB")
        with pytest.raises(RetryableError):
            await service.relay.turn()
        assert 0 == await _waiting(own_broker, queue_name("clipper", HighlightConfirmed.name, Lane.LIVE))
        await until(own_broker, "SELECT published_at IS NULL FROM clipper.outbox", [(True,)])
        await asyncio.to_thread(rabbit.ctl, "set_vm_memory_high_watermark", "0.4")
        await _until_published(service.relay.turn, own_broker)


async def test_a_frozen_broker_loses_nothing_and_is_used_again_after_the_thaw(
    own_broker: Installation, rabbit: RabbitServer
) -> None:
    workflow = Clipper()
    workflow.gate.set()
    async with clipper_service(own_broker, workflow) as service:
        await service.relay.turn()
        await send(own_broker, highlight_confirmed().model_dump_json().encode())
        await until(own_broker, "SELECT count(*) FROM clipper.outbox", [(1,)])
        rabbit.freeze()
        with pytest.raises(RetryableError):
            await service.relay.turn()
        rabbit.thaw()
        await _until_published(service.relay.turn, own_broker)
    assert 1 <= await _waiting(own_broker, queue_name("gateway", ClipFailed.name, Lane.LIVE))


async def _until_published(turn, installation: Installation) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await turn()
            except RetryableError:
                await asyncio.sleep(0.5)
            if not await rows(installation, "SELECT 1 FROM clipper.outbox WHERE published_at IS NULL"):
                return


async def _waiting(installation: Installation, name: str) -> int:
    async with await aio_pika.connect(installation.rabbitmq_url) as connection:
        channel = await connection.channel()
        declared = await channel.declare_queue(name, passive=True)
        return int(declared.declaration_result.message_count or 0)


async def test_rescued_dead_letters_are_handled_like_any_other(installation: Installation) -> None:
    workflow = Clipper()
    workflow.gate.set()
    async with await aio_pika.connect(installation.rabbitmq_url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(topology.DEAD_EXCHANGE, ensure=False)
        message = aio_pika.Message(
            highlight_confirmed().model_dump_json().encode(),
            headers={"x-first-death-queue": queue_name("clipper", HighlightConfirmed.name, Lane.LIVE)},
        )
        await exchange.publish(message, "clipper")
    async with clipper_service(installation, workflow) as service:
        await until(installation, "SELECT state, code FROM clipper.inbox", [("retry", "dead_lettered")])
        await service.sweeper.turn()
        await until(installation, "SELECT state FROM clipper.inbox", [("done",)])
    assert 1 == len(workflow.seen)

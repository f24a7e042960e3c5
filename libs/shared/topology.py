"""Exchanges and queues, derived from the contract, and the step that declares them before any service starts.

`python -m shared.topology` is that step. Services declare the very same again when the broker lost its data.
"""

import asyncio
import os
import sys

import aio_pika
from aio_pika.abc import AbstractChannel, FieldValue
from aio_pika.exceptions import AMQPError
from faststream.rabbit import ExchangeType, QueueType, RabbitExchange, RabbitQueue
from faststream.rabbit.schemas.queue import QuorumQueueArgs

from shared.contract import (
    INTERNAL_EXCHANGE,
    PUBLIC_EXCHANGE,
    SERVICES,
    EventSpec,
    Service,
    active,
    queue_name,
    routing_key,
)
from shared.events import Lane

DEAD_EXCHANGE = "tldr.dead"
# What 100ms told the gateway while PostgreSQL was away: sealed requests, taken out one by one when it is back.
KEPT_WEBHOOKS = "gateway.webhooks.kept.v1"
MAX_KEPT_WEBHOOKS = 50_000
MAX_KEPT_BYTES = 1 << 30
# The broker counts a delivery for each restart of a consumer too; only a crash loop reaches this bound.
DELIVERY_LIMIT = 500
# A quorum queue that is younger than this when its node is killed may be dead for ever.
SETTLE_S = 5.0
PROBE_TIMEOUT_S = 5.0


def exchange(name: str) -> RabbitExchange:
    return RabbitExchange(name, type=ExchangeType.TOPIC, durable=True)


def queue(service: Service, spec: EventSpec, lane: Lane) -> RabbitQueue:
    return RabbitQueue(
        queue_name(service, spec.name, lane),
        queue_type=QueueType.QUORUM,
        durable=True,
        routing_key=routing_key(spec.name, lane),
        arguments=_arguments(service),
    )


def dead_queue_name(service: Service) -> str:
    return f"{service}.dead.v1"


def marker_name(service: Service, epoch: str) -> str:
    """Name of the exchange whose presence shows that the broker still has what this service once sent."""
    return f"tldr.epoch.{service}.{epoch}"


def _arguments(service: Service) -> QuorumQueueArgs:
    return {
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": DEAD_EXCHANGE,
        "x-dead-letter-routing-key": service,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-max-length": 1_000_000,
    }


def kept_webhooks_arguments() -> dict[str, FieldValue]:
    """Bounded, so that nobody fills the broker while senders cannot be looked up; what is too much is refused."""
    return {
        "x-queue-type": "quorum",
        "x-overflow": "reject-publish",
        "x-max-length": MAX_KEPT_WEBHOOKS,
        "x-max-length-bytes": MAX_KEPT_BYTES,
        "x-delivery-limit": 1_000_000,
    }


async def declare(channel: AbstractChannel) -> None:
    """Declare everything; declaring again what stands already changes nothing."""
    exchanges = {
        name: await channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, durable=True)
        for name in (PUBLIC_EXCHANGE, INTERNAL_EXCHANGE)
    }
    await _declare_dead_letters(channel)
    await channel.declare_queue(KEPT_WEBHOOKS, durable=True, arguments=kept_webhooks_arguments())
    for spec in active():
        for service in spec.consumers:
            for lane in Lane:
                wanted = queue(service, spec, lane)
                declared = await channel.declare_queue(wanted.name, durable=True, arguments=wanted.arguments)
                await declared.bind(exchanges[spec.exchange], routing_key(spec.name, lane))


async def _declare_dead_letters(channel: AbstractChannel) -> None:
    dead = await channel.declare_exchange(DEAD_EXCHANGE, aio_pika.ExchangeType.DIRECT, durable=True)
    for service in SERVICES:
        declared = await channel.declare_queue(
            dead_queue_name(service), durable=True, arguments={"x-queue-type": "quorum"}
        )
        await declared.bind(dead, service)


async def dead_queues(url: str) -> tuple[str, ...]:
    """Queues that cannot be consumed: declared so shortly before a crash that no leader can be elected."""
    names = [queue_name(s, spec.name, lane) for spec in active() for s in spec.consumers for lane in Lane]
    names.append(KEPT_WEBHOOKS)
    connection = await aio_pika.connect(url)
    async with connection:
        return tuple([name for name in names if not await _can_consume(connection, name)])


async def _can_consume(connection: aio_pika.abc.AbstractConnection, name: str) -> bool:
    channel = await connection.channel()
    try:
        await channel.set_qos(prefetch_count=1)
        declared = await channel.get_queue(name, ensure=False)
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            tag = await declared.consume(_leave, no_ack=False)
        await declared.cancel(tag)
    except (AMQPError, TimeoutError):
        return False
    finally:
        if not channel.is_closed:
            await channel.close()
    return True


async def _leave(_message: aio_pika.abc.AbstractIncomingMessage) -> None:
    """Acknowledge nothing: closing the probe's channel gives the message back."""


async def set_up(url: str, *, settle_s: float = SETTLE_S) -> None:
    """Declare all, wait until young queues are safe, then repair those that an earlier crash left dead."""
    connection = await aio_pika.connect(url, timeout=30)
    async with connection:
        await declare(await connection.channel())
    await asyncio.sleep(settle_s)
    dead = await dead_queues(url)
    if dead:
        await _recreate(url, dead)
        await asyncio.sleep(settle_s)


async def _recreate(url: str, names: tuple[str, ...]) -> None:
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        for name in names:
            await channel.queue_delete(name)
        await declare(channel)


def main() -> None:
    url = os.environ.get("RABBITMQ_URL", "")
    if not url:
        sys.exit("RABBITMQ_URL is not set")
    asyncio.run(set_up(url))


if __name__ == "__main__":
    main()

"""Prints highlights and clips as JSON lines, from a quorum queue of its own that is bound to `tldr.events`.

Environment: AMQP_URL, the address of the broker; CONSUMER, your name (default `acme`), with which the names of
your queues begin. Ends with SIGTERM or SIGINT. docs/consumers.md tells why each line is as it is.
"""

import asyncio
import json
import os
import signal
import sys
from collections import OrderedDict

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

EXCHANGE = "tldr.events"
BINDINGS = ("highlight.confirmed.#", "highlight.revised.#", "highlight.retracted.#", "clip.ready.#")
PREFETCH = 20
RECONNECT_S = 1.0
REMEMBERED = 100_000


class Seen:
    """The last event ids. Yours belong into your database, in the transaction that holds the effect."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, event_id: str) -> bool:
        """Whether the id is new."""
        if event_id in self._ids:
            return False
        self._ids[event_id] = None
        if len(self._ids) > REMEMBERED:
            self._ids.popitem(last=False)
        return True


async def declare(channel: AbstractChannel, consumer: str) -> AbstractQueue:
    """A queue and a dead letter of our own; declaring again what stands changes nothing."""
    dead_exchange, name = f"{consumer}.dead", f"{consumer}.highlights.v1"
    dead = await channel.declare_exchange(dead_exchange, aio_pika.ExchangeType.FANOUT, durable=True)
    limits = {"x-queue-type": "quorum", "x-max-length": 100_000}
    dead_queue = await channel.declare_queue(f"{consumer}.dead.v1", durable=True, arguments=limits)
    await dead_queue.bind(dead)
    arguments = {**limits, "x-delivery-limit": 20, "x-dead-letter-exchange": dead_exchange}
    queue = await channel.declare_queue(name, durable=True, arguments=arguments)
    for key in BINDINGS:
        await queue.bind(EXCHANGE, key)
    return queue


async def handle(message: AbstractIncomingMessage, seen: Seen) -> None:
    """Acknowledge after the effect; what cannot be read goes to our dead letter."""
    try:
        event = json.loads(message.body)
        is_new = seen.add(event["event_id"])
    except (ValueError, KeyError, TypeError):
        await message.reject(requeue=False)
        return
    if is_new:
        line = {"type": message.type, "traceparent": message.headers.get("traceparent"), "event": event}
        print(json.dumps(line), flush=True)
    await message.ack()


async def main() -> None:
    stop, seen = asyncio.Event(), Seen()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    # Connects anew, declares anew and consumes anew whenever the connection is lost.
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"], reconnect_interval=RECONNECT_S)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await declare(channel, os.environ.get("CONSUMER", "acme"))
        tag = await queue.consume(lambda message: handle(message, seen))
        print(f"consuming {queue.name}", file=sys.stderr, flush=True)
        await stop.wait()
        await queue.cancel(tag)


if __name__ == "__main__":
    asyncio.run(main())

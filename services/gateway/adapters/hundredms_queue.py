"""The queue that keeps 100ms webhooks while PostgreSQL is away, in RabbitMQ: durable, bounded, confirmed.

Taking out has a connection of its own, since a broker in alarm holds back acknowledgements behind a publish.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError
from aiormq.exceptions import AMQPError as WireError

from shared.broker import BrokerUnavailable, Publisher
from shared.topology import KEPT_WEBHOOKS

KEEP_WITHIN_S = 2.0
TAKE_WITHIN_S = 5.0
_FAULTS = (AMQPError, WireError, ChannelInvalidStateError, ConnectionError, TimeoutError)


class WebhookQueue:
    def __init__(self, *, url: str, publisher: Publisher, name: str = KEPT_WEBHOOKS) -> None:
        self._url = url
        self._publisher = publisher
        self._name = name
        self._connection: AbstractConnection | None = None
        self._queue: AbstractQueue | None = None
        self._held: AbstractIncomingMessage | None = None

    async def keep(self, sealed: str) -> None:
        await self._publisher.keep(sealed.encode(), queue=self._name, within_s=KEEP_WITHIN_S)

    async def oldest(self) -> str | None:
        """It stays unacknowledged here until `done`, and is given to others when this connection ends."""
        with self._translated():
            async with asyncio.timeout(TAKE_WITHIN_S):
                if self._held is None or self._connection is None or self._connection.is_closed:
                    self._held = await (await self._opened()).get(fail=False)
        return None if self._held is None else self._held.body.decode()

    async def done(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            with self._translated():
                await held.ack()

    async def aclose(self) -> None:
        connection, self._connection, self._queue = self._connection, None, None
        if connection is not None:
            with suppress(*_FAULTS):
                async with asyncio.timeout(TAKE_WITHIN_S):
                    await connection.close()

    async def _opened(self) -> AbstractQueue:
        if self._connection is None or self._connection.is_closed or self._queue is None:
            await self.aclose()
            self._connection = await aio_pika.connect(self._url, timeout=TAKE_WITHIN_S, heartbeat=5)
            self._queue = await (await self._connection.channel()).get_queue(self._name, ensure=False)
        return self._queue

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """After a fault the next turn begins with a new channel; what was held comes again."""
        try:
            yield
        except _FAULTS as error:
            self._held = self._queue = None
            raise BrokerUnavailable(f"{self._name}: {type(error).__name__}: {error}") from error

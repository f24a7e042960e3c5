"""Notices that the broker lost its data, declares the topology anew and replays the service's outbox by itself.

The marker is an exchange named after the service's current epoch, which the database remembers: when the
exchange is gone, so are all queues and all messages that this service had confirmed.
"""

from uuid import uuid4

import aio_pika
import structlog
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity
from aiormq.exceptions import AMQPError as WireError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared import metrics, topology
from shared.broker import BrokerUnavailable
from shared.contract import Service
from shared.database import Database
from shared.outbox import schedule_replay

log = structlog.get_logger()


class Epoch:
    """`known` is True while nothing speaks against the broker still being the one that we published to."""

    def __init__(self, *, service: Service, url: str, database: Database, settle_s: float) -> None:
        self.known = False
        self._doubts = 0
        self._service = service
        self._url = url
        self._database = database
        self._settle_s = settle_s

    def doubt(self, *_reason: object) -> None:
        """Called when the connection was lost or a message found no queue: look again before the next publish."""
        self.known = False
        self._doubts += 1

    async def ensure(self) -> None:
        """Return when the broker is the known one, or has been set up anew with the outbox due for replay."""
        if self.known:
            return
        doubts = self._doubts
        try:
            await self._ensure()
        except (AMQPError, WireError, ConnectionError, TimeoutError) as error:
            raise BrokerUnavailable(f"epoch: {type(error).__name__}: {error}") from error
        self.known = doubts == self._doubts

    async def _ensure(self) -> None:
        connection = await aio_pika.connect(self._url, timeout=5, heartbeat=5)
        async with connection, self._database.transaction() as session:
            database = await session.connection()
            remembered = await self._remembered(database)
            if remembered and await self._is_marked(connection, remembered):
                return
            await self._begin(connection, database, lost=remembered is not None)

    async def _remembered(self, database: AsyncConnection) -> str | None:
        row = (await database.execute(text("SELECT epoch FROM broker_epoch WHERE id = 1 FOR UPDATE"))).one()
        return row.epoch or None

    async def _is_marked(self, connection: aio_pika.abc.AbstractConnection, epoch: str) -> bool:
        channel = await connection.channel()
        try:
            await channel.declare_exchange(topology.marker_name(self._service, epoch), passive=True)
        except ChannelNotFoundEntity:
            return False
        return True

    async def _begin(
        self, connection: aio_pika.abc.AbstractConnection, database: AsyncConnection, *, lost: bool
    ) -> None:
        epoch = uuid4().hex
        channel = await connection.channel()
        if lost:
            log.warning("broker_lost_its_data", service=self._service)
            await topology.set_up(self._url, settle_s=self._settle_s)
            replayed = await schedule_replay(database)
            metrics.replays.labels(self._service).inc()
            log.warning("outbox_replay", service=self._service, events=replayed)
        await channel.declare_exchange(
            topology.marker_name(self._service, epoch), aio_pika.ExchangeType.FANOUT, durable=True
        )
        await database.execute(text("UPDATE broker_epoch SET epoch = :epoch WHERE id = 1"), {"epoch": epoch})

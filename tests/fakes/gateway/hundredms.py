"""Connections as a database that may be away or slow gives them, and a record of what was let in."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from gateway.domain.hundredms_connection import Connection, Webhook
from shared.database import DatabaseUnavailable
from shared.ids import ConnectionId


@dataclass
class FakeConnections:
    stored: tuple[Connection, ...] = ()
    away: bool = False
    hangs: bool = False
    wakes: asyncio.Event = field(default_factory=asyncio.Event)
    asked_at: list[datetime | None] = field(default_factory=list)

    async def find(
        self, connection_id: ConnectionId, *, at: datetime | None = None
    ) -> tuple[Connection, ...]:
        await self._answer(at)
        return tuple(each for each in self.stored if each.connection_id == connection_id)

    async def find_by_secret(
        self, hashes: tuple[str, ...], *, at: datetime | None = None
    ) -> tuple[Connection, ...]:
        await self._answer(at)
        return tuple(each for each in self.stored if set(each.secret_hashes) & set(hashes))

    async def _answer(self, at: datetime | None) -> None:
        self.asked_at.append(at)
        if self.hangs:
            await self.wakes.wait()
        if self.away:
            raise DatabaseUnavailable("PostgreSQL is away")


@dataclass
class FakeHundredms:
    """Stands in for what a webhook causes; `failure` is raised instead."""

    failure: Exception | None = None
    received: list[tuple[Connection, Webhook]] = field(default_factory=list)

    async def receive(self, connection: Connection, webhook: Webhook) -> None:
        if self.failure is not None:
            raise self.failure
        self.received.append((connection, webhook))

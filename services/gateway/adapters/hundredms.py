"""100ms webhooks, stops that came too early, and connections as authentication sees them, in PostgreSQL."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select, text, update
from sqlalchemy.dialects import postgresql

from gateway.adapters import tables as t
from gateway.adapters.streams import StreamRows
from gateway.domain.hundredms_connection import Checks, Connection
from gateway.domain.submission import StreamPlace
from gateway.workflow.hundredms import ReceivedEvent
from shared.database import Database
from shared.ids import ConnectionId, OrganizationId

# 100ms repeats a webhook for 14 s, and a beam is never started twice: all later is for people who look for a cause.
KEPT_DAYS = 30
PRUNED_AT_ONCE = 5_000
_FORGET = text(
    "SELECT forget_hundredms_events(:days, :at_most) AS events, forget_hundredms_stops(:days, :at_most) AS stops"
)


class HundredmsRows(StreamRows):
    async def record(self, received: ReceivedEvent) -> bool:
        values = {
            "connection_id": received.connection.connection_id,
            "account_id": received.event.account_id,
            "event_id": received.event.event_id,
            "organization_id": self._organization_id,
            "type": received.event.type,
            "sealed_payload": received.sealed_payload,
            "received_at": received.received_at,
        }
        statement = postgresql.insert(t.hundredms_events).values(values).on_conflict_do_nothing()
        return (await self._execute(statement)).rowcount == 1

    async def note(self, received: ReceivedEvent, note: str) -> None:
        await self._execute(
            update(t.hundredms_events)
            .where(*_same_event(received))
            .values(handled_at=received.received_at, note=note)
        )

    async def stop_of(self, connection_id: ConnectionId, beam_id: str) -> str | None:
        stops = t.hundredms_stops.c
        statement = select(stops.reason).where(stops.connection_id == connection_id, stops.beam_id == beam_id)
        reason = (await self._execute(statement)).scalar_one_or_none()
        return None if reason is None else str(reason)

    async def bury(self, received: ReceivedEvent, *, beam_id: str) -> None:
        values = {
            "connection_id": received.connection.connection_id,
            "beam_id": beam_id,
            "organization_id": self._organization_id,
            "reason": received.event.reason,
            "stopped_at": received.received_at,
        }
        await self._execute(postgresql.insert(t.hundredms_stops).values(values).on_conflict_do_nothing())

    async def lock_beam(self, connection_id: ConnectionId, beam_id: str) -> None:
        name = f"{connection_id}|{beam_id}"
        await self._execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))

    async def find_beam(self, connection_id: ConnectionId, beam_id: str) -> StreamPlace | None:
        streams = t.streams.c
        return await self._find(streams.connection_id == connection_id, streams.external_id == beam_id)


def _same_event(received: ReceivedEvent) -> tuple[ColumnElement[bool], ...]:
    events = t.hundredms_events.c
    return (
        events.connection_id == received.connection.connection_id,
        events.account_id == received.event.account_id,
        events.event_id == received.event.event_id,
        events.type == received.event.type,
    )


class StoredConnections:
    """Finds connections before the organization is known."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(
        self, connection_id: ConnectionId, *, at: datetime | None = None
    ) -> tuple[Connection, ...]:
        return await self._rows("hundredms_connection(:wanted, :at)", connection_id, at)

    async def find_by_secret(
        self, hashes: tuple[str, ...], *, at: datetime | None = None
    ) -> tuple[Connection, ...]:
        if not hashes:
            return ()
        call = "hundredms_connections_by_secret(CAST(:wanted AS text[]), :at)"
        return await self._rows(call, list(hashes), at)

    async def _rows(self, call: str, wanted: str | list[str], at: datetime | None) -> tuple[Connection, ...]:
        async with self._database.transaction() as session:
            connection = await session.connection()
            rows = await connection.execute(
                text(f"SELECT * FROM {call}"),  # noqa: S608
                {"wanted": wanted, "at": at},
            )
            return tuple(_connection(row) for row in rows.mappings())


def _connection(row: Mapping[Any, Any]) -> Connection:
    return Connection(
        connection_id=ConnectionId(row["connection_id"]),
        organization_id=OrganizationId(row["organization_id"]),
        secret_header=row["secret_header"],
        secret_hashes=tuple(row["secret_hashes"]),
        options=row["options"],
        live=row["disabled_at"] is None and not row["suspended"],
        checks=Checks(
            secret=row["check_secret"], signature=row["check_signature"], network=row["check_network"]
        ),
        sealed_hmac_secrets=tuple(row["sealed_hmac_secrets"]),
        networks=tuple(row["networks"]),
    )


async def prune_webhooks(database: Database, *, at_once: int = PRUNED_AT_ONCE) -> bool:
    """Forget, for all organizations, what 100ms told `KEPT_DAYS` ago; True when more may be left."""
    async with database.transaction() as session:
        connection = await session.connection()
        row = (await connection.execute(_FORGET, {"days": KEPT_DAYS, "at_most": at_once})).one()
    return at_once <= int(max(row.events, row.stops))


def backlog_turns(database: Database) -> Callable[[], AbstractAsyncContextManager[bool]]:
    """Opens a turn: True for one replica at a time, by a lock that ends with the turn."""

    @asynccontextmanager
    async def turn() -> AsyncIterator[bool]:
        async with database.transaction() as session:
            connection = await session.connection()
            name = func.hashtextextended("hundredms backlog", 0)
            yield bool((await connection.execute(select(func.pg_try_advisory_xact_lock(name)))).scalar_one())

    return turn

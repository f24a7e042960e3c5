"""The outbox: events are written in the transaction that causes them, and published afterwards by a relay.

PostgreSQL is the truth and the broker is disposable: what is published stays here for 72 h, to be replayed.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel.ext.asyncio.session import AsyncSession

from shared import trace
from shared.contract import Service, spec_of
from shared.events import Event, Lane

OutboxRow = dict[str, Any]

REPLAY_HOURS = 72
BATCH = 50


class ContractBroken(AssertionError):
    """A service emitted an event that the contract does not let it produce: a bug, found by the first test."""


@dataclass(frozen=True)
class Outgoing:
    """One row that waits for the broker."""

    seq: int
    day: Any
    event_id: str
    event_name: str
    lane: Lane
    body: str
    traceparent: str | None


class Outbox:
    """Writes events of one service and hands pending rows to the relay. `wake` is set after each commit."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.wake = asyncio.Event()

    async def emit(self, session: AsyncSession, events: Iterable[Event]) -> None:
        """Add the events to the running transaction; an event id that is there already changes nothing."""
        await self.insert(await session.connection(), self.rows(events))

    def rows(self, events: Iterable[Event]) -> list[OutboxRow]:
        """What `insert` writes of these events, which belong to the current trace."""
        return [self._row(event) for event in events if spec_of(event.name).consumers]

    async def insert(self, connection: AsyncConnection, rows: Sequence[OutboxRow]) -> None:
        """Add rows to the running transaction; an event id that is there already changes nothing."""
        if rows:
            await connection.execute(_INSERT, rows)

    def _row(self, event: Event) -> OutboxRow:
        if self.service not in spec_of(event.name).producers:
            raise ContractBroken(f"{self.service} may not produce {event.name}")
        return {
            "event_id": event.event_id,
            "day": event.occurred_at.date(),
            "event_name": event.name,
            "lane": event.lane.value,
            "organization_id": event.organization_id,
            "stream_id": getattr(event, "stream_id", None),
            "body": event.model_dump_json(),
            "traceparent": trace.current_traceparent(),
        }


async def take_pending(
    connection: AsyncConnection, *, limit: int = BATCH, after_seq: int = 0
) -> tuple[Outgoing, ...]:
    """Lock the oldest rows that wait behind `after_seq`; other relays skip them until this transaction ends."""
    rows = await connection.execute(_TAKE, {"limit": limit, "after_seq": after_seq})
    return tuple(
        Outgoing(
            seq=row.seq,
            day=row.day,
            event_id=str(row.event_id),
            event_name=row.event_name,
            lane=Lane(row.lane),
            body=row.body,
            traceparent=row.traceparent,
        )
        for row in rows
    )


async def mark_published(connection: AsyncConnection, rows: Sequence[Outgoing]) -> None:
    if rows:
        await connection.execute(_MARK, {"seqs": [row.seq for row in rows]})


async def count_pending(connection: AsyncConnection, *, at_most: int = 10_000) -> int:
    """How many rows wait, counted no further than `at_most`."""
    return int((await connection.execute(_COUNT, {"at_most": at_most})).scalar_one())


async def schedule_replay(connection: AsyncConnection, *, hours: int = REPLAY_HOURS) -> int:
    """Publish once more what was published in the last hours; consumers know what they have seen.

    Days of events are more than the usual statement time-out allows, and without them nothing may go on.
    """
    await connection.execute(text("SET LOCAL statement_timeout = 0"))
    return (await connection.execute(_REPLAY, {"hours": hours})).rowcount


_INSERT = text(
    """
    INSERT INTO outbox (event_id, day, event_name, lane, organization_id, stream_id, body, traceparent)
    VALUES (:event_id, :day, :event_name, :lane, :organization_id, :stream_id, :body, :traceparent)
    ON CONFLICT DO NOTHING
    """
)
_TAKE = text(
    """
    SELECT seq, day, event_id, event_name, lane, body, traceparent
    FROM outbox WHERE published_at IS NULL AND seq > :after_seq ORDER BY seq LIMIT :limit FOR UPDATE SKIP LOCKED
    """
)
_MARK = text(
    "UPDATE outbox SET published_at = now() WHERE published_at IS NULL AND seq = ANY(CAST(:seqs AS bigint[]))"
)
_COUNT = text(
    "SELECT count(*) FROM (SELECT 1 FROM outbox WHERE published_at IS NULL LIMIT :at_most) AS pending"
)
_REPLAY = text(
    "UPDATE outbox SET published_at = NULL WHERE published_at > now() - make_interval(hours => :hours)"
)

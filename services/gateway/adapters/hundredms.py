"""100ms webhooks, stops that came too early, and connections as authentication sees them, in PostgreSQL."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, case, func, select, text, update
from sqlalchemy.dialects import postgresql

from gateway.adapters import tables as t
from gateway.adapters.streams import StreamRows
from gateway.domain.hundredms_connection import Checks, Connection
from gateway.domain.hundredms_sighting import KnownStream, Sighting
from gateway.domain.stream_status import TERMINAL
from gateway.domain.submission import StreamPlace
from gateway.workflow.hundredms import ReceivedEvent, SourceEnd
from gateway.workflow.hundredms_reconciliation import API_STREAM, Checked, DueConnection, DueConnections
from shared.database import Database
from shared.ids import ConnectionId, OrganizationId, StreamId

# 100ms repeats a webhook for 14 s, and a beam is never started twice: all later is for people who look for a cause.
KEPT_DAYS = 30
PRUNED_AT_ONCE = 5_000
# Longer than any live stream of 100ms: its sessions end after 12 hours.
KNOWN_FOR = timedelta(hours=36)
_FORGET = text(
    "SELECT forget_hundredms_events(:days, :at_most) AS events, forget_hundredms_stops(:days, :at_most) AS stops, "
    "forget_hundredms_recordings(:days, :at_most) AS recordings"
)
_CLAIM_API = text("SELECT * FROM claim_hundredms_api(:at_most, :pause_s)")
_CONNECTION = t.hundredms_connections.c
_STREAM, _TOLD, _BURIED = t.streams.c, t.hundredms_streams.c, t.hundredms_stops.c
_OURS = t.streams.join(t.hundredms_streams, _TOLD.stream_id == _STREAM.stream_id)
_IS_OVER = (
    _STREAM.stop_requested_at.is_not(None)
    | _STREAM.status.in_(sorted(TERMINAL))
    | _TOLD.stopped_at.is_not(None)  # a retry of an ended stream is not asked to stop again
)
_KNOWN = (
    _TOLD.stream_id,
    _TOLD.room_id,
    _TOLD.session_id,
    _TOLD.url_key,
    _TOLD.beam_id,
    _TOLD.live_id,
    _TOLD.started_at,
    _TOLD.stopped_at,
    _TOLD.absences,
    _TOLD.created_at,
    _IS_OVER.label("is_over"),
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
            "room_id": received.event.room_id,
            "session_id": received.event.session_id,
            "source_started_at": received.event.started_at,
            "source_stopped_at": received.event.stopped_at,
        }
        await self._execute(postgresql.insert(t.hundredms_stops).values(values).on_conflict_do_nothing())

    async def lock_beam(self, beam_id: str) -> None:
        name = f"{self._organization_id}|beam|{beam_id}"
        await self._execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))

    async def find_beam(self, connection_id: ConnectionId, beam_id: str) -> StreamPlace | None:
        """By its beam, or by the id that a gateway of the release before gave it.

        The API may have started it for another connection of the organization than the one its webhooks go to.
        """
        is_own = _TOLD.connection_id == connection_id
        of_beam = (
            select(_TOLD.stream_id)
            .select_from(_OURS)
            .where(_TOLD.organization_id == self._organization_id, _TOLD.beam_id == beam_id)
            .where(is_own | _STREAM.external_id.startswith(API_STREAM, autoescape=True))
            .order_by(is_own.desc())
            .limit(1)
        )
        found = await self._find(_STREAM.stream_id.in_(of_beam))
        return found or await self._find(
            _STREAM.connection_id == connection_id, _STREAM.external_id == beam_id
        )

    async def lock_room(self, room_id: str) -> None:
        name = f"{self._organization_id}|room|{room_id}"
        await self._execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))

    async def known(
        self, connection_id: ConnectionId, *, room_id: str | None = None
    ) -> tuple[KnownStream, ...]:
        recent = (_TOLD.created_at > func.now() - KNOWN_FOR) | ~_IS_OVER
        conditions = [_TOLD.organization_id == self._organization_id, recent]
        if room_id is not None:
            conditions.append(_TOLD.room_id == room_id)
        is_own = (_TOLD.connection_id == connection_id).label("is_own")
        rows = await self._execute(select(*_KNOWN, is_own).select_from(_OURS).where(*conditions))
        return tuple(_known(row) for row in rows)

    async def buried(self) -> tuple[Sighting, ...]:
        recent = _BURIED.stopped_at > func.now() - KNOWN_FOR
        rows = await self._execute(
            select(t.hundredms_stops).where(_BURIED.organization_id == self._organization_id, recent)
        )
        return tuple(_sighting_of_stop(row) for row in rows)

    async def know(self, connection_id: ConnectionId, stream_id: StreamId, sighting: Sighting) -> None:
        values = {
            "stream_id": stream_id,
            "connection_id": connection_id,
            "organization_id": self._organization_id,
            "room_id": sighting.room_id,
            "session_id": sighting.session_id,
            "url_key": sighting.url_key,
            "beam_id": sighting.beam_id or None,
            "live_id": sighting.live_id or None,
            "started_at": sighting.started_at,
        }
        await self._execute(postgresql.insert(t.hundredms_streams).values(values))

    async def claim(self, stream_id: StreamId, *, beam_id: str) -> None:
        await self._told(stream_id, beam_id=beam_id)

    async def link(self, stream_id: StreamId, *, live_id: str) -> None:
        await self._told(stream_id, live_id=live_id)

    async def count_absence(self, stream_id: StreamId, *, absent: bool) -> None:
        await self._told(stream_id, absences=_TOLD.absences + 1 if absent else 0)

    async def place(self, stream_id: StreamId) -> StreamPlace | None:
        return await self._find(_STREAM.stream_id == stream_id)

    async def end_at_source(self, place: StreamPlace, end: SourceEnd, *, at: datetime) -> None:
        values: dict[str, Any] = {
            "source_failed": case((_STREAM.source_end.is_(None), end.failed), else_=_STREAM.source_failed),
            "source_end": func.coalesce(_STREAM.source_end, end.words or None),
            "updated_at": at,
        }
        if place.status not in TERMINAL:
            values["stop_requested_at"] = func.coalesce(_STREAM.stop_requested_at, at)
        await self._execute(update(t.streams).where(_STREAM.stream_id == place.stream_id).values(values))
        await self._told(place.stream_id, stopped_at=func.coalesce(_TOLD.stopped_at, end.stopped_at or at))

    async def note_check(self, due: DueConnection, checked: Checked, *, at: datetime) -> None:
        values: dict[str, Any] = {"api_checked_at": at, "api_failures": 0, "api_error": None}
        if checked.error is not None:
            values = {"api_failures": due.api_failures + 1, "api_error": checked.error}
        if checked.due_in_s is not None:
            values["api_due_at"] = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, checked.due_in_s)
        statement = update(t.hundredms_connections).where(
            _CONNECTION.connection_id == due.connection_id,
            _CONNECTION.sealed_api_credentials == due.sealed_api_credentials,
        )
        await self._execute(statement.values(values))

    async def add_recording(self, received: ReceivedEvent, recording_id: str, *, sealed_details: str) -> bool:
        values = {
            "connection_id": received.connection.connection_id,
            "recording_id": recording_id,
            "organization_id": self._organization_id,
            "beam_id": received.event.beam_id,
            "sealed_details": sealed_details,
            "received_at": received.received_at,
        }
        statement = postgresql.insert(t.hundredms_recordings).values(values).on_conflict_do_nothing()
        return (await self._execute(statement)).rowcount == 1

    async def _told(self, stream_id: StreamId, **values: Any) -> None:
        await self._execute(update(t.hundredms_streams).where(_TOLD.stream_id == stream_id).values(**values))


def _known(row: Row[Any]) -> KnownStream:
    return KnownStream(
        stream_id=StreamId(row.stream_id),
        sighting=Sighting(
            room_id=row.room_id,
            session_id=row.session_id,
            url_key=row.url_key,
            started_at=row.started_at,
            stopped_at=row.stopped_at,
            beam_id=row.beam_id or "",
            live_id=row.live_id or "",
        ),
        is_over=row.is_over,
        absences=row.absences,
        created_at=row.created_at,
        is_own=row.is_own,
    )


def _sighting_of_stop(row: Row[Any]) -> Sighting:
    """A stop without a moment of its own happened before it came in."""
    return Sighting(
        room_id=row.room_id or "",
        session_id=row.session_id or "",
        started_at=row.source_started_at,
        stopped_at=row.source_stopped_at or row.stopped_at,
        beam_id=row.beam_id,
    )


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


def due_connections(database: Database) -> DueConnections:
    """The look across tenants; the rows that it gives are taken until the pause is over."""

    async def due(*, at_most: int, pause_s: float) -> tuple[DueConnection, ...]:
        async with database.transaction() as session:
            connection = await session.connection()
            rows = await connection.execute(_CLAIM_API, {"at_most": at_most, "pause_s": pause_s})
            return tuple(DueConnection(**row) for row in rows.mappings())

    return due


async def prune_webhooks(database: Database, *, at_once: int = PRUNED_AT_ONCE) -> bool:
    """Forget, for all organizations, what 100ms told `KEPT_DAYS` ago; True when more may be left."""
    async with database.transaction() as session:
        connection = await session.connection()
        row = (await connection.execute(_FORGET, {"days": KEPT_DAYS, "at_most": at_once})).one()
    return at_once <= int(max(row.events, row.stops, row.recordings))


def backlog_turns(database: Database) -> Callable[[], AbstractAsyncContextManager[bool]]:
    """Opens a turn: True for one replica at a time, by a lock that ends with the turn."""

    @asynccontextmanager
    async def turn() -> AsyncIterator[bool]:
        async with database.transaction() as session:
            connection = await session.connection()
            name = func.hashtextextended("hundredms backlog", 0)
            yield bool((await connection.execute(select(func.pg_try_advisory_xact_lock(name)))).scalar_one())

    return turn

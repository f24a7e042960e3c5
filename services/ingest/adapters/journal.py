"""The durable side of a run: progress, segments, gaps, windows and events in one fenced transaction."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.domain.recorder import Entry, Followed, GapRow, Progress, SegmentRow, WindowRow
from ingest.workflow.ports import Lease, LeaseLost, Opened
from shared.database import Database
from shared.events import Lane, SegmentRef, Source
from shared.ids import OrganizationId, StreamId
from shared.outbox import Outbox


class PostgresJournal:
    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox

    async def open(self, lease: Lease) -> Opened | None:
        key = {"stream_id": lease.stream_id, "run": lease.run}
        async with self._database.transaction(lease.organization_id) as session:
            connection = await session.connection()
            row = (await connection.execute(_OPEN, key)).first()
            if row is None:
                await connection.execute(_DROP_LEASE, key | {"fence": lease.fence})
                return None
            progress = Progress.from_json(row.progress) if row.progress else Progress()
            found = await connection.execute(_TAIL, key | {"position": progress.first_open_position})
            segments = tuple(map(_segment, found))
        return Opened(
            stream=_followed(row), progress=progress, open_segments=segments, traceparent=row.traceparent
        )

    async def commit(self, lease: Lease, entries: Sequence[Entry]) -> None:
        key = {"stream_id": lease.stream_id, "run": lease.run, "organization_id": lease.organization_id}
        held = key | {"fence": lease.fence}
        async with self._database.transaction(lease.organization_id) as session:
            connection = await session.connection()
            saved = await connection.execute(_SAVE, held | _saved_values(entries))
            if saved.first() is None:
                raise LeaseLost(f"{lease.stream_id}: fence {lease.fence} is not the lease's any more")
            await _write_rare_rows(connection, key, entries)
            await self._outbox.emit(session, [event for entry in entries for event in entry.events])
            if entries[-1].end_cause is not None:
                await connection.execute(_END, key | {"cause": entries[-1].end_cause})
                await connection.execute(_DROP_LEASE, held)
        self._outbox.wake.set()


def _saved_values(entries: Sequence[Entry]) -> dict[str, str]:
    rows = [_segment_values(entry.segment) for entry in entries if entry.segment]
    return {"segments": json.dumps(rows), "progress": json.dumps(entries[-1].progress.to_json())}


async def _write_rare_rows(
    connection: AsyncConnection, key: dict[str, Any], entries: Sequence[Entry]
) -> None:
    windows = [key | _window_values(row) for entry in entries for row in entry.windows]
    gaps = [key | _gap_values(entry.gap) for entry in entries if entry.gap]
    for statement, rows in ((_WINDOW, windows), (_GAP, gaps)):
        if rows:
            await connection.execute(statement, rows)


def _followed(row: Row[Any]) -> Followed:
    return Followed(
        stream_id=StreamId(row.stream_id),
        organization_id=OrganizationId(row.organization_id),
        run=row.run,
        lane=Lane(row.lane),
        profile_key=row.profile_key,
        source=Source.model_validate(row.source),
    )


def _segment(row: Row[Any]) -> SegmentRow:
    fields = row._asdict()
    return SegmentRow(position=fields.pop("position"), ref=SegmentRef.model_validate(fields))


def _segment_values(row: SegmentRow) -> dict[str, Any]:
    return row.ref.model_dump(mode="json") | {"position": row.position}


def _window_values(row: WindowRow) -> dict[str, Any]:
    window = row.window
    return {
        "window_id": row.window_id,
        "index": window.index,
        "first_position": window.first_position,
        "last_position": window.last_position,
        "start_us": window.start_us,
        "end_us": window.end_us,
    }


def _gap_values(gap: GapRow) -> dict[str, Any]:
    return {
        "index": gap.index,
        "epoch": gap.epoch,
        "from_sequence": gap.from_sequence,
        "to_sequence": gap.to_sequence,
        "start_us": gap.start_us,
        "duration_us": gap.duration_us,
        "cause": gap.cause,
    }


_OPEN = text(
    "SELECT stream_id, organization_id, run, lane, profile_key, source, progress, traceparent FROM followed "
    "WHERE stream_id = :stream_id AND run = :run AND state = 'following'"
)
_TAIL = text(
    "SELECT position, key, epoch, sequence, start_us, duration_us, size_bytes, sha256, container, init_key, "
    "discontinuity, wall_at FROM segments "
    "WHERE stream_id = :stream_id AND run = :run AND position >= :position ORDER BY position"
)
_HELD = "stream_id = :stream_id AND run = :run AND fence = :fence"
_DROP_LEASE = text(f"DELETE FROM leases WHERE {_HELD}")  # noqa: S608
# What every segment writes, in one round trip. The answer to a commit can be lost with the connection: then all
# of it is written once more, so rows that are there already change nothing.
_SAVE = text(
    f"""
    WITH held AS (SELECT 1 FROM leases WHERE {_HELD} FOR UPDATE),
    archived AS (
        INSERT INTO segments (stream_id, run, organization_id, epoch, sequence, position, start_us,
            duration_us, wall_at, key, size_bytes, sha256, container, init_key, discontinuity)
        SELECT :stream_id, :run, :organization_id, row.*
        FROM held, jsonb_to_recordset(CAST(:segments AS jsonb)) AS row (epoch integer, sequence bigint,
            position integer, start_us bigint, duration_us bigint, wall_at timestamptz, key text,
            size_bytes bigint, sha256 text, container text, init_key text, discontinuity boolean)
        ON CONFLICT DO NOTHING
    )
    UPDATE followed SET progress = CAST(:progress AS jsonb), updated_at = now()
    FROM held WHERE stream_id = :stream_id AND run = :run RETURNING run
    """  # noqa: S608
)
_END = text(
    "UPDATE followed SET ended_at = now(), state = 'ended', cause = :cause "
    "WHERE stream_id = :stream_id AND run = :run"
)
_WINDOW = text(
    """
    INSERT INTO windows (stream_id, run, index, organization_id, window_id, first_position, last_position,
        start_us, end_us)
    VALUES (:stream_id, :run, :index, :organization_id, :window_id, :first_position, :last_position,
        :start_us, :end_us)
    ON CONFLICT DO NOTHING
    """
)
_GAP = text(
    """
    INSERT INTO gaps (stream_id, run, index, organization_id, epoch, from_sequence, to_sequence, start_us,
        duration_us, cause)
    VALUES (:stream_id, :run, :index, :organization_id, :epoch, :from_sequence, :to_sequence, :start_us,
        :duration_us, :cause)
    ON CONFLICT DO NOTHING
    """
)

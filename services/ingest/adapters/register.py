"""Which streams are followed, as the events of the gateway say; a lease row for each stands ready to be claimed."""

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from shared import trace
from shared.events import StreamOffline, StreamOnline
from shared.ids import StreamId


class PostgresRegister:
    """Works in the caller's transaction, which is the tenant's."""

    async def add(self, session: AsyncSession, event: StreamOnline) -> None:
        """Follow this run; a run that is known, or older than the known one, changes nothing."""
        connection = await session.connection()
        await connection.execute(_LOCK, {"stream_id": event.stream_id})
        parameters = {
            "stream_id": event.stream_id,
            "organization_id": event.organization_id,
            "run": event.run,
            "lane": event.lane.value,
            "profile_key": event.profile_key,
            "source": event.source.model_dump_json(),
            "traceparent": trace.current_traceparent(),
        }
        if (await connection.execute(_ADD, parameters)).first() is not None:
            await connection.execute(_OFFER, parameters)

    async def set_offline(self, session: AsyncSession, event: StreamOffline) -> None:
        """Note the reason, also before the run is known."""
        connection = await session.connection()
        parameters = {"stream_id": event.stream_id, "run": event.run}
        await connection.execute(_LOCK, {"stream_id": event.stream_id})
        await connection.execute(
            _OFFLINE, parameters | {"organization_id": event.organization_id, "reason": event.reason}
        )
        await connection.execute(_TELL_OFFLINE, parameters)

    async def close(self, session: AsyncSession, stream_id: StreamId) -> None:
        """Without its lease row, whoever follows the stream can write nothing more; nor can who repairs it."""
        connection = await session.connection()
        await connection.execute(_LOCK, {"stream_id": stream_id})
        await connection.execute(_DROP_LEASE, {"stream_id": stream_id})
        await connection.execute(_CLOSE, {"stream_id": stream_id})

    async def count_analysed(self, session: AsyncSession, stream_id: StreamId, *, run: int) -> None:
        connection = await session.connection()
        await connection.execute(_COUNT, {"stream_id": stream_id, "run": run})


# Online and offline of one stream may be handled at the same time; each must see what the other wrote.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:stream_id, 0))")
_ADD = text(
    """
    INSERT INTO followed AS row (stream_id, organization_id, run, lane, profile_key, source, state, traceparent)
    VALUES (:stream_id, :organization_id, :run, :lane, :profile_key, CAST(:source AS jsonb), 'following',
            :traceparent)
    ON CONFLICT (stream_id) DO UPDATE
    SET run = EXCLUDED.run, lane = EXCLUDED.lane, profile_key = EXCLUDED.profile_key,
        source = EXCLUDED.source, state = 'following', cause = NULL, progress = NULL, updated_at = now(),
        ended_at = NULL, traceparent = EXCLUDED.traceparent
    WHERE row.run < EXCLUDED.run
    RETURNING row.run
    """
)
_OFFER = text(
    """
    INSERT INTO leases AS row (stream_id, organization_id, run, lane, is_offline)
    VALUES (:stream_id, :organization_id, :run, :lane,
            EXISTS (SELECT 1 FROM offlines WHERE stream_id = :stream_id AND run = :run))
    ON CONFLICT (stream_id) DO UPDATE
    SET run = EXCLUDED.run, lane = EXCLUDED.lane, owner = NULL, lease_until = now(), fence = 0,
        analysed_windows = 0, awaited_windows = 0, is_offline = EXCLUDED.is_offline
    """
)
_OFFLINE = text(
    "INSERT INTO offlines (stream_id, run, organization_id, reason) "
    "VALUES (:stream_id, :run, :organization_id, :reason) ON CONFLICT DO NOTHING"
)
_TELL_OFFLINE = text("UPDATE leases SET is_offline = true WHERE stream_id = :stream_id AND run = :run")
_DROP_LEASE = text("DELETE FROM leases WHERE stream_id = :stream_id")
_CLOSE = text(
    "UPDATE followed SET state = 'closed', updated_at = now() "
    "WHERE stream_id = :stream_id AND state <> 'closed'"
)
_COUNT = text(
    "UPDATE leases SET analysed_windows = analysed_windows + 1 WHERE stream_id = :stream_id AND run = :run"
)

"""Tombstones: streams that are over for this service, so that late events resurrect nothing.

A stream that simply completed is noted and stays open: what comes later can only be its repair.
"""

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from shared.database import Database
from shared.events import StreamClosed
from shared.ids import OrganizationId, StreamId


class Closures:
    """The table `closed_streams` of one service; a tenant table under row-level security."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, session: AsyncSession, event: StreamClosed) -> None:
        """Set the tombstone in the running transaction; the first cause stays, unless that was completion."""
        connection = await session.connection()
        await connection.execute(
            _RECORD,
            {"stream_id": event.stream_id, "organization_id": event.organization_id, "cause": event.cause},
        )

    async def is_closed(self, session: AsyncSession, stream_id: str) -> bool:
        connection = await session.connection()
        return (await connection.execute(_FIND, {"stream_id": stream_id})).first() is not None

    async def is_closed_for(self, organization_id: OrganizationId, stream_id: StreamId) -> bool:
        """The same in a transaction of its own, for work handlers."""
        async with self._database.transaction(organization_id) as session:
            return await self.is_closed(session, stream_id)


_RECORD = text(
    "INSERT INTO closed_streams (stream_id, organization_id, cause) "
    "VALUES (:stream_id, :organization_id, :cause) ON CONFLICT (stream_id) "
    "DO UPDATE SET cause = EXCLUDED.cause, closed_at = now() WHERE closed_streams.cause = 'completed'"
)
_FIND = text("SELECT 1 FROM closed_streams WHERE stream_id = :stream_id AND cause <> 'completed'")

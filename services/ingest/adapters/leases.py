"""The lease table: ids and numbers only, across tenants, by the database's clock."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row, text

from ingest.workflow.ports import Lease
from shared.database import Database
from shared.ids import OrganizationId, StreamId


class PostgresLeases:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, owner: str, *, limit: int, lease_s: float) -> tuple[Lease, ...]:
        async with self._database.transaction() as session:
            connection = await session.connection()
            parameters = {"owner": owner, "limit": limit, "lease_s": lease_s}
            return _leases(await connection.execute(_CLAIM, parameters))

    async def renew(self, owner: str, *, fences: Sequence[int], lease_s: float) -> tuple[Lease, ...]:
        async with self._database.transaction() as session:
            connection = await session.connection()
            parameters = {"owner": owner, "fences": list(fences), "lease_s": lease_s}
            return _leases(await connection.execute(_RENEW, parameters))

    async def release(self, owner: str, *, fences: Sequence[int]) -> None:
        async with self._database.transaction() as session:
            connection = await session.connection()
            await connection.execute(_RELEASE, {"owner": owner, "fences": list(fences)})


def _leases(rows: Iterable[Row[Any]]) -> tuple[Lease, ...]:
    return tuple(
        Lease(
            stream_id=StreamId(row.stream_id),
            organization_id=OrganizationId(row.organization_id),
            run=row.run,
            fence=row.fence,
            is_offline=row.is_offline,
            analysed_windows=row.analysed_windows,
        )
        for row in rows
    )


_COLUMNS = "stream_id, organization_id, run, fence, is_offline, analysed_windows"
_HELD = "owner = :owner AND fence = ANY(CAST(:fences AS bigint[]))"
_CLAIM = text(
    f"""
    UPDATE leases SET owner = :owner, fence = nextval('lease_fence'),
        lease_until = now() + make_interval(secs => :lease_s)
    WHERE stream_id IN (
        SELECT stream_id FROM leases WHERE owner IS NULL OR lease_until < now()
        ORDER BY lease_until LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    RETURNING {_COLUMNS}
    """  # noqa: S608
)
# A row that a commit holds just now is passed over and still told: one that hangs must not cost the others.
_RENEW = text(
    f"""
    WITH free AS (SELECT stream_id FROM leases WHERE {_HELD} FOR UPDATE SKIP LOCKED),
    renewed AS (
        UPDATE leases SET lease_until = now() + make_interval(secs => :lease_s)
        WHERE stream_id IN (SELECT stream_id FROM free)
    )
    SELECT {_COLUMNS} FROM leases WHERE {_HELD}
    """  # noqa: S608
)
_RELEASE = text(f"UPDATE leases SET owner = NULL, lease_until = now() WHERE {_HELD}")  # noqa: S608

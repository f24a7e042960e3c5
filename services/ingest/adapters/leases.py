"""The lease table: ids and numbers only, across tenants, by the database's clock.

A lease lasts for as long as its owner's one row in `replicas` is renewed, however many streams that is.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, text

from ingest.domain.sharing import Census, Group
from ingest.workflow.ports import Claimed, Lease, Replica, Rest
from shared.database import Database
from shared.events import Lane
from shared.ids import OrganizationId, StreamId


class PostgresLeases:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def renew(self, replica: Replica) -> tuple[Lease, ...]:
        parameters = {
            "owner": replica.owner,
            "lease_s": replica.lease_s,
            "live": replica.capacities[Lane.LIVE],
            "vod": replica.capacities[Lane.VOD],
        }
        async with self._database.autocommit() as connection:
            return tuple(map(_lease, await connection.execute(_RENEW, parameters)))

    async def claim(
        self, owner: str, *, lane: Lane, limit: int, patience_s: float, from_dead: bool
    ) -> tuple[Claimed, ...]:
        parameters = {
            "owner": owner,
            "lane": lane.value,
            "limit": limit,
            "patience_s": patience_s,
            "from_dead": from_dead,
        }
        async with self._database.autocommit() as connection:
            rows = await connection.execute(_CLAIM, parameters)
            return tuple(Claimed(lease=_lease(row), is_takeover=row.is_takeover) for row in rows)

    async def release(self, owner: str, *, rests: Sequence[Rest]) -> None:
        parameters = {
            "owner": owner,
            "fences": [rest.fence for rest in rests],
            "awaited": [rest.awaited_windows for rest in rests],
            "pauses_s": [rest.pause_s for rest in rests],
        }
        async with self._database.autocommit() as connection:
            await connection.execute(_RELEASE, parameters)

    async def leave(self, owner: str) -> None:
        async with self._database.autocommit() as connection:
            await connection.execute(_LEAVE, {"owner": owner})

    async def go(self, owner: str) -> None:
        async with self._database.autocommit() as connection:
            await connection.execute(_GO, {"owner": owner})

    async def census(self) -> Census:
        async with self._database.transaction() as session:
            connection = await session.connection()
            replicas = await connection.execute(_ALIVE)
            return Census(
                capacities=_capacities(replicas), groups=tuple(map(_group, await connection.execute(_GROUPS)))
            )


def _lease(row: Row[Any]) -> Lease:
    return Lease(
        stream_id=StreamId(row.stream_id),
        organization_id=OrganizationId(row.organization_id),
        run=row.run,
        fence=row.fence,
        lane=Lane(row.lane),
        is_offline=row.is_offline,
        analysed_windows=row.analysed_windows,
    )


def _capacities(rows: Iterable[Row[Any]]) -> Mapping[str, Mapping[Lane, int]]:
    return {row.owner: {Lane.LIVE: row.live_capacity, Lane.VOD: row.vod_capacity} for row in rows}


def _group(row: Row[Any]) -> Group:
    return Group(
        lane=Lane(row.lane),
        organization_id=OrganizationId(row.organization_id),
        owner=row.owner,
        is_free=row.is_free,
        count=row.streams,
    )


_COLUMNS = "stream_id, organization_id, run, fence, lane, is_offline, analysed_windows"
# A date instead of 'infinity' is the lease of a replica of an older version, which renews each stream's row.
_IS_FREE = """
    CASE WHEN leases.owner IS NULL
        THEN leases.lease_until <= now()
            AND (leases.is_offline OR leases.analysed_windows >= leases.awaited_windows)
    WHEN leases.lease_until = 'infinity'
        THEN NOT EXISTS (SELECT 1 FROM replicas WHERE replicas.owner = leases.owner AND alive_until > now())
    ELSE leases.lease_until < now() END
"""
_ALIVE = text("SELECT owner, live_capacity, vod_capacity FROM replicas WHERE alive_until > now()")
_TAKERS = """SELECT count(*) FROM replicas
    WHERE alive_until > now() AND CASE :lane WHEN 'live' THEN live_capacity ELSE vod_capacity END > 0"""
_GROUPS = text(
    f"""
    SELECT lane, organization_id, is_free, CASE WHEN NOT is_free THEN owner END AS owner, count(*) AS streams
    FROM (SELECT lane, organization_id, owner, {_IS_FREE} AS is_free FROM leases) AS leases
    GROUP BY 1, 2, 3, 4
    """  # noqa: S608
)
_RENEW = text(
    f"""
    WITH alive AS (
        INSERT INTO replicas (owner, alive_until, live_capacity, vod_capacity)
        VALUES (:owner, now() + make_interval(secs => :lease_s), :live, :vod)
        ON CONFLICT (owner) DO UPDATE SET alive_until = EXCLUDED.alive_until
    ),
    forgotten AS (DELETE FROM replicas WHERE alive_until < now() - interval '1 hour' AND owner <> :owner)
    SELECT {_COLUMNS} FROM leases WHERE owner = :owner AND lease_until = 'infinity'
    """  # noqa: S608
)
# Whoever holds fewest comes first, organization by organization, and then whoever has waited longest. A replica
# takes no more than its share, unless a stream has waited so long that nobody else seems to want it.
_CLAIM = text(
    f"""
    WITH known AS MATERIALIZED (
        SELECT stream_id, organization_id, owner, fence, {_IS_FREE} AS is_free,
            CASE WHEN owner IS NULL THEN lease_until
                ELSE (SELECT alive_until FROM replicas WHERE replicas.owner = leases.owner) END AS free_since
        FROM leases WHERE lane = :lane
    ),
    share AS (
        SELECT ceil(count(*) FILTER (WHERE is_free OR owner IS NOT NULL)::numeric
                    / greatest(1, ({_TAKERS})))
            - count(*) FILTER (WHERE owner = :owner AND NOT is_free) AS places
        FROM known
    ),
    held AS (
        SELECT organization_id, count(*) AS streams FROM known WHERE owner IS NOT NULL AND NOT is_free GROUP BY 1
    ),
    queue AS (
        SELECT stream_id, fence, free_since, coalesce(streams, 0)
            + row_number() OVER (PARTITION BY organization_id ORDER BY free_since, stream_id) AS turn
        FROM known LEFT JOIN held USING (organization_id)
        WHERE is_free AND (owner IS NULL OR (:from_dead AND owner <> :owner))
    ),
    placed AS (
        SELECT *, row_number() OVER (ORDER BY turn, free_since NULLS FIRST, stream_id) AS place FROM queue
    ),
    picked AS (
        SELECT leases.stream_id, leases.owner FROM share, placed
        JOIN leases ON leases.stream_id = placed.stream_id AND leases.fence = placed.fence
        WHERE place <= places OR free_since IS NULL OR free_since < now() - make_interval(secs => :patience_s)
        ORDER BY place LIMIT :limit FOR UPDATE OF leases SKIP LOCKED
    )
    UPDATE leases SET owner = :owner, fence = nextval('lease_fence'), lease_until = 'infinity',
        awaited_windows = 0
    FROM picked WHERE leases.stream_id = picked.stream_id
    RETURNING {", ".join(f"leases.{name}" for name in _COLUMNS.split(", "))},
        picked.owner IS NOT NULL AS is_takeover
    """  # noqa: S608
)
_RELEASE = text(
    """
    UPDATE leases SET owner = NULL, awaited_windows = rest.awaited,
        lease_until = now() + make_interval(secs => rest.pause_s)
    FROM unnest(CAST(:fences AS bigint[]), CAST(:awaited AS integer[]), CAST(:pauses_s AS float[]))
        AS rest (fence, awaited, pause_s)
    WHERE owner = :owner AND leases.fence = rest.fence
    """
)
_LEAVE = text("UPDATE replicas SET live_capacity = 0, vod_capacity = 0 WHERE owner = :owner")
_GO = text(
    """
    WITH gone AS (DELETE FROM replicas WHERE owner = :owner)
    UPDATE leases SET owner = NULL, lease_until = now() WHERE owner = :owner
    """
)

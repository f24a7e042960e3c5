"""Runs in PostgreSQL: the machine's snapshot as JSON in one row, under a row lock while an input is applied."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlmodel.ext.asyncio.session import AsyncSession

from selector.domain.machine import opened
from selector.domain.moment import Moment
from selector.domain.state import State
from selector.workflow import DueRun, StoredRun
from shared import trace
from shared.database import Database
from shared.events import Lane
from shared.ids import OrganizationId, StreamId


class RunRows:
    """The table `runs`; implements the workflow's port."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lock(
        self,
        session: AsyncSession,
        *,
        organization_id: OrganizationId,
        stream_id: StreamId,
        run: int,
        lane: Lane,
        profile_key: str | None,
    ) -> StoredRun:
        connection = await session.connection()
        key = {"stream_id": stream_id, "run": run}
        await connection.execute(
            _INSERT,
            key
            | {
                "organization_id": organization_id,
                "lane": lane.value,
                "profile_key": profile_key,
                "state": opened(stream_id, run=run).to_json(),
                "traceparent": trace.current_traceparent(),
            },
        )
        return _stored((await connection.execute(_LOCK, key)).one(), profile_key=profile_key)

    async def save(self, session: AsyncSession, run: StoredRun, *, deadline_s: float) -> None:
        connection = await session.connection()
        await connection.execute(
            _SAVE,
            {
                "stream_id": run.stream_id,
                "run": run.run,
                "profile_key": run.profile_key,
                "state": run.state.to_json(),
                "offered_at": json.dumps({str(k): at.isoformat() for k, at in run.offered_at.items()}),
                "blocked_on": run.state.blocked_on,
                "waiting_since": run.waiting_since,
                "deadline_s": deadline_s,
            },
        )

    async def standing(self, session: AsyncSession, run: StoredRun) -> tuple[Moment, ...]:
        connection = await session.connection()
        rows = await connection.execute(_STANDING, {"stream_id": run.stream_id, "run": run.run})
        return tuple(Moment.model_validate_json(row.moment) for row in rows)

    async def stand(self, session: AsyncSession, run: StoredRun, moments: Sequence[Moment]) -> None:
        connection = await session.connection()
        head = {"stream_id": run.stream_id, "run": run.run, "organization_id": run.organization_id}
        rows = [
            head | {"highlight_id": moment.highlight_id, "moment": moment.model_dump_json()}
            for moment in moments
        ]
        await connection.execute(_STAND, rows)

    async def of_stream(self, session: AsyncSession, stream_id: StreamId) -> tuple[int, ...]:
        connection = await session.connection()
        rows = await connection.execute(_RUNS, {"stream_id": stream_id})
        return tuple(row.run for row in rows)

    async def due(self, *, limit: int) -> tuple[DueRun, ...]:
        async with self._database.transaction() as session:
            connection = await session.connection()
            rows = await connection.execute(_DUE, {"limit": limit})
            return tuple(
                DueRun(
                    organization_id=OrganizationId(row.organization_id),
                    stream_id=StreamId(row.stream_id),
                    run=row.run,
                    index=row.blocked_on,
                )
                for row in rows
            )


def _stored(row: Row[Any], *, profile_key: str | None) -> StoredRun:
    return StoredRun(
        organization_id=OrganizationId(row.organization_id),
        stream_id=StreamId(row.stream_id),
        run=row.run,
        lane=Lane(row.lane),
        profile_key=row.profile_key or profile_key,
        state=State.from_json(row.state),
        offered_at={int(k): datetime.fromisoformat(at) for k, at in json.loads(row.offered_at).items()},
        traceparent=row.traceparent,
    )


_INSERT = text(
    """
    INSERT INTO runs (stream_id, run, organization_id, lane, profile_key, state, traceparent)
    VALUES (:stream_id, :run, :organization_id, :lane, :profile_key, CAST(:state AS jsonb), :traceparent)
    ON CONFLICT (stream_id, run) DO NOTHING
    """
)
_LOCK = text(
    """
    SELECT organization_id, stream_id, run, lane, profile_key, state::text AS state,
        offered_at::text AS offered_at, traceparent
    FROM runs WHERE stream_id = :stream_id AND run = :run FOR UPDATE
    """
)
_SAVE = text(
    """
    UPDATE runs SET profile_key = :profile_key, state = CAST(:state AS jsonb), updated_at = now(),
        offered_at = CAST(:offered_at AS jsonb),
        due_at = CASE
            WHEN CAST(:blocked_on AS integer) IS NULL THEN NULL
            WHEN CAST(:waiting_since AS timestamptz) IS NOT NULL
                THEN :waiting_since + make_interval(secs => :deadline_s)
            WHEN blocked_on IS NOT DISTINCT FROM :blocked_on THEN due_at
            ELSE now() + make_interval(secs => :deadline_s) END,
        blocked_on = :blocked_on
    WHERE stream_id = :stream_id AND run = :run
    """
)
_STANDING = text(
    "SELECT moment::text AS moment FROM standing WHERE stream_id = :stream_id AND run = :run "
    "ORDER BY highlight_id"
)
_STAND = text(
    """
    INSERT INTO standing (stream_id, run, highlight_id, organization_id, moment)
    VALUES (:stream_id, :run, :highlight_id, :organization_id, CAST(:moment AS jsonb))
    ON CONFLICT (stream_id, run, highlight_id) DO UPDATE SET moment = EXCLUDED.moment
    """
)
_RUNS = text("SELECT run FROM runs WHERE stream_id = :stream_id ORDER BY run")
_DUE = text("SELECT organization_id, stream_id, run, blocked_on FROM due_runs(CAST(:limit AS integer))")

"""Recordings, jobs and repairs in PostgreSQL. Jobs hold ids only and cross tenants; the rest is the tenant's."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlmodel.ext.asyncio.session import AsyncSession

from ingest.domain.recorder import Followed
from ingest.domain.repair import Excluded, Gap, Recording, with_clocks
from ingest.workflow.ports import LeaseLost
from ingest.workflow.repair_ports import GapOutcome, Job, Task
from shared import trace
from shared.database import Database
from shared.events import Lane, RecordingAvailable, Source
from shared.ids import OrganizationId, StreamId
from shared.outbox import Outbox


class RecordingRows:
    """Works in the caller's transaction, which is the tenant's."""

    async def add(self, session: AsyncSession, event: RecordingAvailable) -> None:
        """Note the recording, or its fresh address, and make it due."""
        connection = await session.connection()
        fields = {"stream_id", "organization_id", "run", "recording_id", "sealed_url", "started_at"}
        values = event.model_dump(include=fields | {"duration_us", "expires_at"})
        values |= {"lane": event.lane.value, "traceparent": trace.current_traceparent()}
        await connection.execute(_ADD, values)
        await connection.execute(_OFFER, values)


class RepairRows:
    """Implements the workflow's port `RepairJobs`."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox

    async def claim(self, owner: str, *, limit: int, lease_s: float) -> tuple[Job, ...]:
        async with self._database.transaction() as session:
            connection = await session.connection()
            rows = await connection.execute(_CLAIM, {"owner": owner, "limit": limit, "lease_s": lease_s})
            return tuple(map(_job, rows))

    async def extend(self, job: Job, *, lease_s: float) -> None:
        await self._change(_EXTEND, job, lease_s=lease_s)

    async def postpone(self, job: Job, *, pause_s: float) -> None:
        await self._change(_POSTPONE, job, pause_s=pause_s)

    async def release(self, job: Job) -> None:
        await self._change(_RELEASE, job)

    async def finish(self, job: Job) -> None:
        await self._change(_FINISH, job)

    async def _change(self, statement: Any, job: Job, **values: float) -> None:
        async with self._database.transaction() as session:
            connection = await session.connection()
            await connection.execute(statement, _key(job) | values)

    async def open(self, job: Job) -> Task | None:
        async with self._database.transaction(job.organization_id) as session:
            connection = await session.connection()
            row = (await connection.execute(_OPEN, _key(job))).first()
            if row is None:
                return None
            gaps = tuple(map(_gap, await connection.execute(_GAPS, _key(job))))
            clocks = await connection.execute(_CLOCKS, _key(job)) if gaps else ()
            told = tuple((clock.start_us, clock.wall_at) for clock in clocks)
            ads = await connection.execute(_EXCLUDED, _key(job)) if gaps else ()
            excluded = tuple(Excluded(from_us=each.from_us, to_us=each.to_us) for each in ads)
        return _task(row, with_clocks(gaps, told), excluded)

    async def commit(self, job: Job, outcomes: Sequence[GapOutcome]) -> None:
        async with self._database.transaction(job.organization_id) as session:
            connection = await session.connection()
            if (await connection.execute(_HOLD, _key(job))).first() is None:
                raise LeaseLost(f"{job.stream_id}: the claim with fence {job.fence} is lost")
            await connection.execute(_REPAIRED, [_values(job, outcome) for outcome in outcomes])
            for outcome in outcomes:
                await self._outbox.emit(session, outcome.events)
        self._outbox.wake.set()


def _values(job: Job, outcome: GapOutcome) -> dict[str, Any]:
    filled = outcome.filled
    return _key(job) | {
        "organization_id": job.organization_id,
        "gap_index": filled.gap.index,
        "revision": filled.gap.revision,
        "outcome": filled.outcome,
        "from_us": filled.from_us,
        "to_us": filled.to_us,
        "segments": json.dumps([ref.model_dump(mode="json") for ref in outcome.segments]),
        "windows": list(outcome.windows),
        "reason": outcome.reason,
    }


def _key(job: Job) -> dict[str, Any]:
    return {
        "stream_id": job.stream_id,
        "run": job.run,
        "recording_id": job.recording_id,
        "fence": job.fence,
    }


def _job(row: Row[Any]) -> Job:
    return Job(
        stream_id=StreamId(row.stream_id),
        organization_id=OrganizationId(row.organization_id),
        run=row.run,
        recording_id=row.recording_id,
        fence=row.fence,
        attempts=row.attempts,
    )


def _task(row: Row[Any], gaps: tuple[Gap, ...], excluded: tuple[Excluded, ...]) -> Task:
    followed = Followed(
        stream_id=StreamId(row.stream_id),
        organization_id=OrganizationId(row.organization_id),
        run=row.run,
        lane=Lane(row.lane),
        profile_key=row.profile_key,
        source=Source.model_validate(row.source),
    )
    recording = Recording(
        recording_id=row.recording_id, started_at=row.started_at, duration_us=row.duration_us
    )
    return Task(
        stream=followed,
        recording=recording,
        sealed_url=row.sealed_url,
        gaps=gaps,
        excluded=excluded,
        traceparent=row.traceparent,
    )


def _gap(row: Row[Any]) -> Gap:
    return Gap(
        index=row._mapping["index"],
        from_us=row.from_us,
        to_us=row.to_us,
        revision=row.revision,
    )


_ADD = text(
    """
    INSERT INTO recordings AS known (stream_id, run, recording_id, organization_id, lane, sealed_url, started_at,
        duration_us, expires_at, traceparent)
    VALUES (:stream_id, :run, :recording_id, :organization_id, :lane, :sealed_url, :started_at, :duration_us,
        :expires_at, :traceparent)
    ON CONFLICT (stream_id, run, recording_id) DO UPDATE
    SET sealed_url = EXCLUDED.sealed_url, expires_at = EXCLUDED.expires_at, received_at = now()
    """
)
_OFFER = text(
    """
    INSERT INTO repair_jobs (stream_id, run, recording_id, organization_id)
    VALUES (:stream_id, :run, :recording_id, :organization_id)
    ON CONFLICT (stream_id, run, recording_id) DO UPDATE SET due_at = now(), attempts = 0
    """
)
_CLAIM = text(
    "SELECT stream_id, organization_id, run, recording_id, fence, attempts "
    "FROM claim_repairs(:owner, CAST(:limit AS integer), CAST(:lease_s AS double precision))"
)
_HELD = "stream_id = :stream_id AND run = :run AND recording_id = :recording_id AND fence = :fence"
# Also who holds the claim writes nothing to a stream that was closed since, or has another run.
_HOLD = text(
    "SELECT 1 FROM repair_jobs j JOIN followed f USING (stream_id, run) "  # noqa: S608
    f"WHERE {_HELD} AND f.state = 'ended' FOR UPDATE OF j FOR SHARE OF f"
)
_EXTEND = text(
    f"UPDATE repair_jobs SET lease_until = now() + make_interval(secs => :lease_s) WHERE {_HELD}"  # noqa: S608
)
_POSTPONE = text(
    "UPDATE repair_jobs SET owner = NULL, lease_until = now(), "  # noqa: S608
    f"due_at = now() + make_interval(secs => :pause_s) WHERE {_HELD}"
)
_RELEASE = text(
    "UPDATE repair_jobs SET owner = NULL, lease_until = now(), attempts = attempts - 1 "  # noqa: S608
    f"WHERE {_HELD}"
)
_FINISH = text(f"DELETE FROM repair_jobs WHERE {_HELD}")  # noqa: S608
# A run that was stopped for good, or has a successor by now, is not repaired.
_OPEN = text(
    """
    SELECT f.stream_id, f.organization_id, f.run, f.lane, f.profile_key, f.source,
        r.recording_id, r.sealed_url, r.started_at, r.duration_us, r.traceparent
    FROM followed f JOIN recordings r USING (stream_id, run)
    WHERE stream_id = :stream_id AND run = :run AND recording_id = :recording_id AND f.state = 'ended'
    """
)
# The gaps that stay. A failure with this recording is not repeated, unless the recording was offered again since.
_GAPS = text(
    """
    SELECT g.index, g.start_us AS from_us, g.start_us + g.duration_us AS to_us,
        1 + coalesce((SELECT max(p.revision) FROM repairs p WHERE p.stream_id = g.stream_id AND p.run = g.run
            AND p.gap_index = g.index), 0) AS revision
    FROM gaps g
    WHERE g.stream_id = :stream_id AND g.run = :run AND g.duration_us > 0
      AND NOT EXISTS (
        SELECT 1 FROM repairs p JOIN recordings r USING (stream_id, run, recording_id)
        WHERE p.stream_id = g.stream_id AND p.run = g.run AND p.gap_index = g.index
          AND (p.outcome = 'repaired' OR (p.recording_id = :recording_id AND p.repaired_at >= r.received_at))
      )
    ORDER BY g.index
    """
)
# All of the run at once: one sorted look-up for each gap of a lost hour would read the run thousands of times.
_CLOCKS = text(
    "SELECT start_us, wall_at FROM segments WHERE stream_id = :stream_id AND run = :run "
    "AND wall_at IS NOT NULL ORDER BY start_us"
)
_EXCLUDED = text("SELECT from_us, to_us FROM annotations WHERE stream_id = :stream_id AND run = :run")
_REPAIRED = text(
    """
    INSERT INTO repairs (stream_id, run, gap_index, revision, organization_id, recording_id, outcome, from_us,
        to_us, segments, windows, reason)
    VALUES (:stream_id, :run, :gap_index, :revision, :organization_id, :recording_id, :outcome, :from_us,
        :to_us, CAST(:segments AS jsonb), CAST(:windows AS text[]), :reason)
    """
)

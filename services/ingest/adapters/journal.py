"""The durable side of runs: progress, segments, gaps, windows and events, each run under its own fence."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from sqlalchemy import Row, TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.adapters.gathering import Gathering
from ingest.domain.recorder import AnnotationRow, Entry, Followed, GapRow, Progress, SegmentRow, WindowRow
from ingest.workflow.ports import Lease, LeaseLost, Opened
from shared.database import Database, set_tenant
from shared.events import Lane, SegmentRef, Source
from shared.ids import OrganizationId, StreamId
from shared.outbox import Outbox, OutboxRow

log = structlog.get_logger()

# A tenth of a second more of lag, for a tenth of the transactions where hundreds of streams are followed.
COMMIT_EVERY_S: Final = 0.2
COMMITS_AT_ONCE: Final = 64

_Key = tuple[str, int]


@dataclass(frozen=True)
class _Commit:
    """What one follower commits; `events` are rows of the outbox, made in the follower's own trace."""

    lease: Lease
    entries: tuple[Entry, ...]
    events: tuple[OutboxRow, ...]

    @property
    def key(self) -> _Key:
        return self.lease.stream_id, self.lease.run

    @property
    def row_key(self) -> dict[str, Any]:
        lease = self.lease
        return {"stream_id": lease.stream_id, "run": lease.run, "organization_id": lease.organization_id}

    def progress_values(self) -> dict[str, Any]:
        lease, progress = self.lease, self.entries[-1].progress.to_json()
        return {
            "stream_id": lease.stream_id,
            "run": lease.run,
            "fence": lease.fence,
            "progress": progress,
        }

    def segment_values(self) -> Iterable[dict[str, Any]]:
        place = {"stream_id": self.lease.stream_id, "run": self.lease.run}
        return (place | _segment_values(entry.segment) for entry in self.entries if entry.segment)

    def end_values(self) -> dict[str, Any]:
        return self.row_key | {"fence": self.lease.fence, "cause": self.entries[-1].end_cause}


class PostgresJournal:
    """Commits of many followers share a transaction: each is written whole under its own fence, or not at all."""

    def __init__(self, database: Database, outbox: Outbox, *, every_s: float = COMMIT_EVERY_S) -> None:
        self._database = database
        self._outbox = outbox
        self._gathering: Gathering[_Commit, bool] = Gathering(
            self._write, every_s=every_s, most=COMMITS_AT_ONCE
        )

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
        """In one transaction with what other followers commit at this time, unless that goes wrong."""
        events = self._outbox.rows(event for entry in entries for event in entry.events)
        commit = _Commit(lease, tuple(entries), tuple(events))
        if not await self._gathering.join(commit):
            await self._write_alone(commit)

    async def _write(self, commits: Sequence[_Commit]) -> list[bool]:
        """Which of them are written; the others are left to their followers, as are all if one breaks a rule."""
        try:
            written = await self._write_held(commits, _SAVE_FREE)
        except DBAPIError as error:
            log.warning("commits_part", commits=len(commits), reason=type(error.orig).__name__)
            written = frozenset()
        return [commit.key in written for commit in commits]

    async def _write_alone(self, commit: _Commit) -> None:
        """Waits for whoever holds the lease's row up."""
        if not await self._write_held([commit], _SAVE):
            lease = commit.lease
            raise LeaseLost(f"{lease.stream_id}: fence {lease.fence} is not the lease's any more")

    async def _write_held(self, commits: Sequence[_Commit], save: TextClause) -> frozenset[_Key]:
        """Write the commits whose leases are held, and answer which these were; nothing of the others is written."""
        written: set[_Key] = set()
        async with self._database.transaction() as session:
            connection = await session.connection()
            for organization_id, its in _by_organization(commits):
                await set_tenant(session, organization_id)
                written |= await _write_tenant(connection, organization_id, its, save=save)
            events = [row for commit in commits if commit.key in written for row in commit.events]
            await self._outbox.insert(connection, events)
        if events:
            self._outbox.wake.set()
        return frozenset(written)


def _by_organization(commits: Sequence[_Commit]) -> Iterable[tuple[OrganizationId, list[_Commit]]]:
    found: defaultdict[OrganizationId, list[_Commit]] = defaultdict(list)
    for commit in commits:
        found[commit.lease.organization_id].append(commit)
    return found.items()


async def _write_tenant(
    connection: AsyncConnection,
    organization_id: OrganizationId,
    commits: Sequence[_Commit],
    *,
    save: TextClause,
) -> set[_Key]:
    """The transaction is bound to the organization, so row-level security refuses rows of any other."""
    rows = [row for commit in commits for row in commit.segment_values()]
    values = {
        "organization_id": organization_id,
        "commits": _compact([commit.progress_values() for commit in commits]),
        "segments": _compact(rows),
    }
    saved = await connection.execute(save, values)
    held = {(row.stream_id, row.run) for row in saved}
    await _write_rare_rows(connection, [commit for commit in commits if commit.key in held])
    return held


def _compact(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"))


async def _write_rare_rows(connection: AsyncConnection, commits: Sequence[_Commit]) -> None:
    written = [(commit.row_key, entry) for commit in commits for entry in commit.entries]
    ended = [commit.end_values() for commit in commits if commit.entries[-1].end_cause is not None]
    for statement, rows in (
        (_WINDOW, [key | _window_values(row) for key, entry in written for row in entry.windows]),
        (_GAP, [key | _gap_values(entry.gap) for key, entry in written if entry.gap]),
        (
            _ANNOTATION,
            [key | _annotation_values(entry.annotation) for key, entry in written if entry.annotation],
        ),
        (_END, ended),
        (_DROP_LEASE, ended),
    ):
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


def _annotation_values(row: AnnotationRow) -> dict[str, Any]:
    stretch = row.stretch
    return {
        "index": row.index,
        "kind": str(stretch.exclusion.kind),
        "from_us": stretch.from_us,
        "to_us": stretch.to_us,
        "detail": stretch.exclusion.detail,
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
# What every segment writes, in one round trip for all streams of an organization. The answer to a commit can be
# lost with the connection: then all of it is written once more, so rows that are there already change nothing.
# A replica that freezes in mid-commit loses its transaction before its leases, so that others can take its rows.
_SAVE_TEMPLATE = """
    WITH wanted AS (
        SELECT * FROM jsonb_to_recordset(CAST(:commits AS jsonb))
            AS row (stream_id text, run integer, fence bigint, progress jsonb)
    ),
    held AS (
        SELECT leases.stream_id, leases.run, set_config('idle_in_transaction_session_timeout', '2000', true)
        FROM leases JOIN wanted USING (stream_id, run, fence)
        FOR UPDATE OF leases {lock}
    ),
    archived AS (
        INSERT INTO segments (stream_id, run, organization_id, epoch, sequence, position, start_us,
            duration_us, wall_at, key, size_bytes, sha256, container, init_key, discontinuity)
        SELECT stream_id, run, :organization_id, epoch, sequence, position, start_us,
            duration_us, wall_at, key, size_bytes, sha256, container, init_key, discontinuity
        FROM held JOIN jsonb_to_recordset(CAST(:segments AS jsonb)) AS row (stream_id text, run integer,
            epoch integer, sequence bigint, position integer, start_us bigint, duration_us bigint,
            wall_at timestamptz, key text, size_bytes bigint, sha256 text, container text, init_key text,
            discontinuity boolean) USING (stream_id, run)
        ON CONFLICT DO NOTHING
    )
    UPDATE followed SET progress = wanted.progress, updated_at = now()
    FROM held JOIN wanted USING (stream_id, run)
    WHERE followed.stream_id = held.stream_id AND followed.run = held.run
    RETURNING followed.stream_id, followed.run
    """
_SAVE = text(_SAVE_TEMPLATE.format(lock=""))
# A lease that somebody holds up just now (a frozen replica in the middle of its commit) must not cost the others.
_SAVE_FREE = text(_SAVE_TEMPLATE.format(lock="SKIP LOCKED"))
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
_ANNOTATION = text(
    """
    INSERT INTO annotations (stream_id, run, index, organization_id, kind, from_us, to_us, detail)
    VALUES (:stream_id, :run, :index, :organization_id, :kind, :from_us, :to_us, :detail)
    ON CONFLICT DO NOTHING
    """
)

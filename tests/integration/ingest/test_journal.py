"""Commits of many streams in one transaction, on a real PostgreSQL: what one stream suffers costs no other."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import pytest

from ingest.adapters.journal import PostgresJournal
from ingest.domain.recorder import Entry, GapRow, Progress, SegmentRow
from ingest.workflow.ports import Lease, LeaseLost
from shared.database import Database
from shared.events import SegmentMissed
from shared.ids import OrganizationId, Position, StreamId, event_id
from shared.outbox import Outbox
from tests.builders import NOW, segment_ref
from tests.conftest import Installation

PATIENCE_S = 10.0
STREAMS = 6


@dataclass
class Archive:
    """Streams of two organizations, each held by us."""

    admin: "asyncpg.Connection[asyncpg.Record]"
    journal: PostgresJournal
    leases: tuple[Lease, ...]

    async def archived(self) -> list[str]:
        rows = await self.admin.fetch("SELECT stream_id FROM ingest.segments ORDER BY stream_id")
        return [row["stream_id"] for row in rows]

    async def commit_all(self, *entries: Entry) -> list[BaseException | None]:
        commits = (self.journal.commit(lease, entries) for lease in self.leases)
        return await asyncio.gather(*commits, return_exceptions=True)


@pytest.fixture
async def archive(installation: Installation) -> AsyncIterator[Archive]:
    database = Database(installation.database_url("ingest"), schema="ingest")
    admin = await asyncpg.connect(installation.admin_url)
    leases = tuple(_lease(n) for n in range(STREAMS))
    for lease in leases:
        await _hold(admin, lease)
    yield Archive(admin, PostgresJournal(database, Outbox("ingest")), leases)
    await admin.close()
    await database.close()


def _lease(number: int) -> Lease:
    return Lease(
        stream_id=StreamId(f"str_{number:012d}"),
        organization_id=OrganizationId(f"org_{number % 2:012d}"),
        run=0,
        fence=100 + number,
    )


async def _hold(admin: Any, lease: Lease) -> None:
    await admin.execute(
        "INSERT INTO ingest.followed (stream_id, organization_id, run, lane, profile_key, source, state) "
        "VALUES ($1, $2, 0, 'live', 'p', '{}', 'following')",
        *(lease.stream_id, lease.organization_id),
    )
    await admin.execute(
        "INSERT INTO ingest.leases (stream_id, organization_id, run, fence) VALUES ($1, $2, 0, $3)",
        *(lease.stream_id, lease.organization_id, lease.fence),
    )


def entry(**changes: Any) -> Entry:
    row = SegmentRow(position=0, ref=segment_ref(0, start_us=0, **changes))
    return Entry(progress=Progress(archived_us=2_000_000), segment=row)


async def test_streams_of_several_organizations_are_written_in_one_transaction(archive: Archive) -> None:
    assert [None] * STREAMS == await archive.commit_all(entry())

    rows = await archive.admin.fetch(
        "SELECT organization_id, stream_id, xmin::text AS written_by FROM ingest.segments"
    )
    assert {(lease.organization_id, lease.stream_id) for lease in archive.leases} == {
        (row["organization_id"], row["stream_id"]) for row in rows
    }
    assert 1 == len({row["written_by"] for row in rows})


async def test_a_lost_lease_costs_its_own_stream_alone(archive: Archive) -> None:
    lost, *held = archive.leases
    await archive.admin.execute("UPDATE ingest.leases SET fence = 999 WHERE stream_id = $1", lost.stream_id)

    told = await archive.commit_all(replace(entry(), gap=_gap()))

    assert isinstance(told[0], LeaseLost)
    assert [None] * len(held) == told[1:]
    assert [lease.stream_id for lease in held] == await archive.archived()
    assert lost.stream_id not in [row["stream_id"] for row in await archive.admin.fetch("TABLE ingest.gaps")]


async def test_a_lease_that_is_held_up_delays_its_own_stream_alone(archive: Archive) -> None:
    slow, *free = archive.leases
    async with asyncio.timeout(PATIENCE_S):
        async with archive.admin.transaction():
            await archive.admin.execute(
                "SELECT FROM ingest.leases WHERE stream_id = $1 FOR UPDATE", slow.stream_id
            )
            waiting = asyncio.ensure_future(archive.journal.commit(slow, [entry()]))
            await asyncio.gather(*(archive.journal.commit(lease, [entry()]) for lease in free))
            assert not waiting.done()
        await waiting
    assert [lease.stream_id for lease in archive.leases] == await archive.archived()


async def test_what_the_database_refuses_of_one_stream_is_written_for_the_others(archive: Archive) -> None:
    bad, *good = archive.leases
    refused = replace(entry(), gap=_gap(from_sequence=2**70))

    told = await asyncio.gather(
        archive.journal.commit(bad, [refused]),
        *(archive.journal.commit(lease, [entry()]) for lease in good),
        return_exceptions=True,
    )

    assert told[0] is not None
    assert [None] * len(good) == told[1:]
    assert [lease.stream_id for lease in good] == await archive.archived()


async def test_an_events_row_is_written_with_its_stream_and_once(archive: Archive) -> None:
    lease = archive.leases[0]
    told = _missed(entry(), lease)
    await archive.journal.commit(lease, [told])
    await archive.journal.commit(lease, [told])

    rows = await archive.admin.fetch("SELECT stream_id, event_name FROM ingest.outbox")
    assert [(lease.stream_id, SegmentMissed.name)] == [(row["stream_id"], row["event_name"]) for row in rows]


def _gap(**changes: Any) -> GapRow:
    fields = {"index": 0, "epoch": 0, "from_sequence": 1, "to_sequence": 1, "start_us": 0, "duration_us": 1}
    return GapRow(**{**fields, "cause": "not_found", **changes})


def _missed(written: Entry, lease: Lease) -> Entry:
    event = SegmentMissed(
        event_id=event_id(lease.stream_id, SegmentMissed.name, Position(0, 0)),
        organization_id=lease.organization_id,
        stream_id=lease.stream_id,
        occurred_at=NOW,
        run=0,
        index=0,
        from_us=0,
        to_us=1,
        epoch=0,
        from_sequence=1,
        to_sequence=1,
        cause="not_found",
    )
    return replace(written, gap=_gap(), events=(event,))

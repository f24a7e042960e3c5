"""What is no programme and what is told beside it, in a real PostgreSQL: once, also when a run is taken over."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ingest.adapters.journal import PostgresJournal
from ingest.adapters.register import PostgresRegister
from shared.database import Database
from shared.events import SegmentAnnotated, SignalReceived, Source, StreamEnded, StreamOnline
from shared.ids import event_id
from shared.outbox import Outbox
from tests.builders import ORGANIZATION, STREAM
from tests.conftest import Installation
from tests.fakes.ingest.stage import LEASE, Stage, window

TAGS = {
    2: '#EXT-X-DATERANGE:ID="note",START-DATE="2026-01-01T00:00:00Z",X-100MSLIVE-PAYLOAD="hello"',
    5: "#EXT-X-CUE-OUT:30",
    10: "#EXT-X-CUE-IN",
}


def tagged(text: str) -> str:
    for number, tag in TAGS.items():
        text = re.sub(rf"(#EXTINF:.*\n{number:03}\.ts)", rf"{tag}\n\1", text)
    return text


@pytest.fixture
async def database(installation: Installation) -> AsyncIterator[Database]:
    opened = Database(installation.database_url("ingest"), schema="ingest")
    yield opened
    await opened.close()


async def rows(installation: Installation, query: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(installation.admin_url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def hold(installation: Installation, database: Database) -> None:
    """The stream is known, and its lease is that of the stage's followers."""
    event = StreamOnline(
        event_id=event_id(STREAM, StreamOnline.name, 0),
        organization_id=ORGANIZATION,
        stream_id=STREAM,
        occurred_at=datetime.now(UTC),
        source=Source(sealed_url="x", display_url="x"),
        profile_key="profiles/0.json",
    )
    async with database.transaction(ORGANIZATION) as session:
        await PostgresRegister().add(session, event)
    await rows(installation, f"UPDATE ingest.leases SET owner = 'a', fence = {LEASE.fence} RETURNING 1")


async def told(installation: Installation, name: str) -> list[str]:
    query = f"SELECT body FROM ingest.outbox WHERE event_name = '{name}' ORDER BY seq"
    return [body for (body,) in await rows(installation, query)]


async def test_a_run_that_is_taken_over_in_a_break_leaves_one_annotation_and_one_signal(
    installation: Installation, database: Database, tmp_path: Path
) -> None:
    await hold(installation, database)
    journal: Any = PostgresJournal(database, Outbox("ingest"))
    stage = Stage(tmp_path, journal=journal, rewrite=tagged, live=window(15, speed=8.0))
    first = await stage.follower()
    running = asyncio.create_task(first.run())
    async with asyncio.timeout(20):
        while await rows(installation, "SELECT 1 FROM ingest.segments WHERE sequence = 6") == []:
            await asyncio.sleep(0.01)
    first.stop()
    await running
    async with asyncio.timeout(20):
        await (await stage.follower()).run()

    assert [("ad", 10_000_000, 20_000_000, 0)] == await rows(
        installation, "SELECT kind, from_us, to_us, index FROM ingest.annotations"
    )
    (annotated,) = await told(installation, SegmentAnnotated.name)
    (signal,) = await told(installation, SignalReceived.name)
    (ended,) = await told(installation, StreamEnded.name)
    assert 20_000_000 == SegmentAnnotated.model_validate_json(annotated).to_us
    assert "hello" == SignalReceived.model_validate_json(signal).text
    assert 10_000_000 == StreamEnded.model_validate_json(ended).excluded_us

"""Two replicas with default leases follow a stream at real time, and one of them ends or stands still.

The window is that of 100ms: five segments of two seconds. Times are those of the database's clock.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import asyncpg
import pytest
import structlog

from localcluster.cluster import ServiceProcess
from sandbox.film import make_film
from sandbox.origin import HlsOrigin
from tests.conftest import Installation
from tests.faults.ingest_world import IngestWorld, ingest_world, stream_id

log = structlog.get_logger()

pytestmark = [pytest.mark.faults, pytest.mark.needs_ffmpeg]

TAKEOVER_S = 8.0
SEGMENT_S = 2.0
STREAM = stream_id(0)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=180)


@dataclass
class Scene:
    """One live stream, and the replicas that share it."""

    world: IngestWorld
    origin: HlsOrigin
    admin: asyncpg.Connection

    async def owner(self) -> ServiceProcess:
        """The replica that holds the stream and is not silent."""
        query = (
            "SELECT split_part(owner, ':', 2)::int FROM ingest.leases JOIN ingest.replicas USING (owner) "
            "WHERE alive_until > now()"
        )
        async with asyncio.timeout(20):
            while (pid := await self.admin.fetchval(query)) is None:
                await asyncio.sleep(0.1)
        (found,) = [each for each in self.world.replicas if each.is_running and each.pid == pid]
        return found

    async def add_replica(self) -> None:
        await asyncio.to_thread(self.world.add_replica().wait_ready, 60.0)

    async def archived(self) -> int:
        count: int = await self.admin.fetchval("SELECT count(*) FROM ingest.segments")
        return count

    async def until_archived(self, count: int) -> None:
        async with asyncio.timeout(30 + count * SEGMENT_S):
            while await self.archived() < count:
                await asyncio.sleep(0.1)

    async def now(self) -> datetime:
        at: datetime = await self.admin.fetchval("SELECT clock_timestamp()")
        return at

    async def pause_s(self, since: datetime) -> float:
        """From the last segment that was archived before `since` to the first one after it."""
        return float(
            await self.admin.fetchval(
                "SELECT extract(epoch FROM min(archived_at) FILTER (WHERE archived_at > $1) "
                "- max(archived_at) FILTER (WHERE archived_at <= $1)) FROM ingest.segments",
                since,
            )
        )

    async def broken_by(self, end: Callable[[ServiceProcess], None]) -> float:
        """The pause in the archive after this was done to the stream's owner."""
        owner, count = await self.owner(), await self.archived()
        since = await self.now()
        await asyncio.to_thread(end, owner)
        await self.until_archived(count + 2)
        return await self.pause_s(since)

    async def finish(self) -> None:
        self.origin.end_live()
        await self.world.until("SELECT state FROM ingest.followed", "ended", timeout_s=40)

    async def assert_whole(self) -> None:
        """Every segment once and in order, every event once, and no object that no row names."""
        rows = await self.admin.fetch("SELECT * FROM ingest.segments ORDER BY position")
        assert list(range(len(self.origin.window.segments))) == [row["sequence"] for row in rows]
        assert all(b["start_us"] == a["start_us"] + a["duration_us"] for a, b in pairwise(rows))
        assert [] == await self.admin.fetch("SELECT * FROM ingest.gaps")
        events = await self.admin.fetch(
            "SELECT event_name, event_id FROM ingest.outbox WHERE stream_id = $1", STREAM
        )
        assert len(events) == len({row["event_id"] for row in events})
        assert 1 == sum(row["event_name"] == "stream.ended" for row in events)
        objects = {str(path.relative_to(self.world.objects)) for path in self.world.objects.rglob("*.ts")}
        assert {row["key"] for row in rows} == objects


@asynccontextmanager
async def scene(installation: Installation, film: Path) -> AsyncIterator[Scene]:
    async with HlsOrigin(film, initial_segments=1) as origin:
        allowed = [origin.base_url.removeprefix("http://")]
        async with ingest_world(installation, allowed=allowed, settings={}, replicas=2) as world:
            admin = await asyncpg.connect(installation.admin_url)
            await world.follow([origin.url])
            origin.go_live()
            made = Scene(world, origin, admin)
            await made.until_archived(4)
            yield made
            await admin.close()


async def test_kill_9_costs_no_segment_and_no_more_than_eight_seconds(
    installation: Installation, film: Path
) -> None:
    async with scene(installation, film) as made:
        pauses = []
        for _ in range(4):
            pauses.append(await made.broken_by(ServiceProcess.kill))
            await made.add_replica()
        log.info("pauses after kill -9", seconds=pauses)
        await made.finish()
        await made.assert_whole()
        assert max(pauses) <= TAKEOVER_S


async def test_sigterm_hands_over_at_once(installation: Installation, film: Path) -> None:
    async with scene(installation, film) as made:
        pauses = []
        for _ in range(3):
            pauses.append(await made.broken_by(ServiceProcess.sigterm))
            await made.add_replica()
        log.info("pauses after SIGTERM", seconds=pauses)
        await made.finish()
        await made.assert_whole()
        assert max(pauses) <= SEGMENT_S + 2.0


async def test_a_replica_that_was_frozen_for_a_minute_writes_nothing_stale(
    installation: Installation, film: Path
) -> None:
    async with scene(installation, film) as made:
        frozen = await made.owner()
        pause_s = await made.broken_by(ServiceProcess.sigstop)
        log.info("pause after SIGSTOP", seconds=pause_s)
        count = await made.archived()
        await asyncio.sleep(60)  # what is tested is a freeze of this length
        during = await made.archived()
        await asyncio.to_thread(frozen.sigcont)
        await made.until_archived(during + 3)
        async with asyncio.timeout(20):
            while "lease_lost" not in await asyncio.to_thread(frozen.log_path.read_text):
                await asyncio.sleep(0.1)
        assert frozen.is_running
        await made.finish()
        await made.assert_whole()
        assert during >= count + 25
        assert pause_s <= TAKEOVER_S

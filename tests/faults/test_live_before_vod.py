"""Live streams start while hundreds of recordings of another organization are fetched as fast as they come."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg
import pytest
import structlog

from sandbox.film import make_film
from sandbox.origin import HlsOrigin, VodOrigin
from sandbox.segmenter import SegmentedMedia, segment_media
from shared.contract import routing_key
from shared.events import Lane, Source, StreamOnline
from shared.ids import OrganizationId, StreamId, event_id
from shared.keyring import Keyring
from tests.conftest import Installation
from tests.faults.ingest_world import IngestWorld, ingest_world

log = structlog.get_logger()

pytestmark = [pytest.mark.faults, pytest.mark.needs_ffmpeg]

RICH, LIVE, POOR = OrganizationId("org_rich"), OrganizationId("org_live"), OrganizationId("org_poor")
RECORDINGS = 400
REPEATS = 10
STARTS = 24
FIRST_SEGMENT_S = 5.0
# Analysis never holds them back here, so they take whatever the process gives them.
UNBOUNDED = {"WINDOWS_AHEAD": "100000", "LOG_FORMAT": "text"}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=240)


@dataclass
class Scene:
    """One ingest process between a live origin and one of recordings."""

    world: IngestWorld
    admin: "asyncpg.Connection[Any]"
    exchange: aio_pika.abc.AbstractExchange
    live_url: str
    vod_url: str

    async def submit(self, names: Sequence[str], *, organization: OrganizationId, lane: Lane) -> None:
        url = self.live_url if lane is Lane.LIVE else self.vod_url
        for name in names:
            event = self._online(StreamId(name), url, organization=organization, lane=lane)
            body = event.model_dump_json().encode()
            await self.exchange.publish(aio_pika.Message(body), routing_key(event.name, event.lane))

    async def first_segment_s(self, name: str, *, organization: OrganizationId, lane: Lane) -> float:
        """From the submission until the first segment is archived, by the database's clock."""
        since = await self.admin.fetchval("SELECT clock_timestamp()")
        await self.submit([name], organization=organization, lane=lane)
        query = "SELECT extract(epoch FROM min(archived_at) - $2)::float FROM ingest.segments WHERE stream_id = $1"
        async with asyncio.timeout(60):
            while (taken_s := await self.admin.fetchval(query, name, since)) is None:
                await asyncio.sleep(0.1)
        return float(taken_s)

    async def recordings_archived(self) -> int:
        query = "SELECT count(*) FROM ingest.segments WHERE organization_id = $1"
        count: int = await self.admin.fetchval(query, RICH)
        return count

    async def recordings_waiting(self) -> int:
        query = "SELECT count(*) FROM ingest.leases WHERE organization_id = $1 AND owner IS NULL"
        count: int = await self.admin.fetchval(query, RICH)
        return count

    async def saturate(self) -> None:
        names = [f"str_recording_{n:04d}" for n in range(RECORDINGS)]
        await self.submit(names, organization=RICH, lane=Lane.VOD)
        async with asyncio.timeout(60):
            while await self.recordings_waiting() < RECORDINGS // 2 or await self.recordings_archived() < 50:
                await asyncio.sleep(0.1)

    def _online(
        self, stream: StreamId, url: str, *, organization: OrganizationId, lane: Lane
    ) -> StreamOnline:
        sealed = Keyring([self.world.key]).encrypt(url, context=f"stream:{stream}")
        return StreamOnline(
            event_id=event_id(stream, StreamOnline.name, 0),
            organization_id=organization,
            stream_id=stream,
            occurred_at=datetime.now(UTC),
            lane=lane,
            source=Source(sealed_url=sealed, display_url="x"),
            profile_key="profiles/0.json",
        )


def write_recording(folder: Path, media: SegmentedMedia) -> None:
    """The film again and again: none is fetched to its end while a test lasts."""
    head = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:4", "#EXT-X-PLAYLIST-TYPE:VOD"]
    lines = []
    for part in range(REPEATS):
        for each in media.segments:
            (folder / f"{part}-{each.uri}").hardlink_to(folder / each.uri)
            lines.append(f"#EXTINF:{each.duration_us / 1e6:.3f},\n{part}-{each.uri}")
        lines.append("#EXT-X-DISCONTINUITY")
    (folder / "vod.m3u8").write_text("\n".join([*head, *lines[:-1], "#EXT-X-ENDLIST", ""]))


@asynccontextmanager
async def scene(installation: Installation, film: Path) -> AsyncIterator[Scene]:
    folder = installation.folder / "recording"
    folder.mkdir()
    await asyncio.to_thread(write_recording, folder, await segment_media(film, folder=folder, segment_s=2.0))
    async with (
        HlsOrigin(film, initial_segments=5) as live,
        VodOrigin(folder, playlist="vod.m3u8") as vod,
        await aio_pika.connect(installation.rabbitmq_url) as connection,
    ):
        allowed = [origin.base_url.removeprefix("http://") for origin in (live, vod)]
        async with ingest_world(installation, allowed=allowed, settings=UNBOUNDED) as world:
            admin = await asyncpg.connect(installation.admin_url)
            exchange = await (await connection.channel()).get_exchange("tldr.events", ensure=False)
            live.go_live()
            yield Scene(world, admin, exchange, live.url, vod.url)
            await admin.close()


async def test_a_live_stream_starts_within_five_seconds_while_recordings_take_all_they_can(
    installation: Installation, film: Path
) -> None:
    async with scene(installation, film) as made:
        await made.saturate()
        took_s, before = [], await made.recordings_archived()
        for n in range(STARTS):
            took_s.append(await made.first_segment_s(f"str_live_{n}", organization=LIVE, lane=Lane.LIVE))
            assert await made.recordings_waiting() > 0
        archived = await made.recordings_archived() - before
        took_s.sort()
        log.info(
            "first segments of live streams beside recordings",
            p50_s=took_s[STARTS // 2],
            p99_s=took_s[math.ceil(STARTS * 0.99) - 1],
            recording_segments_meanwhile=archived,
        )
        assert archived > STARTS
        assert took_s[-1] < FIRST_SEGMENT_S


async def test_an_organization_with_hundreds_of_recordings_starves_no_other(
    installation: Installation, film: Path
) -> None:
    async with scene(installation, film) as made:
        await made.saturate()
        took_s = await made.first_segment_s("str_only", organization=POOR, lane=Lane.VOD)
        log.info("first segment of the recording of another organization", seconds=took_s)
        assert await made.recordings_waiting() > 0
        assert took_s < 15.0

"""100ms gives a webhook up while the gateway is dead: its API makes good for it within a minute, both ways."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import asyncpg
import pytest
import structlog

from localcluster.cluster import LocalCluster, LocalServers, ServiceProcess
from localcluster.environment import Installation
from localcluster.installation import set_up
from sandbox.demo.customer import Customer
from sandbox.film import make_film
from sandbox.hundredms import Beam, HundredMs
from sandbox.hundredms_api import HundredmsApi
from sandbox.origin import HlsOrigin

pytestmark = pytest.mark.faults

log = structlog.get_logger()

ACCESS_KEY, APP_SECRET = "access-key-of-a-workspace", "app-secret-of-a-workspace"
SECRET, HEADER = "a-secret-of-sixteen-and-more", "X-100ms-Secret"
START, STOP = "hls.started.success", "hls.stopped.success"
MINUTE_S = 60.0


@dataclass
class World:
    """Gateway and ingest as processes, at the pace that is their default; 100ms beside them."""

    installation: Installation
    gateway: ServiceProcess
    origin: HlsOrigin
    api: HundredmsApi
    sender: HundredMs

    async def lose(self, kind: str, beam: Beam) -> None:
        """100ms sends a webhook to a gateway that is dead, and gives up."""
        await asyncio.to_thread(self.gateway.kill)
        assert not (await self.sender.send(kind, beam=beam)).delivered
        await asyncio.to_thread(self.gateway.start)

    async def until(self, query: str, *, within_s: float) -> None:
        """Wait until the query finds one row."""
        async with asyncio.timeout(within_s):
            while len(await self.rows(query)) != 1:
                await asyncio.sleep(0.2)

    async def rows(self, query: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.installation.database_admin_url)
        try:
            return list(await connection.fetch(query))
        finally:
            await connection.close()


@asynccontextmanager
async def world(tmp_path: Path) -> AsyncIterator[World]:
    film = await asyncio.to_thread(make_film, tmp_path / "film.mp4", duration_s=300, moments=())
    servers = LocalServers(environment={})
    await asyncio.to_thread(servers.__enter__)
    try:
        async with (
            HlsOrigin(film, endlist=False, initial_segments=1) as origin,
            HundredmsApi(access_key=ACCESS_KEY, app_secret=APP_SECRET) as api,
        ):
            installation = Installation(
                rabbitmq_url=servers.rabbitmq_url,
                database_admin_url=servers.database_admin_url,
                folder=servers.folder,
                outbound_allow=tuple(urlsplit(url).netloc for url in (origin.url, api.url)),
            )
            await set_up(installation)
            environments = {name: installation.environment(name) for name in ("gateway", "ingest")}
            environments["gateway"]["HUNDREDMS_API_URL"] = api.url
            cluster = LocalCluster(environments, log_folder=tmp_path / "logs")
            await asyncio.to_thread(cluster.__enter__)
            try:
                url = await _connected(installation)
                async with HundredMs(url, secret=SECRET, secret_header=HEADER, retry_delays_s=()) as sender:
                    yield World(installation, cluster.services["gateway"], origin, api, sender)
            finally:
                await asyncio.to_thread(cluster.stop)
    finally:
        await asyncio.to_thread(servers.__exit__, None, None, None)


async def _connected(installation: Installation) -> str:
    async with Customer(installation.api_url) as customer:
        await customer.register(
            email=f"f-{secrets.token_hex(4)}@example.com",
            password=secrets.token_urlsafe(16),
            company_name="Faults",
        )
        url = await customer.connect_100ms(secret=SECRET, secret_header=HEADER)
        path = f"/v1/connections/100ms/{url.rpartition('/')[2]}/api-credentials"
        await customer.call("PUT", path, {"access_key": ACCESS_KEY, "app_secret": APP_SECRET})
        return url


async def test_a_start_and_a_stop_that_were_lost_cost_less_than_a_minute_each(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        made.origin.go_live()
        beam = Beam(stream_url=made.origin.url, started_at=datetime.now(UTC))
        live, started_at = made.api.go_live(beam), monotonic()
        await made.lose(START, beam)
        await made.until("SELECT 1 FROM ingest.segments LIMIT 1", within_s=MINUTE_S)
        followed_s = monotonic() - started_at
        made.api.end(live)
        ended_at = monotonic()
        await made.lose(STOP, beam)
        await made.until(
            "SELECT 1 FROM gateway.streams WHERE stop_requested_at IS NOT NULL", within_s=MINUTE_S
        )
        stopped_s = monotonic() - ended_at
        log.info("hundredms_loop", followed_s=round(followed_s, 1), stopped_s=round(stopped_s, 1))
        assert max(followed_s, stopped_s) < MINUTE_S
        offline = "SELECT 1 FROM gateway.outbox WHERE event_name = 'stream.offline'"
        assert 1 == len(await made.rows(offline))
        assert 1 == len(await made.rows("SELECT 1 FROM gateway.streams"))


async def test_faults_of_the_api_stop_no_running_stream(tmp_path: Path) -> None:
    """For a minute nothing that the API answers is good; then it lists the stream again."""
    async with world(tmp_path) as made:
        made.origin.go_live()
        beam = Beam(stream_url=made.origin.url, started_at=datetime.now(UTC))
        made.api.go_live(beam)
        assert (await made.sender.send(START, beam=beam)).delivered
        await made.until(
            "SELECT 1 FROM gateway.hundredms_streams WHERE live_id IS NOT NULL", within_s=MINUTE_S
        )
        await made.api.close()
        failed = "SELECT 1 FROM gateway.hundredms_connections WHERE api_failures > 0"
        await made.until(failed, within_s=MINUTE_S)
        await made.api.start()
        await made.until("SELECT 1 FROM gateway.hundredms_connections WHERE api_failures = 0", within_s=120)
        assert [] == await made.rows("SELECT 1 FROM gateway.streams WHERE stop_requested_at IS NOT NULL")
        assert [] == await made.rows("SELECT 1 FROM gateway.hundredms_streams WHERE absences > 0")

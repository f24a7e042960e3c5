"""One live stream while each service, the broker, its data and the database are killed in turn."""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from localcluster.cluster import LocalCluster, LocalServers
from localcluster.environment import Installation
from localcluster.installation import set_up
from sandbox.demo.customer import Customer
from sandbox.film import make_film
from sandbox.hundredms import Beam, HundredMs
from sandbox.origin import HlsOrigin
from sandbox.receiver import WebhookReceiver
from shared.contract import SERVICES

pytestmark = pytest.mark.faults

SECRET = "a-secret-of-sixteen-and-more"
HEADER = "X-100ms-Secret"
MOMENTS = tuple((start, start + 4.0) for start in (12.0, 100.0, 190.0, 280.0))


@dataclass
class World:
    """The product as processes of its own, and the outside world in this one."""

    servers: LocalServers
    installation: Installation
    cluster: LocalCluster
    origin: HlsOrigin
    receiver: WebhookReceiver
    customer: Customer

    async def kill(self, service: str) -> None:
        process = self.cluster.services[service]
        await asyncio.to_thread(process.kill)
        await asyncio.to_thread(process.start)
        await self.ready()

    async def ready(self) -> None:
        for process in self.cluster.services.values():
            await asyncio.to_thread(process.wait_ready, 60.0)

    async def kill_broker(self) -> None:
        assert self.servers.rabbitmq is not None
        await asyncio.to_thread(self.servers.rabbitmq.kill)
        await asyncio.to_thread(self.servers.rabbitmq.start)
        await self.ready()

    async def wipe_broker(self) -> None:
        assert self.servers.rabbitmq is not None
        await asyncio.to_thread(self.servers.rabbitmq.kill)
        self.servers.rabbitmq.wipe()
        await asyncio.to_thread(self.servers.rabbitmq.start)
        await self.ready()

    async def stop_database_hard(self) -> None:
        """Away until six more segments were fetched, longer than the source offers any of them."""
        assert self.servers.postgres is not None
        await asyncio.to_thread(self.servers.postgres.kill)
        fetched = len(self.fetched)
        async with asyncio.timeout(60):
            while len(self.fetched) < fetched + 6:
                await asyncio.sleep(0.2)
        await asyncio.to_thread(self.servers.postgres.start)
        await self.ready()

    @property
    def fetched(self) -> set[str]:
        """Paths of all segments that the origin has handed out."""
        return {one.path for one in self.origin.requests if one.path.endswith(".ts") and one.status == 200}

    async def rows(self, query: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.installation.database_admin_url)
        try:
            return list(await connection.fetch(query))
        finally:
            await connection.close()

    async def analysed_more(self) -> None:
        """Wait until two more windows were judged: the stream went on after the last fault."""
        count = "SELECT count(*) AS n FROM gateway.windows WHERE verdict IS NOT NULL"
        [before] = await self.rows(count)
        async with asyncio.timeout(120):
            while (await self.rows(count))[0]["n"] < before["n"] + 1:
                await asyncio.sleep(0.2)


@asynccontextmanager
async def world(film: Path, tmp_path: Path) -> AsyncIterator[World]:
    servers = LocalServers(environment={})
    await asyncio.to_thread(servers.__enter__)
    try:
        async with HlsOrigin(film, initial_segments=1) as origin, WebhookReceiver() as receiver:
            installation = Installation(
                rabbitmq_url=servers.rabbitmq_url,
                database_admin_url=servers.database_admin_url,
                folder=servers.folder,
                outbound_allow=tuple(urlsplit(url).netloc for url in (origin.url, receiver.url)),
            )
            await set_up(installation)
            cluster = LocalCluster(installation.environments(), log_folder=tmp_path / "logs")
            await asyncio.to_thread(cluster.__enter__)
            try:
                async with Customer(installation.api_url) as customer:
                    await customer.register(
                        email=f"f-{secrets.token_hex(4)}@example.com",
                        password=secrets.token_urlsafe(16),
                        company_name="Faults",
                    )
                    yield World(servers, installation, cluster, origin, receiver, customer)
            finally:
                await asyncio.to_thread(cluster.stop)
    finally:
        await asyncio.to_thread(servers.__exit__, None, None, None)


async def test_a_live_stream_survives_the_death_of_every_part(tmp_path: Path) -> None:
    film = await asyncio.to_thread(make_film, tmp_path / "film.mp4", duration_s=420, moments=MOMENTS)
    async with world(film, tmp_path) as made:
        made.receiver.secrets[:] = [await made.customer.add_webhook(made.receiver.url)]
        url = await made.customer.connect_100ms(secret=SECRET, secret_header=HEADER)
        async with HundredMs(url, secret=SECRET, secret_header=HEADER) as sender:
            made.origin.go_live()
            beam = Beam(stream_url=made.origin.url, started_at=datetime.now(UTC))
            assert (await sender.send("hls.started.success", beam=beam)).delivered
            await made.analysed_more()
            for service in SERVICES:
                await made.kill(service)
                await made.analysed_more()
            await made.kill_broker()
            await made.analysed_more()
            await made.wipe_broker()
            await made.analysed_more()
            await made.stop_database_hard()
            await made.analysed_more()
            made.origin.end_live()
            assert (await sender.send("hls.stopped.success", beam=beam)).delivered
            stream = await _until_terminal(made.customer)
        await made.receiver.wait_for(lambda one: one.type == "stream.completed", timeout_s=120)
        await _check(made, stream)


async def _until_terminal(customer: Customer) -> dict[str, Any]:
    async with asyncio.timeout(180):
        while True:
            [stream] = await customer.streams()
            if stream["status"] in ("completed", "error", "cancelled"):
                return stream
            await asyncio.sleep(0.5)


async def _check(made: World, stream: dict[str, Any]) -> None:
    assert ("completed", None) == (stream["status"], stream["error"]), stream
    assert 100.0 == stream["progress"]["coverage_pct"]
    offered = len(made.origin.window.segments)
    archived = await made.rows("SELECT epoch, sequence FROM ingest.segments ORDER BY 1, 2")
    assert [(0, n) for n in range(len(archived))] == [(row["epoch"], row["sequence"]) for row in archived]
    assert len(archived) == len(made.fetched) <= offered
    assert [] == await made.rows("SELECT * FROM ingest.gaps")

    highlights = await made.customer.highlights(stream["id"])
    assert len(highlights) >= 2
    assert all("ready" == each["clip_status"] for each in highlights)
    clips = [path.parent.parent.name for path in made.installation.objects.rglob("clip.mp4")]
    assert {each["id"] for each in highlights} == set(clips)

    received = made.receiver.received
    assert all(one.verified for one in received)
    subjects = Counter((one.type, _subject(one.payload)) for one in made.receiver.distinct())
    assert [] == [subject for subject, times in subjects.items() if times > 1], "a public event has two ids"
    bodies: dict[str, set[bytes]] = {}
    for one in received:
        bodies.setdefault(one.id, set()).add(one.body)
    assert all(1 == len(each) for each in bodies.values()), "a delivery was repeated with other bytes"
    assert len(highlights) == sum(one.type == "highlight.created" for one in made.receiver.distinct())
    for service in SERVICES:
        parked = await made.rows(f"SELECT event_name, reason FROM {service}.inbox WHERE state = 'parked'")
        assert [] == parked, service


def _subject(payload: dict[str, Any]) -> str:
    data = payload["data"]
    return json.dumps([data["id"], data.get("revision")])

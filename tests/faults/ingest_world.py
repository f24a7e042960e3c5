"""Ingest as processes of its own, fed over the broker, beside fault origins in this process."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import asyncpg

from localcluster.cluster import ServiceProcess
from localcluster.ports import claim_port
from sandbox.faults_archive import read_kept
from sandbox.faults_checker import Kept
from sandbox.faults_origin import FaultOrigin
from shared.contract import routing_key
from shared.events import Lane, Source, StreamOnline
from shared.ids import StreamId, event_id
from shared.keyring import Keyring, generate_key
from tests.builders import ORGANIZATION
from tests.conftest import REPOSITORY, Installation

OVER = "SELECT count(*) FROM ingest.followed WHERE state = 'ended'"


def stream_id(number: int) -> StreamId:
    return StreamId(f"str_{number:012x}")


@dataclass
class IngestWorld:
    """`settings` go to every replica; each has a spool of its own."""

    installation: Installation
    allowed: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    key: str = field(default_factory=generate_key)
    replicas: list[ServiceProcess] = field(default_factory=list)

    @property
    def objects(self) -> Path:
        return self.installation.folder / "objects"

    @property
    def spools(self) -> list[Path]:
        return [self.installation.folder / f"spool-{process.name}" for process in self.replicas]

    def add_replica(self) -> ServiceProcess:
        name = f"ingest-{len(self.replicas)}"
        environment = {
            "PYTHONPATH": f"{REPOSITORY / 'services'}:{REPOSITORY / 'libs'}",
            "DATABASE_URL": self.installation.database_url("ingest"),
            "RABBITMQ_URL": self.installation.rabbitmq_url,
            "OPS_PORT": str(claim_port()),
            "OBJECT_STORE_FOLDER": str(self.objects),
            "URL_SIGNING_SECRET": "s" * 32,
            "SECRETS_KEYRING": self.key,
            "OUTBOUND_ALLOW": ",".join(self.allowed),
            "SPOOL_FOLDER": str(self.installation.folder / f"spool-{name}"),
            **self.settings,
        }
        log_path = self.installation.folder / f"{name}.log"
        process = ServiceProcess(name, environment=environment, log_path=log_path)
        self.replicas.append(process)
        process.start()
        return process

    async def follow(self, urls: Sequence[str]) -> None:
        """Tell ingest of streams, in the order of their addresses."""
        async with await aio_pika.connect(self.installation.rabbitmq_url) as connection:
            exchange = await (await connection.channel()).get_exchange("tldr.events", ensure=False)
            for number, url in enumerate(urls):
                event = self._online(number, url)
                body = event.model_dump_json().encode()
                await exchange.publish(aio_pika.Message(body), routing_key(event.name, event.lane))

    def _online(self, number: int, url: str) -> StreamOnline:
        stream = stream_id(number)
        sealed = Keyring([self.key]).encrypt(url, context=f"stream:{stream}")
        return StreamOnline(
            event_id=event_id(stream, StreamOnline.name, 0),
            organization_id=ORGANIZATION,
            stream_id=stream,
            occurred_at=datetime.now(UTC),
            lane=Lane.LIVE,
            source=Source(sealed_url=sealed, display_url="x"),
            profile_key="profiles/0.json",
        )

    async def value(self, query: str) -> object:
        connection = await asyncpg.connect(self.installation.admin_url)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    async def until(self, query: str, expected: object, *, timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            while await self.value(query) != expected:
                await asyncio.sleep(0.2)

    async def kept(self, names: Sequence[str]) -> Kept:
        """`names` in the order of the addresses that were told."""
        known = {str(stream_id(number)): name for number, name in enumerate(names)}
        return await read_kept(
            self.installation.admin_url, objects=self.objects, spools=self.spools, names=known
        )

    def log_text(self) -> str:
        return "".join(process.log_path.read_text(errors="replace") for process in self.replicas)


def netlocs(origins: Sequence[FaultOrigin]) -> list[str]:
    return [urlsplit(origin.base_url).netloc for origin in origins]


@asynccontextmanager
async def ingest_world(
    installation: Installation,
    *,
    allowed: Sequence[str],
    settings: Mapping[str, str],
    replicas: int = 1,
) -> AsyncIterator[IngestWorld]:
    """Replicas that are ready; whatever still runs at the end is killed."""
    world = IngestWorld(installation, allowed, settings)
    try:
        for _ in range(replicas):
            world.add_replica()
        for process in world.replicas:
            await asyncio.to_thread(process.wait_ready, 60.0)
        yield world
    finally:
        for process in world.replicas:
            await asyncio.to_thread(process.kill)

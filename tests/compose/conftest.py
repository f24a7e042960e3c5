"""A Docker Compose cluster of the tests' own: its own project, free ports, and nothing left of it at the end.

Where images cannot be pulled, `lab images` of COMPOSE_LAB (or of a lab beside the repository) builds stand-ins.
"""

import asyncio
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from localcluster.compose import (
    COMPOSE_FILE,
    HOST_NAME,
    ComposeCluster,
    ComposeMissingError,
    host_address,
    require_compose,
)
from localcluster.environment import RATE_LIMIT
from localcluster.ports import claim_port
from sandbox.demo.customer import Customer
from sandbox.film import make_film
from sandbox.origin import HlsOrigin, OriginRequest
from sandbox.receiver import WebhookReceiver
from tests.conftest import SHARED

LAB = Path(os.environ.get("COMPOSE_LAB") or SHARED / "compose-lab" / "lab")
PORTS = (
    "API_PORT",
    "POSTGRES_PORT",
    "REDIS_PORT",
    "RABBITMQ_PORT",
    "RABBITMQ_MANAGEMENT_PORT",
    "S3_PORT",
)
FPS = 25
TERMINAL = ("completed", "error", "cancelled")
MOMENTS = ((14.0, 18.0), (100.0, 104.0))


@dataclass(frozen=True)
class Outside:
    """Where the tests' origins and receivers listen, so that containers reach them; both ports are allowed."""

    host: str
    origin_port: int = field(default_factory=claim_port)
    receiver_port: int = field(default_factory=claim_port)

    @property
    def allowed(self) -> str:
        return f"{HOST_NAME}:{self.origin_port},{HOST_NAME}:{self.receiver_port}"

    def origin(self, film: Path, **options: Any) -> HlsOrigin:
        return HlsOrigin(film, host=self.host, port=self.origin_port, initial_segments=1, **options)

    def receiver(self) -> WebhookReceiver:
        return WebhookReceiver(host=self.host, port=self.receiver_port)

    def seen(self, url: str) -> str:
        """Our URL as the containers call it."""
        return url.replace(self.host, HOST_NAME, 1)


@dataclass(frozen=True)
class Compose:
    """The cluster, up, and what is around it."""

    cluster: ComposeCluster
    outside: Outside

    @asynccontextmanager
    async def customer(self) -> AsyncIterator[Customer]:
        async with Customer(self.cluster.api_url) as customer:
            await customer.register(
                email=f"c-{secrets.token_hex(4)}@example.com",
                password=secrets.token_urlsafe(16),
                company_name="Compose",
            )
            yield customer

    async def rows(self, query: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.cluster.database_admin_url)
        try:
            return list(await connection.fetch(query))
        finally:
            await connection.close()

    async def healthy(self, *, within_s: float = 180) -> None:
        """Wait until every container is."""
        async with asyncio.timeout(within_s):
            while {"healthy"} != set((await asyncio.to_thread(self.cluster.health)).values()):
                await asyncio.sleep(0.5)


@pytest.fixture(scope="session")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    try:
        require_compose()
    except ComposeMissingError as error:
        pytest.skip(f"needs Docker Compose: {error}")
    if LAB.is_file():
        subprocess.run(
            [LAB, "images", COMPOSE_FILE, COMPOSE_FILE.with_name("compose.observability.yaml")],
            check=True,
            capture_output=True,
        )
    outside = Outside(host_address())
    environment = {name: str(claim_port()) for name in PORTS}
    environment |= {
        "TLDR_VERSION": "test",
        "OUTBOUND_ALLOW": outside.allowed,
        "DEFAULT_RATE_LIMIT": str(RATE_LIMIT),
    }
    cluster = ComposeCluster(project=f"tldr-test-{secrets.token_hex(4)}", environment=environment)
    try:
        cluster.build()
        cluster.up()
        yield Compose(cluster, outside)
    finally:
        cluster.down(volumes=True)


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=112, moments=MOMENTS, fps=FPS)


async def until_terminal(customer: Customer, stream_id: str, *, timeout_s: float = 300) -> dict[str, Any]:
    """The stream once it is in a final state; while the gateway is away, what it says is waited for."""
    async with asyncio.timeout(timeout_s):
        while (stream := await customer.stream(stream_id))["status"] not in TERMINAL:
            await asyncio.sleep(0.5)
        return stream


def fetched(requests: list[OriginRequest]) -> set[str]:
    """Paths of all segments that an origin has handed out."""
    return {one.path for one in requests if one.path.endswith(".ts") and one.status == 200}

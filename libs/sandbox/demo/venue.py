"""Where the demo's product runs: private servers and processes on this machine, or the Docker Compose cluster."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from rich.console import Console

from localcluster.cluster import LocalCluster, LocalServers
from localcluster.compose import HOST_NAME, ComposeCluster
from localcluster.environment import RATE_LIMIT, Installation
from localcluster.installation import set_up
from localcluster.scratch_database import scratch_database


@dataclass(frozen=True)
class Venue:
    """The running product. `host` is the name by which it reaches us; empty where that is our own address.

    Where it ends with the demo, `ends_with_us`, the demo waits, so that people can look at it.
    """

    api_url: str
    rabbitmq_url: str
    farewell: str
    ends_with_us: bool = True
    host: str = ""

    def seen(self, url: str) -> str:
        """Our URL as the product has to call it."""
        return _at_host(url, self.host) if self.host else url


@asynccontextmanager
async def private_venue(
    console: Console,
    servers: LocalServers,
    *,
    reachable: tuple[str, ...],
    model: Mapping[str, str],
    telemetry: Mapping[str, str],
) -> AsyncIterator[Venue]:
    """The six services as processes of ours, on servers of ours.

    `reachable` are the URLs that they may call, `model` the analyzer's own variables, `telemetry` everybody's.
    """
    async with scratch_database(servers.database_admin_url) as database:
        installation = Installation(
            rabbitmq_url=servers.rabbitmq_url,
            database_admin_url=database.admin_url,
            roles=database.roles,
            folder=servers.folder,
            outbound_allow=tuple(urlsplit(url).netloc for url in reachable),
            extra=telemetry,
        )
        await set_up(installation)
        console.print("Starting the six services …")
        environments = installation.environments()
        environments["analyzer"] |= model
        cluster = LocalCluster(environments, log_folder=servers.folder / "logs")
        await asyncio.to_thread(cluster.__enter__)
        try:
            yield Venue(installation.api_url, servers.rabbitmq_url, farewell="Ctrl-C ends everything.")
        finally:
            await asyncio.to_thread(cluster.stop)


@asynccontextmanager
async def compose_venue(
    console: Console, cluster: ComposeCluster, *, reachable: tuple[str, ...]
) -> AsyncIterator[Venue]:
    """The Compose cluster, up and told what it may call; it goes on running afterwards.

    Raises ComposeFailedError.
    """
    allowed = ",".join(urlsplit(_at_host(url, HOST_NAME)).netloc for url in reachable)
    cluster = cluster.told(OUTBOUND_ALLOW=allowed, DEFAULT_RATE_LIMIT=str(RATE_LIMIT))
    console.print("Building the images, where something changed …")
    await asyncio.to_thread(cluster.build)
    console.print("Bringing the Docker Compose cluster up …")
    await asyncio.to_thread(cluster.up)
    yield Venue(
        await asyncio.to_thread(lambda: cluster.api_url),
        await asyncio.to_thread(lambda: cluster.rabbitmq_url),
        farewell="The cluster goes on running; to end it: docker compose -f deploy/compose/compose.yaml down",
        ends_with_us=False,
        host=HOST_NAME,
    )


def _at_host(url: str, host: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{host}:{parts.port}"))

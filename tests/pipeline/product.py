"""The whole product in one process for pipeline tests: six services on a real broker and a real database."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from pydantic_settings import InitSettingsSource

import analyzer.app
import analyzer.settings
import clipper.app
import clipper.settings
import gateway.app
import gateway.settings
import ingest.app
import ingest.settings
import notifier.app
import notifier.settings
import selector.app
import selector.settings
from localcluster.environment import Installation as Environment
from sandbox.demo.customer import Customer
from shared.runtime import Application, Running, running
from shared.settings import ServiceSettings
from tests.conftest import PASSWORD, Installation

Build = Callable[[Any], AbstractAsyncContextManager[Application]]
SERVICES: dict[str, tuple[type[ServiceSettings], Build]] = {
    "gateway": (gateway.settings.GatewaySettings, gateway.app.build),
    "ingest": (ingest.settings.IngestSettings, ingest.app.build),
    "analyzer": (analyzer.settings.AnalyzerSettings, analyzer.app.build),
    "selector": (selector.settings.SelectorSettings, selector.app.build),
    "clipper": (clipper.settings.ClipperSettings, clipper.app.build),
    "notifier": (notifier.settings.NotifierSettings, notifier.app.build),
}
TERMINAL = ("completed", "error", "cancelled")


@dataclass(frozen=True)
class Product:
    installation: Installation
    environment: Environment
    services: dict[str, Running]
    api_url: str

    async def rows(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.installation.admin_url)
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()


@asynccontextmanager
async def product(
    installation: Installation, *, reachable: Sequence[str] = (), **settings: str
) -> AsyncIterator[Product]:
    """All services, ready. `reachable` are addresses of the outside world that tests run themselves."""
    environment = Environment(
        rabbitmq_url=installation.rabbitmq_url,
        database_admin_url=installation.admin_url,
        folder=installation.folder,
        roles=installation.roles,
        role_password=PASSWORD,
        outbound_allow=tuple(urlsplit(url).netloc for url in reachable),
    )
    async with AsyncExitStack() as stack:
        services = {}
        for name in SERVICES:
            services[name] = await stack.enter_async_context(_service(environment, name, settings))
        async with asyncio.timeout(30):
            for service in services.values():
                while await service.readiness.faults():
                    await asyncio.sleep(0.02)
        yield Product(installation, environment, services, environment.api_url)


@asynccontextmanager
async def _service(environment: Environment, name: str, changes: dict[str, str]) -> AsyncIterator[Running]:
    model, build = SERVICES[name]
    given = environment.environment(name) | {"OPS_PORT": "0", "DATABASE_POOL_SIZE": "4"}
    values = {key.lower(): value for key, value in given.items()} | changes
    known = {key: value for key, value in values.items() if key in model.model_fields}
    async with build(told(model, known)) as application, running(application) as started:
        yield started


def told(model: type[ServiceSettings], values: dict[str, Any]) -> ServiceSettings:
    """The settings from these values alone; `model_validate` would take what is missing from our own environment."""
    return model(_build_sources=((InitSettingsSource(model, init_kwargs=values),), {}))  # type: ignore[call-arg]


@asynccontextmanager
async def customer_of(made: Product) -> AsyncIterator[Customer]:
    async with Customer(made.api_url) as customer:
        await customer.register(
            email=f"c-{secrets.token_hex(4)}@example.com",
            password=secrets.token_urlsafe(16),
            company_name="Test",
        )
        yield customer


async def until_terminal(customer: Customer, stream_id: str, *, timeout_s: float = 90) -> dict[str, Any]:
    """The stream once it is in a final state."""

    async def ended() -> dict[str, Any] | None:
        stream = await customer.stream(stream_id)
        return stream if stream["status"] in TERMINAL else None

    return await until(ended, timeout_s=timeout_s)


async def until(look: Callable[[], Awaitable[Any]], *, timeout_s: float = 30) -> Any:
    """What `look` finds, once it finds something."""
    async with asyncio.timeout(timeout_s):
        while not (found := await look()):
            await asyncio.sleep(0.1)
        return found

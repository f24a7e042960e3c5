"""A database with the gateway's schema alone, copied for each test: no queue is needed here."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from shared.bootstrap import Roles, service_url, set_up
from shared.contract import SERVICES
from shared.database import Database
from shared.migrate import upgrade_service
from tests.conftest import PASSWORD, Postgres, database_address
from tests.integration.gateway.api_client import GatewayApp, running_api


@dataclass(frozen=True)
class GatewayTemplate:
    name: str
    roles: Roles


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _make(admin_url: str, name: str, roles: Roles) -> None:
    await _execute(admin_url, f"CREATE DATABASE {name}")
    await set_up(database_address(admin_url, name), roles=roles, password=PASSWORD)
    await upgrade_service(database_address(admin_url, name), service="gateway", roles=roles)


@pytest.fixture(scope="session")
def gateway_template(postgres: Postgres) -> Iterator[GatewayTemplate]:
    """Bootstrapped and migrated once; tests copy it."""
    prefix = f"g{secrets.token_hex(5)}"
    name, roles = f"tpl_{prefix}", Roles(prefix)
    asyncio.run(_make(postgres.admin_url, name, roles))
    yield GatewayTemplate(name, roles)
    drop_roles = [f'DROP ROLE IF EXISTS "{roles.service(service)}"' for service in SERVICES]
    drop_database = f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"
    asyncio.run(
        _execute(postgres.admin_url, drop_database, *drop_roles, f'DROP ROLE IF EXISTS "{roles.owner}"')
    )


@pytest.fixture
async def gateway_database(postgres: Postgres, gateway_template: GatewayTemplate) -> AsyncIterator[Database]:
    """The gateway's database as its own login role sees it: forced row-level security is in effect."""
    name = f"db_{secrets.token_hex(6)}"
    await _execute(postgres.admin_url, f"CREATE DATABASE {name} TEMPLATE {gateway_template.name}")
    address = database_address(postgres.admin_url, name)
    url = service_url(address, gateway_template.roles, "gateway", PASSWORD)
    database = Database(url, schema="gateway", pool_size=4)
    yield database
    await database.close()
    await _execute(postgres.admin_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
async def gateway_app(gateway_database: Database, tmp_path: Path) -> AsyncIterator[GatewayApp]:
    """The API on an empty database, without a broker: what it emits stays in the outbox."""
    async with running_api(gateway_database.url, tmp_path) as app:
        yield app

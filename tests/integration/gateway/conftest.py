"""A database with the gateway's schema alone, copied or emptied for each test: no queue is needed here."""

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from localcluster import binaries
from localcluster.children import scratch_folder
from localcluster.redis import RedisServer
from localcluster.scratch_database import database_url, execute, scratch_database
from shared.bootstrap import Roles, service_url, set_up
from shared.database import Database
from shared.migrate import upgrade_service
from tests.conftest import PASSWORD, Postgres
from tests.integration.gateway.api_client import GatewayApp, running_api


@dataclass(frozen=True)
class GatewayTemplate:
    name: str
    roles: Roles


@pytest.fixture(scope="session")
async def gateway_template(postgres: Postgres) -> AsyncIterator[GatewayTemplate]:
    """Bootstrapped and migrated once; tests copy it."""
    async with scratch_database(postgres.admin_url) as made:
        await set_up(made.admin_url, roles=made.roles, password=PASSWORD)
        await upgrade_service(made.admin_url, service="gateway", roles=made.roles)
        yield GatewayTemplate(made.name, made.roles)


@pytest.fixture
async def gateway_database(postgres: Postgres, gateway_template: GatewayTemplate) -> AsyncIterator[Database]:
    """The gateway's database as its own login role sees it: forced row-level security is in effect."""
    async with _copy_of(gateway_template, postgres) as database:
        yield database


@pytest.fixture(scope="module")
async def _kept_database(postgres: Postgres, gateway_template: GatewayTemplate) -> AsyncIterator[Database]:
    async with _copy_of(gateway_template, postgres) as database:
        yield database


@pytest.fixture
async def emptied_database(postgres: Postgres, _kept_database: Database) -> Database:
    """As `gateway_database`, in a fraction of the time: one for a module's tests, emptied before each."""
    name = urlsplit(_kept_database.url).path.removeprefix("/")
    await execute(database_url(postgres.admin_url, name), _EMPTY)
    return _kept_database


_EMPTY = """
DO $$
DECLARE place record;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR place IN
        SELECT tablename FROM pg_tables
        WHERE schemaname = 'gateway' AND tablename NOT IN ('alembic_version', 'broker_epoch')
    LOOP
        EXECUTE format('DELETE FROM gateway.%I', place.tablename);
    END LOOP;
END $$
"""


@asynccontextmanager
async def _copy_of(gateway_template: GatewayTemplate, postgres: Postgres) -> AsyncIterator[Database]:
    name = f"db_{secrets.token_hex(6)}"
    await execute(postgres.admin_url, f"CREATE DATABASE {name} TEMPLATE {gateway_template.name}")
    address = database_url(postgres.admin_url, name)
    url = service_url(address, gateway_template.roles, "gateway", PASSWORD)
    database = Database(url, schema="gateway", pool_size=4)
    yield database
    await database.close()
    await execute(postgres.admin_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
async def gateway_app(gateway_database: Database, tmp_path: Path) -> AsyncIterator[GatewayApp]:
    """The API on an empty database, without a broker: what it emits stays in the outbox."""
    async with running_api(gateway_database.url, tmp_path) as app:
        yield app


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Started at its first use; a test that kills it starts it again."""
    if binaries.find("redis-server") is None:
        pytest.skip("redis-server is not installed: run `make install`")
    with scratch_folder() as folder:
        server = RedisServer(folder / "redis")
        server.start()
        try:
            yield server
        finally:
            server.stop()

"""Runs the services' Alembic histories: one schema and one version table each, as the owner role.

`python -m shared.migrate` needs DATABASE_ADMIN_URL; `services/<name>/migrations/env.py` calls `run_migrations`.
"""

import asyncio
from importlib.util import find_spec
from pathlib import Path

from alembic import command, context
from alembic.config import Config
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from shared.bootstrap import DEFAULT_PREFIX, Roles
from shared.contract import SERVICES
from shared.database import asyncpg_url
from shared.settings import load


class MigrateSettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    database_admin_url: SecretStr = Field(
        description="Address of the database with a member of the owner role."
    )
    database_role_prefix: str = Field(default=DEFAULT_PREFIX, description="First part of the roles' names.")


def history_folder(service: str) -> Path:
    """Where the service's migrations stand, wherever its package is installed."""
    package = find_spec(service)
    if package is None or not package.submodule_search_locations:
        raise LookupError(f"the package of the service {service} cannot be found")
    return Path(next(iter(package.submodule_search_locations))) / "migrations"


async def upgrade_all(admin_url: str, *, roles: Roles) -> None:
    """Bring every service's schema to its newest revision; running it again changes nothing."""
    for service in SERVICES:
        await upgrade_service(admin_url, service=service, roles=roles)


async def upgrade_service(admin_url: str, *, service: str, roles: Roles) -> None:
    """Bring one service's schema to its newest revision; `shared.bootstrap` has made it before."""
    engine = create_async_engine(asyncpg_url(admin_url), poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade, service, roles)
            await connection.commit()
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, service: str, roles: Roles) -> None:
    connection.execute(text(f'SET ROLE "{roles.owner}"'))
    connection.execute(text(f'SET search_path = "{service}"'))
    connection.commit()
    config = Config()
    config.set_main_option("script_location", str(history_folder(service)))
    config.attributes |= {"connection": connection, "schema": service}
    command.upgrade(config, "head")


def run_migrations(metadata: MetaData | None = None) -> None:
    """The body of each service's `env.py`."""
    attributes = context.config.attributes
    context.configure(
        connection=attributes["connection"],
        target_metadata=metadata,
        version_table_schema=attributes["schema"],
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def main() -> None:
    settings = load(MigrateSettings)
    roles = Roles(settings.database_role_prefix)
    asyncio.run(upgrade_all(settings.database_admin_url.get_secret_value(), roles=roles))


if __name__ == "__main__":
    main()

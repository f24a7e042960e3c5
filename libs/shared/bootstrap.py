"""The database's first step: owner role, one login role and one schema for each service. Safe to run again.

`python -m shared.bootstrap` needs DATABASE_ADMIN_URL (a role with CREATEROLE that may create schemas in the
database, no superuser) and DATABASE_ROLE_PASSWORD.
"""

import asyncio
from dataclasses import dataclass
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.contract import SERVICES
from shared.settings import load

DEFAULT_PREFIX = "tldr"


class BootstrapSettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    database_admin_url: SecretStr = Field(
        description="Address of the database with a role that may make roles."
    )
    database_role_password: SecretStr = Field(
        min_length=8, description="Password of the services' login roles."
    )
    database_role_prefix: str = Field(
        default=DEFAULT_PREFIX,
        pattern="^[a-z][a-z0-9_]{0,30}$",
        description="First part of the roles' names.",
    )


@dataclass(frozen=True)
class Roles:
    """Names of the roles of one installation; several installations share a server by their prefix."""

    prefix: str = DEFAULT_PREFIX

    @property
    def owner(self) -> str:
        return f"{self.prefix}_owner"

    def service(self, service: str) -> str:
        return f"{self.prefix}_{service}"


def service_url(admin_url: str, roles: Roles, service: str, password: str) -> str:
    """The address by which a service logs in to the database of `admin_url`."""
    parts = urlsplit(admin_url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{roles.service(service)}:{quote(password, safe='')}@{host}"))


async def set_up(admin_url: str, *, roles: Roles, password: str) -> None:
    connection = await asyncpg.connect(admin_url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('tldr bootstrap'))")
            await _ensure_owner(connection, roles)
            for service in SERVICES:
                await _ensure_service(connection, roles, service, password)
    finally:
        await connection.close()


async def _ensure_role(connection: asyncpg.Connection, name: str, options: str) -> None:
    exists = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name)
    verb = "ALTER" if exists else "CREATE"
    await connection.execute(f'{verb} ROLE "{name}" {options}')


async def _ensure_owner(connection: asyncpg.Connection, roles: Roles) -> None:
    database = await connection.fetchval("SELECT current_database()")
    await _ensure_role(connection, roles.owner, "NOLOGIN")
    await connection.execute(f'GRANT "{roles.owner}" TO CURRENT_USER')
    await connection.execute(f'GRANT CONNECT, CREATE ON DATABASE "{database}" TO "{roles.owner}"')


async def _ensure_service(connection: asyncpg.Connection, roles: Roles, service: str, password: str) -> None:
    role, owner = roles.service(service), roles.owner
    secret = await connection.fetchval("SELECT quote_literal($1::text)", password)
    database = await connection.fetchval("SELECT current_database()")
    await _ensure_role(connection, role, f"LOGIN PASSWORD {secret}")
    for statement in (
        f'GRANT CONNECT ON DATABASE "{database}" TO "{role}"',
        f'CREATE SCHEMA IF NOT EXISTS "{service}" AUTHORIZATION "{owner}"',
        f'REVOKE ALL ON SCHEMA "{service}" FROM PUBLIC',
        f'GRANT USAGE ON SCHEMA "{service}" TO "{role}"',
        *_default_privileges(owner=owner, schema=service, role=role),
    ):
        await connection.execute(statement)


def _default_privileges(*, owner: str, schema: str, role: str) -> tuple[str, ...]:
    begin = f'ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}" IN SCHEMA "{schema}" GRANT'
    return (
        f'{begin} SELECT, INSERT, UPDATE, DELETE ON TABLES TO "{role}"',
        f'{begin} USAGE, SELECT ON SEQUENCES TO "{role}"',
        f'{begin} EXECUTE ON FUNCTIONS TO "{role}"',
    )


def main() -> None:
    settings = load(BootstrapSettings)
    asyncio.run(
        set_up(
            settings.database_admin_url.get_secret_value(),
            roles=Roles(settings.database_role_prefix),
            password=settings.database_role_password.get_secret_value(),
        )
    )


if __name__ == "__main__":
    main()

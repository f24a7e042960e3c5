"""A database with roles of its own on a running server, and all of it gone afterwards: servers may be shared."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from shared.bootstrap import Roles
from shared.contract import SERVICES


@dataclass(frozen=True)
class ScratchDatabase:
    """`admin_url` names the new database, with the administrator of the server."""

    admin_url: str
    name: str
    roles: Roles


def database_url(url: str, name: str) -> str:
    """The address of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def execute(url: str, *statements: str) -> None:
    """Run statements outside any transaction, as CREATE DATABASE demands."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def scratch_database(server_url: str) -> AsyncIterator[ScratchDatabase]:
    """An empty database and a prefix for roles that nobody else uses; both are dropped at the end."""
    prefix = f"tldr_{secrets.token_hex(5)}"
    made = ScratchDatabase(database_url(server_url, prefix), prefix, Roles(prefix))
    await execute(server_url, f'CREATE DATABASE "{prefix}"')
    try:
        yield made
    finally:
        await drop(server_url, made)


async def drop(server_url: str, made: ScratchDatabase) -> None:
    """Remove the database with everybody's connections to it, then its roles."""
    roles = (*map(made.roles.service, SERVICES), made.roles.owner)
    await execute(
        server_url,
        f'DROP DATABASE IF EXISTS "{made.name}" WITH (FORCE)',
        *(f'DROP ROLE IF EXISTS "{role}"' for role in roles),
    )

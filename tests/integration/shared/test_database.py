"""Connections of the pool against a real PostgreSQL that closes them."""

import asyncio
from typing import Any

import asyncpg
from sqlalchemy import text

from shared.database import Database
from tests.conftest import Installation

PATIENCE_S = 10.0


async def test_connections_that_the_server_closed_are_replaced_unseen(installation: Installation) -> None:
    database = Database(installation.database_url("ingest"), schema="ingest", pool_size=2)
    try:
        before = await asyncio.gather(_connection(database), _connection(database))
        await _terminate_all(installation)
        async with asyncio.timeout(PATIENCE_S):
            while not all(connection.is_closed() for connection in before):
                await asyncio.sleep(0.01)

        after = await asyncio.gather(_connection(database), _connection(database))

        assert 2 == len({*map(id, before)})
        assert not {*map(id, before)} & {*map(id, after)}
    finally:
        await database.close()


async def _connection(database: Database) -> Any:
    """Held for a moment, so that another caller gets another one."""
    async with database.transaction() as session:
        connection = await session.connection()
        await connection.execute(text("SELECT 1"))
        await asyncio.sleep(0.05)
        return (await connection.get_raw_connection()).driver_connection


async def _terminate_all(installation: Installation) -> None:
    connection = await asyncpg.connect(installation.admin_url)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'tldr-ingest'"
        )
    finally:
        await connection.close()

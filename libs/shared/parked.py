"""Lists messages that one service gave up, and drives them again: `python -m shared.parked list|redrive SERVICE`.

`DATABASE_URL` is the service's own. The running service's sweeper does the work; nothing is handled here.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared import inbox
from shared.contract import SERVICES, Service
from shared.database import Database, DatabaseUnavailable
from shared.settings import load

LIMIT = 100


class ParkedSettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    database_url: SecretStr = Field(description="PostgreSQL address with the service's own login role.")


@dataclass(frozen=True)
class ParkedMessage:
    """One message that was given up, and why. `stream_id` is None where the message could not be parsed."""

    event_id: str
    event_name: str
    stream_id: str | None
    attempt: int
    code: str
    reason: str
    parked_at: datetime

    def line(self) -> str:
        stream = self.stream_id or "no stream"
        at = self.parked_at.isoformat(timespec="seconds")
        return f"{at} {self.event_name} {self.event_id} {stream} after {self.attempt}: {self.code}: {self.reason}"


async def find_parked(connection: AsyncConnection, *, limit: int = LIMIT) -> tuple[ParkedMessage, ...]:
    """What is parked in this service's inbox, oldest first."""
    rows = await connection.execute(_PARKED, {"limit": limit})
    return tuple(
        ParkedMessage(
            event_id=str(row.event_id),
            event_name=row.event_name,
            stream_id=row.stream_id,
            attempt=row.attempt,
            code=row.code,
            reason=row.reason,
            parked_at=row.finished_at,
        )
        for row in rows
    )


async def run(
    action: str, *, database: Database, event_name: str | None = None, limit: int = LIMIT
) -> tuple[str, ...]:
    """Do what the command line asks for; the lines to print. Raises DatabaseUnavailable."""
    async with database.transaction() as session:
        connection = await session.connection()
        if action == "redrive":
            count = await inbox.redrive(connection, event_name=event_name)
            return (f"{count} message(s) are due again",)
        return tuple(message.line() for message in await find_parked(connection, limit=limit))


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m shared.parked", description=__doc__)
    parser.add_argument("action", choices=("list", "redrive"))
    parser.add_argument("service", choices=SERVICES)
    parser.add_argument("--event", help="redrive messages of this event only")
    parser.add_argument(
        "--limit", type=int, default=LIMIT, help="list no more than this (default %(default)s)"
    )
    return parser.parse_args(arguments)


async def _main(asked: argparse.Namespace, url: str) -> tuple[str, ...]:
    service: Service = asked.service
    database = Database(url, schema=service, pool_size=1)
    try:
        return await run(asked.action, database=database, event_name=asked.event, limit=asked.limit)
    finally:
        await database.close()


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0, or 1 when the database is not there."""
    asked = _arguments(arguments)
    url = load(ParkedSettings).database_url.get_secret_value()
    try:
        lines = asyncio.run(_main(asked, url))
    except DatabaseUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0


_PARKED = text(
    """
    SELECT event_id, event_name, stream_id, attempt, code, reason, finished_at
    FROM inbox WHERE state = 'parked' ORDER BY received_at LIMIT :limit
    """
)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

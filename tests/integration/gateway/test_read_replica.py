"""Reads with a replica: a copy of the database that was made earlier, and says other things, stands for one."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from gateway.app import build, read_replica
from localcluster.scratch_database import database_url, execute
from shared import metrics
from shared.database import Database, DatabaseUnavailable
from tests.conftest import Postgres
from tests.integration.gateway.api_client import Customer, GatewayApp, running_api, settings_for
from tests.integration.gateway.test_api_playback import GOAL, owner_of, segments_of_8s

PATIENT_S = 30.0
NOWHERE = "postgresql://nobody:nothing@127.0.0.1:1/none"
IN_THE_COPY = (
    "UPDATE gateway.streams SET title = 'replica'",
    "UPDATE gateway.highlights SET title = 'replica', start_us = 4000000",
)


@dataclass(frozen=True)
class Copied:
    """A primary with a customer, a stream and its highlight, and the copy in which their titles differ."""

    primary_url: str
    copy_url: str
    copy_admin_url: str
    admin_url: str
    folder: Path
    customer: Customer
    stream_id: str

    @asynccontextmanager
    async def gateway(self, **changes: Any) -> AsyncIterator[GatewayApp]:
        values = {"database_read_url": self.copy_url, "database_read_patience_s": PATIENT_S} | changes
        async with running_api(self.primary_url, self.folder, **values) as app:
            yield app

    async def get(self, app: GatewayApp, path: str, *, status: int = 200) -> dict[str, Any]:
        answer = await app.client.get(f"/v1{path}", headers=self.customer.headers)
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def title(self, app: GatewayApp) -> str | None:
        found: str | None = (await self.get(app, f"/streams/{self.stream_id}"))["title"]
        return found


@pytest.fixture
async def copied(postgres: Postgres, gateway_database: Database, tmp_path: Path) -> AsyncIterator[Copied]:
    async with running_api(gateway_database.url, tmp_path) as app:
        owner = await owner_of(app, segments_of_8s())
        await app.rows("UPDATE streams SET title = 'primary' RETURNING 1", owner.customer)
        listed = await app.client.get("/v1/streams", headers=owner.customer.headers)
    await gateway_database.close()
    primary, copy = urlsplit(gateway_database.url).path[1:], f"db_{secrets.token_hex(6)}"
    await execute(postgres.admin_url, f"CREATE DATABASE {copy} TEMPLATE {primary}")
    copy_admin_url = database_url(postgres.admin_url, copy)
    await execute(copy_admin_url, *IN_THE_COPY)
    yield Copied(
        primary_url=gateway_database.url,
        copy_url=database_url(gateway_database.url, copy),
        copy_admin_url=copy_admin_url,
        admin_url=postgres.admin_url,
        folder=tmp_path,
        customer=owner.customer,
        stream_id=listed.json()["items"][0]["id"],
    )
    await execute(postgres.admin_url, f"DROP DATABASE IF EXISTS {copy} WITH (FORCE)")


def outcomes(name: str) -> float:
    return metrics.replica_reads.labels(name)._value.get()


def reasons(logs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why the replica was left aside, each time that it was said."""
    return [entry["reason"] for entry in logs if entry["event"] == "replica_left_aside"]


@asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[str, list[asyncio.StreamWriter]]]:
    """A server that takes connections and never says a word: its address, and the connections so far."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _reader, writer: writers.append(writer), "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://nobody:nothing@127.0.0.1:{port}/none", writers
    finally:
        for writer in writers:
            writer.close()
        server.close()


async def test_lists_and_views_come_from_the_replica(copied: Copied) -> None:
    async with copied.gateway() as app:
        streams = await copied.get(app, "/streams")
        highlights = await copied.get(app, f"/streams/{copied.stream_id}/highlights")
        highlight = await copied.get(app, f"/highlights/{GOAL}")
        playlist = await app.client.get(highlight["playback_url"])
        title = await copied.title(app)

    shown = [streams["items"][0]["title"], highlights["items"][0]["title"], highlight["title"], title]
    assert ["replica"] * 4 == shown
    assert (200, True) == (playlist.status_code, "TIME-OFFSET=0" in playlist.text)


async def test_the_service_reads_from_its_replica_and_leaves_no_connection_there(copied: Copied) -> None:
    settings = settings_for(
        copied.primary_url,
        copied.folder,
        database_read_url=copied.copy_url,
        database_read_patience_s=PATIENT_S,
    )
    async with build(settings) as application:
        assert application.api is not None
        transport = httpx2.ASGITransport(app=application.api.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            listed = await client.get("/v1/streams", headers=copied.customer.headers)

    assert "replica" == listed.json()["items"][0]["title"]
    # PostgreSQL refuses this while anybody is connected there.
    await execute(copied.admin_url, f"DROP DATABASE {urlsplit(copied.copy_url).path[1:]}")


async def test_without_a_replica_the_primary_answers(copied: Copied) -> None:
    async with copied.gateway(database_read_url=None) as app:
        highlight = await copied.get(app, f"/highlights/{GOAL}")
        playlist = await app.client.get(highlight["playback_url"])

    assert ("A clutch", True) == (highlight["title"], "TIME-OFFSET=1" in playlist.text)


async def test_a_stream_is_found_right_after_it_was_made_though_the_replica_has_it_not(
    copied: Copied,
) -> None:
    async with copied.gateway() as app:
        made = await app.submit(copied.customer, title="new")
        read = await copied.get(app, f"/streams/{made['id']}")
        highlights = await copied.get(app, f"/streams/{made['id']}/highlights")
        listed = await copied.get(app, "/streams")

    assert made == read
    assert 0 == highlights["total"]
    assert [copied.stream_id] == [item["id"] for item in listed["items"]]


async def test_what_neither_has_is_not_found(copied: Copied) -> None:
    async with copied.gateway() as app:
        await copied.get(app, "/streams/str_000000000000", status=404)
        await copied.get(app, "/highlights/hl_none", status=404)


async def test_the_replica_shows_an_organization_its_own_rows_only(copied: Copied) -> None:
    async with copied.gateway() as app:
        stranger = await app.register("stranger")
        answered = outcomes("answered")
        one = await app.client.get(f"/v1/streams/{copied.stream_id}", headers=stranger.headers)
        listed = await app.client.get("/v1/streams", headers=stranger.headers)

    assert (404, 0) == (one.status_code, listed.json()["total"])
    assert 1 == outcomes("answered") - answered


async def test_keys_are_judged_by_the_primary(copied: Copied) -> None:
    async with copied.gateway() as app:
        body = {"name": "later", "scopes": ["streams:read"]}
        minted = await app.client.post("/v1/api-keys", json=body, headers=copied.customer.headers)
        later = {"X-API-Key": minted.json()["api_key"]}
        accepted = await app.client.get("/v1/streams", headers=later)
        await app.rows("UPDATE api_keys SET revoked_at = now() RETURNING 1", copied.customer)
        refused = await app.client.get("/v1/streams", headers=copied.customer.headers)

    assert (200, 401) == (accepted.status_code, refused.status_code)


async def test_a_replica_that_is_away_is_left_aside_and_the_primary_answers(copied: Copied) -> None:
    failed, left_aside = outcomes("failed"), outcomes("left_aside")
    with capture_logs() as logs:
        async with copied.gateway(database_read_url=NOWHERE) as app:
            stream = await copied.get(app, f"/streams/{copied.stream_id}")
            highlight = await copied.get(app, f"/highlights/{GOAL}")
            playlist = await app.client.get(highlight["playback_url"])

    assert ("primary", "A clutch", 200) == (stream["title"], highlight["title"], playlist.status_code)
    assert (1, 2) == (outcomes("failed") - failed, outcomes("left_aside") - left_aside)
    assert 1 == len(reasons(logs))


async def test_a_replica_that_hangs_costs_one_request_its_patience_and_the_next_nothing(
    copied: Copied,
) -> None:
    async with (
        silent_server() as (url, connections),
        copied.gateway(database_read_url=url, database_read_patience_s=0.2) as app,
    ):
        with capture_logs() as logs:
            listed = [await copied.get(app, "/streams") for _ in range(3)]

        assert 1 == len(connections)

    assert [1, 1, 1] == [each["total"] for each in listed]
    assert ["no answer within 0.2 s"] == reasons(logs)


async def test_a_statement_that_hangs_on_the_replica_is_not_waited_for(copied: Copied) -> None:
    holder = Database(copied.copy_admin_url, schema="gateway")
    async with copied.gateway(database_read_patience_s=0.5) as app, holder.transaction() as session:
        await (await session.connection()).execute(text("LOCK TABLE streams IN ACCESS EXCLUSIVE MODE"))

        with capture_logs() as logs:
            title = await copied.title(app)

    await holder.close()
    assert "primary" == title
    assert ["no answer within 0.5 s"] == reasons(logs)


async def test_a_replica_whose_tables_are_not_as_new_as_the_code_is_left_aside(copied: Copied) -> None:
    await execute(copied.copy_admin_url, "ALTER TABLE gateway.streams RENAME COLUMN metadata TO older")

    with capture_logs() as logs:
        async with copied.gateway() as app:
            title = await copied.title(app)

    assert "primary" == title
    assert "column streams.metadata does not exist" in reasons(logs)[0]


async def test_nothing_can_be_written_through_the_replica(copied: Copied) -> None:
    settings = settings_for(copied.primary_url, copied.folder, database_read_url=copied.copy_url)
    statement = text("UPDATE streams SET title = 'written'")

    async with read_replica(settings) as replica:
        assert replica is not None
        with pytest.raises(DatabaseUnavailable, match="read-only transaction"):
            async with replica.transaction() as session:
                await (await session.connection()).execute(statement)
        with pytest.raises(DatabaseUnavailable, match="read-only transaction"):
            async with replica.autocommit() as connection:
                await connection.execute(statement)

"""Ingest as processes: `stream.online` over the broker, a killed replica, a terminated one."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import aio_pika
import asyncpg
import pytest

from sandbox.film import make_film
from sandbox.origin import HlsOrigin
from shared.contract import queue_name, routing_key
from shared.events import Event, Lane, Source, StreamEnded, StreamOnline
from shared.ids import event_id
from shared.keyring import Keyring, generate_key
from tests.builders import NOW, ORGANIZATION, STREAM
from tests.conftest import REPOSITORY, Installation

pytestmark = [pytest.mark.faults, pytest.mark.needs_ffmpeg]

KEY = generate_key()
ENDED = queue_name("gateway", StreamEnded.name, Lane.LIVE)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=60)


def environment(installation: Installation, origin: HlsOrigin, name: str) -> dict[str, str]:
    return {
        **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
        "PYTHONPATH": f"{REPOSITORY / 'services'}:{REPOSITORY / 'libs'}",
        "DATABASE_URL": installation.database_url("ingest"),
        "RABBITMQ_URL": installation.rabbitmq_url,
        "OPS_PORT": "0",
        "OBJECT_STORE_FOLDER": str(installation.folder / "objects"),
        "URL_SIGNING_SECRET": "s" * 32,
        "SECRETS_KEYRING": KEY,
        "OUTBOUND_ALLOW": origin.base_url.removeprefix("http://"),
        "SPOOL_FOLDER": str(installation.folder / f"spool-{name}"),
        "LEASE_S": "1",
        "RENEW_S": "0.3",
    }


@asynccontextmanager
async def replica(
    installation: Installation, origin: HlsOrigin, name: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    log = (installation.folder / f"{name}.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "ingest"),
        env=environment(installation, origin, name),
        cwd=installation.folder,
        stdout=log,
        stderr=log,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        log.close()


async def publish(installation: Installation, event: Event) -> None:
    async with await aio_pika.connect(installation.rabbitmq_url) as connection:
        exchange = await (await connection.channel()).get_exchange("tldr.events", ensure=False)
        body = event.model_dump_json().encode()
        await exchange.publish(aio_pika.Message(body), routing_key(event.name, event.lane))


async def received(installation: Installation, queue: str) -> bytes:
    async with await aio_pika.connect(installation.rabbitmq_url) as connection:
        found = await (await connection.channel()).get_queue(queue, ensure=False)
        async with found.iterator() as messages:
            async for message in messages:
                await message.ack()
                return message.body
    raise AssertionError("the queue was closed")


async def until(installation: Installation, query: str) -> None:
    """Wait until the query answers true."""
    connection = await asyncpg.connect(installation.admin_url)
    try:
        async with asyncio.timeout(30):
            while not await connection.fetchval(query):
                await asyncio.sleep(0.05)
    finally:
        await connection.close()


def online(url: str) -> StreamOnline:
    sealed = Keyring([KEY]).encrypt(url, context=f"stream:{STREAM}")
    return StreamOnline(
        event_id=event_id(STREAM, StreamOnline.name, 0),
        organization_id=ORGANIZATION,
        stream_id=STREAM,
        occurred_at=NOW,
        source=Source(sealed_url=sealed, display_url="x"),
        profile_key="profiles/0.json",
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_another_replica_goes_on_where_one_was_ended(
    installation: Installation, film: Path, number: signal.Signals
) -> None:
    async with (
        HlsOrigin(film, speed=6, initial_segments=2) as origin,
        replica(installation, origin, "a") as first,
    ):
        await publish(installation, online(origin.url))
        origin.go_live()
        await until(installation, "SELECT count(*) > 3 FROM ingest.segments")
        async with replica(installation, origin, "b"):
            first.send_signal(number)
            await first.wait()
            if number is signal.SIGTERM:
                assert 0 == first.returncode
            body = await asyncio.wait_for(received(installation, ENDED), 40)
        ended = StreamEnded.model_validate_json(body)
        assert (30, 60_000_000, ()) == (ended.segments, ended.media_duration_us, ended.gap_indexes)
        connection = await asyncpg.connect(installation.admin_url)
        rows = await connection.fetch(
            "SELECT sequence, start_us, duration_us FROM ingest.segments ORDER BY position"
        )
        await connection.close()
        assert list(range(30)) == [row["sequence"] for row in rows]
        assert all(b["start_us"] == a["start_us"] + a["duration_us"] for a, b in pairwise(rows))

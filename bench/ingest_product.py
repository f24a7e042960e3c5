"""The product's side of the ingest bench: one real ingest process, told of streams by real events, and its rows.

Everything is removed between two runs: leases and streams by SQL, objects while they age (three gigabits a second
would fill any disk).
"""

import asyncio
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from ingest_figures import percentiles
from ingest_schedule import Schedule

from localcluster.cluster import LocalServers, ServiceProcess
from localcluster.environment import Installation
from localcluster.installation import set_up
from shared.broker import Publisher, publish_broker
from shared.events import Lane, Source, StreamOnline
from shared.ids import OrganizationId, StreamId, event_id
from shared.keyring import Keyring
from shared.outbox import Outgoing

READY_S = 60.0
_AGE_S = 8.0
_SWEEP_S = 2.0
_LAGS = """
SELECT stream_id, sequence, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 AS at
FROM ingest.segments WHERE stream_id = ANY($1)
"""
_FORGET = ("leases", "followed", "segments", "windows", "gaps", "offlines")


class Product:
    """One installation; `start` makes a fresh ingest process."""

    def __init__(self, servers: LocalServers, *, origin_address: str, organizations: int) -> None:
        self._servers = servers
        self._organizations = organizations
        self.installation = Installation(
            rabbitmq_url=servers.rabbitmq_url,
            database_admin_url=servers.database_admin_url,
            folder=servers.folder,
            outbound_allow=(origin_address,),
        )
        self._keyring = Keyring.from_text(self.installation.keyring)

    async def set_up(self) -> None:
        await set_up(self.installation, settle_s=0.5)

    def process(self, *, streams: int, extra: Mapping[str, str]) -> ServiceProcess:
        environment = {
            **self.installation.environment("ingest"),
            "CAPACITY": str(max(1, streams)),
            "LOG_LEVEL": "INFO",
            **extra,
        }
        log_path = self._servers.folder / "ingest.log"
        return ServiceProcess("ingest", environment=environment, log_path=log_path)

    async def announce(self, run: str, *, streams: int, url: str) -> None:
        """Publish one `stream.online` per stream, as the gateway's relay does."""
        broker = publish_broker(self.installation.rabbitmq_url)
        await broker.start()
        publisher = Publisher(broker)
        try:
            for first in range(0, streams, 50):
                some = range(first, min(streams, first + 50))
                await asyncio.gather(*(publisher.publish(self._online(run, n, url=url)) for n in some))
        finally:
            await broker.stop()

    def _online(self, run: str, stream: int, *, url: str) -> Outgoing:
        stream_id = stream_id_of(run, stream)
        sealed = self._keyring.encrypt(f"{url}/{stream}/live.m3u8", context=f"stream:{stream_id}")
        event = StreamOnline(
            event_id=event_id(stream_id, StreamOnline.name, 0),
            organization_id=OrganizationId(f"org_bench{stream % self._organizations:04d}"),
            stream_id=stream_id,
            occurred_at=datetime.now(UTC),
            lane=Lane.LIVE,
            source=Source(sealed_url=sealed, display_url="bench"),
            profile_key=f"profiles/{'0' * 64}.json",
        )
        return Outgoing(
            seq=0,
            day=None,
            event_id=str(event.event_id),
            event_name=event.name,
            lane=Lane.LIVE,
            body=event.model_dump_json(),
            traceparent=None,
        )

    async def archived(
        self, run: str, schedule: Schedule, *, streams: int, from_at: float, to_at: float
    ) -> dict[str, float]:
        """By the moment at which each row's transaction was committed."""
        ids = {stream_id_of(run, n): n for n in range(streams)}
        connection = await asyncpg.connect(self.installation.database_admin_url)
        try:
            rows = await connection.fetch(_LAGS, list(ids))
        finally:
            await connection.close()
        committed = {(ids[row["stream_id"]], row["sequence"]): row["at"] for row in rows}
        return judged(committed, schedule, streams=streams, from_at=from_at, to_at=to_at)

    async def forget(self) -> None:
        connection = await asyncpg.connect(self.installation.database_admin_url)
        try:
            tables = ", ".join(f"ingest.{name}" for name in _FORGET)
            await connection.execute(f"TRUNCATE {tables}")
        finally:
            await connection.close()
        shutil.rmtree(self.installation.objects / "archive", ignore_errors=True)


def judged(
    committed: Mapping[tuple[int, int], float],
    schedule: Schedule,
    *,
    streams: int,
    from_at: float,
    to_at: float,
) -> dict[str, float]:
    """Of the segments that became available in the span: how many have no row, and how late the others' came."""
    lags_s, lost = [], 0
    for stream in range(streams):
        for sequence in schedule.available(stream, from_at=from_at, to_at=to_at):
            at = committed.get((stream, sequence))
            if at is None:
                lost += 1
            else:
                lags_s.append(at - schedule.available_at(stream, sequence))
    return {"offered": lost + len(lags_s), "lost": lost, **percentiles(lags_s)}


def stream_id_of(run: str, stream: int) -> StreamId:
    return StreamId(f"str_{run}{stream:05d}")


def new_run() -> str:
    return secrets.token_hex(4)


async def sweep(outputs: Path, archive: Path) -> None:
    """Remove what contestants wrote as it ages, until cancelled."""
    while True:
        await asyncio.sleep(_SWEEP_S)
        await asyncio.to_thread(_remove_old, outputs, archive, before=time.time() - _AGE_S)


def _remove_old(outputs: Path, archive: Path, *, before: float) -> None:
    for path in (*outputs.glob("*"), *archive.glob("*/*/*/*/*")):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                path.unlink()

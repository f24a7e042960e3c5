"""100ms webhooks while PostgreSQL freezes and dies, the gateway is killed, and RabbitMQ is away: none is lost."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from localcluster.cluster import LocalCluster, LocalServers, ServiceProcess
from localcluster.environment import Installation
from localcluster.installation import set_up
from localcluster.postgres import PostgresServer
from localcluster.rabbitmq import RabbitServer
from sandbox.demo.customer import Customer
from sandbox.hundredms import Beam, HundredMs, build_payload, disordered

pytestmark = pytest.mark.faults

SECRET, HEADER = "a-secret-of-sixteen-and-more", "X-100ms-Secret"
SOURCE = "https://cdn.example.com/live/master.m3u8"
START, STOP = "hls.started.success", "hls.stopped.success"


@dataclass
class World:
    """A gateway as a process of its own; nobody follows its streams."""

    postgres: PostgresServer
    rabbitmq: RabbitServer
    installation: Installation
    gateway: ServiceProcess
    sender: HundredMs
    forger: HundredMs

    async def started(self, name: str, *, copies: int = 1) -> None:
        await self.send(START, name, copies=copies)

    async def stopped(self, name: str, *, copies: int = 1) -> None:
        await self.send(STOP, name, copies=copies)

    async def send(self, kind: str, name: str, *, copies: int) -> None:
        """Each copy is taken at the first attempt: nothing here counts on 100ms' retries."""
        payload = build_payload(kind, beam=beam(name), at=datetime.now(UTC), event_id=f"{name}-{kind}")
        for copy in disordered([payload], copies=copies, seed=0):
            delivery = await self.sender.deliver(copy)
            assert delivery.delivered, (kind, name, delivery.attempts)

    async def restart_gateway(self) -> None:
        """Killed, and up again as far as it can be: it answers, and is not ready."""
        await asyncio.to_thread(self.gateway.kill)
        await asyncio.to_thread(self.gateway.start)
        async with asyncio.timeout(30), aiohttp.ClientSession(trust_env=False) as session:
            while not await _answers(session, f"{self.installation.api_url}/health"):
                await asyncio.sleep(0.1)
        assert not self.gateway.is_ready()

    async def rows(self, query: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.installation.database_admin_url)
        try:
            return list(await connection.fetch(query))
        finally:
            await connection.close()

    async def streams(self) -> dict[str, bool]:
        """Beam → whether it was asked to stop."""
        query = "SELECT external_id, stop_requested_at IS NOT NULL AS stopped FROM gateway.streams"
        return {row["external_id"]: row["stopped"] for row in await self.rows(query)}

    async def until(self, query: str) -> None:
        """Wait until the query finds nothing more."""
        async with asyncio.timeout(30):
            while await self.rows(query):
                await asyncio.sleep(0.2)


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def beam(name: str) -> Beam:
    return Beam(stream_url=SOURCE, started_at=datetime(2026, 1, 1, tzinfo=UTC), beam_id=name, account_id="a")


@asynccontextmanager
async def world(tmp_path: Path) -> AsyncIterator[World]:
    servers = LocalServers(environment={})
    await asyncio.to_thread(servers.__enter__)
    try:
        assert servers.postgres is not None
        assert servers.rabbitmq is not None
        installation = Installation(
            rabbitmq_url=servers.rabbitmq_url,
            database_admin_url=servers.database_admin_url,
            folder=servers.folder,
        )
        await set_up(installation)
        cluster = LocalCluster({"gateway": installation.environment("gateway")}, log_folder=tmp_path / "logs")
        await asyncio.to_thread(cluster.__enter__)
        try:
            url = await _connection(installation)
            async with (
                HundredMs(url, secret=SECRET, secret_header=HEADER, retry_delays_s=()) as sender,
                HundredMs(url, secret=SECRET[::-1], secret_header=HEADER, retry_delays_s=()) as forger,
            ):
                gateway = cluster.services["gateway"]
                yield World(servers.postgres, servers.rabbitmq, installation, gateway, sender, forger)
        finally:
            await asyncio.to_thread(cluster.stop)
    finally:
        await asyncio.to_thread(servers.__exit__, None, None, None)


async def _connection(installation: Installation) -> str:
    async with Customer(installation.api_url) as customer:
        await customer.register(
            email=f"f-{secrets.token_hex(4)}@example.com",
            password=secrets.token_urlsafe(16),
            company_name="Faults",
        )
        return await customer.connect_100ms(secret=SECRET, secret_header=HEADER)


async def test_no_webhook_is_lost_while_postgresql_or_rabbitmq_is_away(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        await made.started("before")
        await _while_postgresql_is_away(made)
        await _after(made, {"before": True, "frozen": True, "open": False, "restarted": False, "dead": True})
        await _while_rabbitmq_is_away(made)
        await _after(made, {**await made.streams(), "broker": True, "late": False})


async def _while_postgresql_is_away(made: World) -> None:
    await asyncio.to_thread(made.postgres.freeze)
    await made.started("frozen", copies=2)
    await made.stopped("frozen", copies=2)
    await made.started("open")
    assert (await made.forger.send(START, beam=beam("forged-1"))).attempts[0].status == 401
    await made.restart_gateway()
    await made.started("restarted", copies=2)
    assert (await made.forger.send(START, beam=beam("forged-2"))).delivered, "nobody could judge it yet"
    await asyncio.to_thread(made.postgres.kill)
    await made.started("dead")
    await made.stopped("dead")
    await made.stopped("before")
    await asyncio.to_thread(made.postgres.start)
    await asyncio.to_thread(made.gateway.wait_ready, 60.0)


async def _while_rabbitmq_is_away(made: World) -> None:
    await asyncio.to_thread(made.rabbitmq.freeze)
    await made.started("broker", copies=2)
    await asyncio.to_thread(made.rabbitmq.kill)
    await made.stopped("broker", copies=2)
    await made.started("late")
    await asyncio.to_thread(made.rabbitmq.start)
    await asyncio.to_thread(made.gateway.wait_ready, 60.0)


async def _after(made: World, expected: dict[str, bool]) -> None:
    """Exactly these streams, each announced once, and nothing that still waits anywhere."""
    names = ", ".join(f"('{name}-{kind}')" for name, stopped in expected.items() for kind in _kinds(stopped))
    await made.until(
        f"SELECT 1 FROM (VALUES {names}) AS e(id) WHERE id NOT IN "
        "(SELECT event_id FROM gateway.hundredms_events)"
    )
    await made.until("SELECT 1 FROM gateway.outbox WHERE published_at IS NULL")
    assert expected == await made.streams()
    bodies = await made.rows("SELECT body FROM gateway.outbox WHERE event_name = 'stream.online'")
    assert sorted(expected) == sorted(json.loads(row["body"])["external_id"] for row in bodies)
    recorded = await made.rows("SELECT event_id FROM gateway.hundredms_events")
    assert sum(len(_kinds(stopped)) for stopped in expected.values()) == len(recorded)


def _kinds(stopped: bool) -> tuple[str, ...]:
    return (START, STOP) if stopped else (START,)

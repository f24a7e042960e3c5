"""What counting a request costs: GET /v1/streams per second without counting, counted by PostgreSQL, and by Redis.

Run: `python bench/gateway_rate.py [SECONDS]`. One gateway process, 32 connections; the client shares the cores.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles

import aiohttp
import uvloop
from rich.console import Console
from rich.table import Table

from gateway.adapters.accounts import StoredApiKeys
from gateway.app import api, use_cases
from gateway.domain.rate_limit import Budget, Count, LimitPolicy, Taken
from gateway.settings import GatewaySettings
from gateway.workflow.authentication import Authentication
from gateway.workflow.rate_limits import RateLimits
from localcluster.children import ChildProcess, scratch_folder
from localcluster.ports import claim_port
from localcluster.postgres import PostgresServer
from localcluster.redis import RedisServer
from localcluster.scratch_database import scratch_database
from shared import logs
from shared.bootstrap import service_url, set_up
from shared.clock import utc_now
from shared.foundation import Foundation, foundation
from shared.http_server import HttpServer
from shared.keyring import generate_key
from shared.migrate import upgrade_service

CONNECTIONS = 32
ROUNDS = 3
PASSWORD = "bench-password-1"
VARIANTS = ("not counted", "postgresql", "redis")


class Uncounted:
    name = "nobody"

    async def take(self, budgets: Sequence[Budget]) -> Taken:
        return Taken(True, tuple(Count(0, 1, 0) for _ in budgets), 0)

    async def aclose(self) -> None:
        """Nothing is open."""


async def serve(variant: str, port: int) -> None:
    settings = GatewaySettings(_env_file=None)  # type: ignore[call-arg]
    async with foundation("gateway", settings) as base:
        cases = use_cases(base, settings)
        if variant == VARIANTS[0]:
            cases = replace(cases, rate_limits=_uncounted(base))
        server = HttpServer(api(cases, settings), host="127.0.0.1", port=port)
        await server.start()
        await asyncio.Event().wait()


def _uncounted(base: Foundation) -> RateLimits:
    authentication = Authentication(keys=StoredApiKeys(base.database), clock=utc_now)
    return RateLimits(authentication=authentication, limiter=Uncounted(), policy=LimitPolicy())


async def measure(url: str, seconds: float, pid: int) -> dict[str, float]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:
        key = await _registered(session, url)
        headers = {"X-API-Key": key}
        await _load(session, f"{url}/v1/streams", headers, seconds=1)
        before_s = cpu_s(pid)
        found = await _load(session, f"{url}/v1/streams", headers, seconds=seconds)
        return found | {"cpu_ms": 1000 * (cpu_s(pid) - before_s) / found["requests"]}


def cpu_s(pid: int) -> float:
    """What the process has used; unlike requests per second it hardly depends on what else the machine does."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _registered(session: aiohttp.ClientSession, url: str) -> str:
    body = {"email": f"a{time.time_ns()}@example.com", "password": "Correct-horse-42", "company_name": "a"}
    async with asyncio.timeout(120):
        while True:
            try:
                async with session.post(f"{url}/v1/auth/register", json=body) as answer:
                    return str((await answer.json())["api_key"])
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.05)


async def _load(
    session: aiohttp.ClientSession, url: str, headers: dict[str, str], *, seconds: float
) -> dict[str, float]:
    took_s: list[float] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        while (began := time.perf_counter()) < end:
            async with session.get(url, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()
            took_s.append(time.perf_counter() - began)

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return {
        "requests": len(took_s),
        "per_s": len(took_s) / seconds,
        "p99_ms": 1000 * quantiles(took_s, n=100)[98],
    }


async def run(seconds: float) -> dict[str, dict[str, float]]:
    """In rounds, so that what else the machine does falls on all alike; of each the median."""
    found: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    with scratch_folder() as folder:
        postgres, redis = PostgresServer(folder / "postgres"), RedisServer(folder / "redis")
        postgres.start()
        redis.start()
        try:
            async with scratch_database(postgres.admin_url) as made:
                await set_up(made.admin_url, roles=made.roles, password=PASSWORD)
                await upgrade_service(made.admin_url, service="gateway", roles=made.roles)
                database = service_url(made.admin_url, made.roles, "gateway", PASSWORD)
                for _ in range(ROUNDS):
                    for variant in VARIANTS:
                        redis_url = redis.url if variant == "redis" else ""
                        environment = _environment(folder, database, redis_url)
                        found[variant].append(await _one(variant, environment, folder, seconds))
        finally:
            redis.stop()
            postgres.stop()
    return {
        variant: {name: median(each[name] for each in rounds) for name in rounds[0]}
        for variant, rounds in found.items()
    }


async def _one(variant: str, environment: dict[str, str], folder: Path, seconds: float) -> dict[str, float]:
    port = claim_port()
    child = ChildProcess(
        [sys.executable, __file__, "--serve", variant, str(port)],
        environment=environment,
        log_path=folder / "gateway.log",
    )
    child.start()
    try:
        return await measure(f"http://127.0.0.1:{port}", seconds, child.pid)
    finally:
        child.kill()


def _environment(folder: Path, database: str, redis_url: str) -> dict[str, str]:
    return {
        **{name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ},
        "DATABASE_URL": database,
        "RABBITMQ_URL": "amqp://nobody@127.0.0.1:1/none",
        "OPS_PORT": "0",
        "OBJECT_STORE_FOLDER": str(folder / "objects"),
        "URL_SIGNING_SECRET": "s" * 32,
        "SECRETS_KEYRING": generate_key(),
        "DEFAULT_RATE_LIMIT": "10000000",
        "REDIS_URL": redis_url,
    }


def main() -> int:
    if sys.argv[1:2] == ["--serve"]:
        logs.configure("gateway", debug=False, as_json=True)
        uvloop.run(serve(sys.argv[2], int(sys.argv[3])))
        return 0
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    measured = asyncio.run(run(seconds))
    table = Table(title=f"GET /v1/streams, {CONNECTIONS} connections")
    for title in ("counted by", "requests/s", "p99 ms", "gateway's CPU ms", "of uncounted"):
        table.add_column(title, justify="left" if title == "counted by" else "right")
    base = measured[VARIANTS[0]]["cpu_ms"]
    for variant, figures in measured.items():
        table.add_row(
            variant,
            f"{figures['per_s']:.0f}",
            f"{figures['p99_ms']:.1f}",
            f"{figures['cpu_ms']:.2f}",
            f"{figures['cpu_ms'] / base:.2f}",
        )
    Console().print(table)
    print(json.dumps(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())

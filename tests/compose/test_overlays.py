"""The overlays beside the cluster: metrics of every replica, and code that is taken up while it runs."""

import asyncio
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from localcluster.compose import COMPOSE_FILE
from localcluster.ports import claim_port
from shared.contract import SERVICES
from tests.compose.conftest import Compose

pytestmark = pytest.mark.compose


async def targets(address: str) -> list[dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{address}/api/v1/targets?state=active") as answer,
    ):
        return list((await answer.json())["data"]["activeTargets"])


async def test_prometheus_reads_the_metrics_of_all_services_and_of_the_broker(compose: Compose) -> None:
    cluster = replace(
        compose.cluster.told(PROMETHEUS_PORT=str(claim_port())),
        files=(COMPOSE_FILE, COMPOSE_FILE.with_name("compose.observability.yaml")),
    )
    try:
        await asyncio.to_thread(cluster.up, "prometheus")
        address = await asyncio.to_thread(cluster.address, "prometheus", 9090)
        async with asyncio.timeout(120):
            while True:
                found = await targets(address)
                up = [each["labels"]["job"] for each in found if each["health"] == "up"]
                if sorted(up) == sorted(["rabbitmq", *["tldr"] * len(SERVICES)]):
                    return
                await asyncio.sleep(1)
    finally:
        await asyncio.to_thread(cluster.compose, "rm", "--stop", "--force", "prometheus")


async def test_changed_code_is_taken_up_by_the_running_service(compose: Compose) -> None:
    cluster = replace(compose.cluster, files=(COMPOSE_FILE, COMPOSE_FILE.with_name("compose.dev.yaml")))
    service = COMPOSE_FILE.parents[2] / "services" / "selector" / "loops.py"

    async def starts() -> int:
        log = await asyncio.to_thread(cluster.compose, "logs", "--no-color", "selector")
        return sum("ops_port" in line for line in log.splitlines())

    try:
        await asyncio.to_thread(cluster.up, "selector")
        before = await starts()
        assert before >= 1
        service.touch()
        async with asyncio.timeout(120):
            while await starts() <= before:
                await asyncio.sleep(0.5)
    finally:
        await asyncio.to_thread(compose.cluster.up, "selector")

"""A service as a process sees it: readiness that means it, loops that survive, an end that drains."""

import asyncio
import gc
import os
import runpy
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from localcluster.environment import Installation as Environment
from selector.app import build
from selector.settings import SelectorSettings
from shared.contract import SERVICES
from shared.loops import Loop
from shared.runtime import LoopHealth, Running, Supervisor, running
from tests.conftest import PASSWORD, Installation


def settings(installation: Installation, **changes: str) -> SelectorSettings:
    environment = Environment(
        rabbitmq_url=installation.rabbitmq_url,
        database_admin_url=installation.admin_url,
        folder=installation.folder,
        roles=installation.roles,
        role_password=PASSWORD,
    ).environment("selector")
    values = {name.lower(): value for name, value in (environment | {"OPS_PORT": "0"}).items()}
    return SelectorSettings.model_validate(values | changes)


@asynccontextmanager
async def selector(installation: Installation, **changes: str) -> AsyncIterator[Running]:
    async with build(settings(installation, **changes)) as application, running(application) as started:
        yield started
    gc.collect()  # aiormq leaves coroutines of connections that never opened: let them go here, where it is known


async def get(started: Running, path: str) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{started.ops_port}{path}") as answer,
    ):
        body = await answer.text()
        return answer.status, await answer.json() if "json" in answer.content_type else body


async def until_ready(started: Running) -> None:
    async with asyncio.timeout(20):
        while (await get(started, "/readyz"))[0] != 200:
            await asyncio.sleep(0.05)


async def test_a_service_becomes_ready_and_tells_its_metrics(installation: Installation) -> None:
    async with selector(installation) as started:
        await until_ready(started)
        assert (200, {"status": "alive"}) == await get(started, "/healthz")
        status, text = await get(started, "/metrics")
        assert 200 == status
        assert 'tldr_ready{service="selector"} 1.0' in text


async def test_without_a_broker_it_lives_but_is_not_ready_and_says_why(installation: Installation) -> None:
    async with selector(installation, rabbitmq_url="amqp://a:b@127.0.0.1:1/none") as started:
        assert 200 == (await get(started, "/healthz"))[0]
        status, body = await get(started, "/readyz")
    assert 503 == status
    assert {"consumers", "broker_consume", "broker_publish"} <= body["faults"].keys()


async def test_without_a_database_it_lives_but_is_not_ready_and_says_why(installation: Installation) -> None:
    url = "postgresql://a:b@127.0.0.1:1/none"
    async with selector(installation, database_url=url) as started:
        status, body = await get(started, "/readyz")
    assert 503 == status
    assert "database" in body["faults"]


async def test_a_taken_port_stops_the_start(installation: Installation) -> None:
    async with selector(installation) as first:
        with pytest.raises(OSError, match="in use"):
            async with selector(installation, ops_port=str(first.ops_port)):
                pass


async def test_a_loop_survives_a_failing_turn_and_readiness_tells() -> None:
    turns: list[int] = []

    async def turn() -> bool:
        turns.append(1)
        if len(turns) < 4:
            raise ValueError("a bug")
        await asyncio.Event().wait()
        return False

    supervisor = Supervisor("selector")
    task = asyncio.create_task(supervisor.run(Loop("odd", turn, pause_s=0.0)))
    async with asyncio.timeout(10):
        while len(turns) < 4:
            await asyncio.sleep(0.01)
    fault = supervisor.health["odd"].fault(0.0)
    task.cancel()
    assert "failing: ValueError: a bug" == fault


@pytest.mark.parametrize("steps", range(4))
async def test_a_loop_that_is_woken_while_it_is_ended_ends(steps: int) -> None:
    wake, turned = asyncio.Event(), asyncio.Event()

    async def turn() -> bool:
        turned.set()
        wake.clear()
        return False

    task = asyncio.create_task(Supervisor("selector").run(Loop("odd", turn, pause_s=60.0, wake=wake)))
    await turned.wait()
    await asyncio.sleep(0)
    wake.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    ended, _ = await asyncio.wait([task], timeout=5)
    task.cancel()
    assert {task} == ended


def test_a_loop_that_ends_no_turn_for_a_minute_is_a_fault() -> None:
    assert LoopHealth(succeeded_at=100.0).fault(130.0) is None
    assert "no turn has ended for a minute" == LoopHealth(succeeded_at=100.0).fault(161.0)


@pytest.mark.parametrize("service", SERVICES)
def test_a_start_without_settings_names_every_fault(
    service: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in tuple(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [service])

    with pytest.raises(SystemExit) as left:
        runpy.run_module(service, run_name="__main__")

    assert 2 == left.value.code
    told = capsys.readouterr().err
    for name in ("DATABASE_URL", "RABBITMQ_URL", "OPS_PORT", "SECRETS_KEYRING"):
        assert name in told

"""The health check of a container: 0 when the service is ready, else 1 and why."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from tests.conftest import REPOSITORY


@asynccontextmanager
async def service(status: int, text: str) -> AsyncIterator[int]:
    """A service whose /readyz answers this; gives its port."""

    async def readyz(_request: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    application = web.Application()
    application.router.add_get("/readyz", readyz)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def probe(port: int) -> tuple[int | None, str]:
    """As an image runs it: without the installed packages."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-m", "shared.probe"),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "libs"), "OPS_PORT": str(port)},
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await process.communicate()
    return process.returncode, told.decode()


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [(200, "ready", (0, "")), (503, '{"faults": "database"}', (1, '{"faults": "database"}\n'))],
)
async def test_the_check_ends_as_readiness_says(status: int, text: str, expected: tuple[int, str]) -> None:
    async with service(status, text) as port:
        assert expected == await probe(port)


async def test_a_service_that_does_not_answer_is_not_ready() -> None:
    async with service(200, "ready") as port:
        pass
    status, told = await probe(port)
    assert 1 == status
    assert "ConnectionRefusedError" in told

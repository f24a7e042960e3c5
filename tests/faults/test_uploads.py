"""Uploads while the gateway is killed, and how much memory a long one takes."""

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.workflow.uploads import LEASE_S
from localcluster.ports import claim_port
from shared.keyring import generate_key
from tests.conftest import REPOSITORY, Installation
from tests.integration.gateway.api_client import running_api
from tests.integration.gateway.test_api_uploads import CHUNK_TYPE, Site

pytestmark = pytest.mark.faults

PART = 256 * 1024
PIECE = 64 * 1024
LONG_BYTES = 400 * 1024 * 1024
MOST_EXTRA_MIB = 64


@asynccontextmanager
async def gateway(
    installation: Installation, port: int, **changes: Any
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The API as a process of its own, which answers when this yields."""
    arguments = [
        installation.database_url("gateway"),
        str(installation.folder),
        str(port),
        json.dumps(changes),
    ]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.gateway.upload_server", *arguments),
        cwd=REPOSITORY,
        env={"PYTHONPATH": f"{REPOSITORY}/services:{REPOSITORY}/libs"},
    )
    try:
        async with httpx2.AsyncClient() as client, asyncio.timeout(30):
            while not await answers(client, port):
                await asyncio.sleep(0.1)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def answers(client: httpx2.AsyncClient, port: int) -> bool:
    try:
        return (await client.options(f"http://127.0.0.1:{port}/v1/uploads")).status_code == 204
    except httpx2.TransportError:
        return False


@asynccontextmanager
async def customer_site(installation: Installation, port: int, **changes: Any) -> AsyncIterator[Site]:
    """A client of the API on that port; the store and the rows are looked at from here."""
    async with running_api(installation.database_url("gateway"), installation.folder, **changes) as app:
        customer = await app.register()
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=customer.headers, timeout=60
        ) as client:
            yield Site(app, port, client, customer)


async def test_a_gateway_killed_in_the_middle_of_a_chunk_loses_no_more_than_a_part(
    installation: Installation,
) -> None:
    content = random.Random(4).randbytes(10 * PART + 17)
    port, settings = claim_port(), {"upload_part_bytes": PART, "secrets_keyring": generate_key()}
    async with customer_site(installation, port, **settings) as site:
        async with gateway(installation, port, **settings) as first:
            path = await site.begin(len(content))
            writing = await site.connect(path, offset=0, length=len(content))
            await writing.send(content[: 6 * PART + PART // 2])
            await site.until_offset(path, 6 * PART)
            first.kill()
            await first.wait()
        async with gateway(installation, port, **settings):
            assert 6 * PART == await site.offset(path)
            held = await site.send(path, 6 * PART, content[6 * PART :])
            assert 423 == held.status_code
            async with asyncio.timeout(LEASE_S + 10):
                while (await site.send(path, 6 * PART, content[6 * PART :])).status_code == 423:
                    await asyncio.sleep(1)
        assert content == await site.stored(path)


async def test_a_long_upload_takes_the_memory_of_a_part_and_not_its_own(installation: Installation) -> None:
    port, settings = claim_port(), {"secrets_keyring": generate_key()}
    async with (
        customer_site(installation, port, **settings) as site,
        gateway(installation, port, **settings) as process,
    ):
        path = await site.begin(LONG_BYTES)
        before_mib = peak_mib(process)
        answer = await site.client.patch(
            path, content=pieces(), headers={"Upload-Offset": "0", "Content-Type": CHUNK_TYPE}
        )
        extra_mib = peak_mib(process) - before_mib
    assert 204 == answer.status_code
    assert extra_mib <= MOST_EXTRA_MIB


async def pieces() -> AsyncIterator[bytes]:
    for _ in range(LONG_BYTES // PIECE):
        yield bytes(PIECE)


def peak_mib(process: asyncio.subprocess.Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) >> 10

"""The gateway's API on a real port, in this process or, as a program that can be killed, in another."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from shared.http_server import HttpServer
from tests.integration.gateway.api_client import GatewayApp, running_api


@asynccontextmanager
async def served_api(
    database_url: str, folder: Path, *, port: int = 0, **changes: Any
) -> AsyncIterator[tuple[GatewayApp, int]]:
    async with running_api(database_url, folder, **changes) as app:
        server = HttpServer(app.app, host="127.0.0.1", port=port)
        await server.start()
        try:
            yield app, server.port
        finally:
            await server.stop()


async def _serve(database_url: str, folder: str, port: str, changes: str) -> None:
    async with served_api(database_url, Path(folder), port=int(port), **json.loads(changes)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))

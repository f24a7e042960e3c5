"""A customer's secure proxy: the headers of a request reach it with every fetch, and nobody and nothing else."""

import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from sandbox.film import make_film
from sandbox.http_server import HttpServer
from sandbox.origin import HlsOrigin
from shared.events import SegmentReady, StreamEnded, StreamOnline
from tests.conftest import Installation
from tests.integration.gateway.api_client import running_api
from tests.integration.ingest import test_following
from tests.integration.ingest.test_following import bench_for

pytestmark = pytest.mark.needs_ffmpeg

HEADERS = {
    "X-Encrypted-URL": "s3cret-place",
    "X-Encryption-Key": "s3cret-key",
    "Authorization": "Bearer s3cret-token",
}


class SecureProxy(HlsOrigin):
    """Serves only those who bring the headers; sends every second segment's reader on to another origin."""

    def __init__(self, film: Path, cdn: "Cdn") -> None:
        super().__init__(film, speed=20, initial_segments=2)
        self.cdn = cdn
        self.refused = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if not HEADERS.items() <= dict(request.headers).items():
            self.refused += 1
            return web.Response(status=401)
        if request.path.endswith(".ts") and int(request.path[-4]) % 2:
            raise web.HTTPFound(self.cdn.base_url + request.path)
        return await super().serve(request)


class Cdn(HttpServer):
    """Another origin, with the same segments; keeps the headers of whoever came."""

    def __init__(self) -> None:
        super().__init__(host="127.0.0.1", port=0)
        self.proxy: SecureProxy | None = None
        self.headers: list[dict[str, str]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        assert self.proxy is not None
        return await HlsOrigin.serve(self.proxy, request)


async def test_a_secure_proxys_headers_go_to_it_alone_and_are_told_nowhere(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = make_film(tmp_path / "film.mp4", duration_s=12)
    async with Cdn() as cdn, SecureProxy(film, cdn) as proxy:
        cdn.proxy = proxy
        with capture_logs() as logs:
            online, answers = await submitted(installation, proxy, monkeypatch)
            async with bench_for(installation, proxy, cdn) as bench:  # type: ignore[arg-type]
                await bench.handle(bench.intake.on_stream_online, online)
                proxy.go_live()
                await bench.until_ended(bench.replica("a"))
                segments = await bench.value("SELECT count(*) FROM ingest.segments")
                ready, ended = await bench.events(SegmentReady), await bench.events(StreamEnded)
    assert (0, len(proxy.window.segments), len(proxy.window.segments) // 2) == (
        proxy.refused,
        segments,
        len(cdn.headers),
    )
    assert [set()] * len(cdn.headers) == [HEADERS.keys() & headers.keys() for headers in cdn.headers]
    told = [answers, logs, [each.model_dump_json() for each in (online, *ready, *ended)]]
    assert "s3cret" not in json.dumps(told, default=str)
    stored = await everything_stored(installation)
    assert online.stream_id in stored and "s3cret" not in stored


async def submitted(
    installation: Installation, proxy: SecureProxy, monkeypatch: pytest.MonkeyPatch
) -> tuple[StreamOnline, list[Any]]:
    """By the API, with the check on: the event, and what the API told."""
    changes = {"outbound_allow": proxy.base_url.removeprefix("http://"), "source_check_s": 2}
    async with running_api(installation.database_url("gateway"), installation.folder, **changes) as app:
        monkeypatch.setattr(test_following, "KEYRING", app.keyring)
        customer = await app.register()
        body = await app.submit(customer, source_url=proxy.url, options={"custom_headers": HEADERS})
        listed = await app.client.get("/v1/streams", headers=customer.headers)
        [event] = await app.emitted("stream.online")
        return StreamOnline.model_validate(event), [body, listed.json(), event]


async def everything_stored(installation: Installation) -> str:
    """All rows of all tables of both services, as text."""
    connection = await asyncpg.connect(installation.admin_url)
    try:
        tables = await connection.fetch(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables "
            "WHERE schemaname IN ('gateway', 'ingest')"
        )
        rows = [await connection.fetch(f"SELECT t::text FROM {table['name']} t") for table in tables]
        return "\n".join(row[0] for found in rows for row in found)
    finally:
        await connection.close()

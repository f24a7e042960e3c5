"""The double of 100ms' API: its token, shapes, paging, control of streams, recordings and faults."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.domain.hundredms_token import ApiCredentials, management_token
from sandbox.hundredms import Beam
from sandbox.hundredms_api import Fault, HundredmsApi

SAMPLES = Path(__file__).resolve().parents[3] / ".." / "shared" / "samples" / "100ms" / "api"
CREDENTIALS = ApiCredentials("the-access-key", "the-app-secret")
BEAM = Beam(stream_url="https://cdn.example/master.m3u8", started_at=datetime(2026, 1, 2, tzinfo=UTC))


class Caller:
    def __init__(self, api: HundredmsApi, session: aiohttp.ClientSession) -> None:
        self._api = api
        self._session = session

    async def call(self, method: str, path: str, *, token: str | None = None) -> tuple[int, Any]:
        token = token or management_token(CREDENTIALS, token_id="t", now=datetime.now(UTC))
        headers = {"Authorization": f"Bearer {token}"}
        async with self._session.request(method, f"{self._api.url}{path}", headers=headers) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str) -> Any:
        status, body = await self.call("GET", path)
        assert 200 == status, body
        return body


@asynccontextmanager
async def double(**options: Any) -> AsyncIterator[tuple[HundredmsApi, Caller]]:
    keys = {"access_key": CREDENTIALS.access_key, "app_secret": CREDENTIALS.app_secret}
    async with HundredmsApi(**keys, **options) as api, aiohttp.ClientSession(trust_env=False) as session:
        yield api, Caller(api, session)


async def test_only_a_management_token_opens_it() -> None:
    async with double() as (api, caller):
        status, body = await caller.call("GET", "/live-streams", token="a.b.c")
        assert (401, 401) == (status, body["code"])
        assert [] == (await caller.get("/live-streams"))["data"]
        assert 1 == len(api.refusals)


async def test_live_streams_have_the_documented_keys() -> None:
    if not SAMPLES.is_dir():
        pytest.skip("the samples of 100ms' documentation are not beside the repository")
    documented = json.loads((SAMPLES / "live-stream.list.response.json").read_text())
    async with double() as (api, caller):
        api.go_live(BEAM)
        shown = await caller.get("/live-streams?status=running")
    assert set(documented) == set(shown)
    assert set(documented["data"][0]) == set(shown["data"][0])


async def test_lists_are_filtered_and_paged_by_the_last_id() -> None:
    async with double(page=2) as (api, caller):
        lives = [api.go_live(BEAM) for _ in range(5)]
        api.end(lives[0])
        found, start = [], ""
        for _ in range(3):
            page = await caller.get(f"/live-streams?status=running&limit=100&start={start}")
            found += [each["id"] for each in page["data"]]
            start = page["last"]
        assert [each.id for each in lives[1:]] == found
        assert [] == (await caller.get("/live-streams?session_id=another"))["data"]


async def test_streams_are_started_and_stopped_as_by_a_customers_server() -> None:
    async with double(stream_url=BEAM.stream_url) as (_, caller):
        _, started = await caller.call("POST", "/live-streams/room/room-1/start")
        assert ("starting", BEAM.stream_url) == (started["status"], started["playback"]["url"])
        assert "room-1" == (await caller.get("/active-rooms/room-1"))["id"]
        await caller.call("POST", "/live-streams/room/room-1/stop")
        assert "completed" == (await caller.get(f"/live-streams/{started['id']}"))["status"]
        assert 404 == (await caller.call("GET", "/active-rooms/room-1"))[0]
        assert 404 == (await caller.call("POST", f"/live-streams/{started['id']}/stop"))[0]


async def test_recordings_open_by_their_presigned_address_in_ranges() -> None:
    async with double() as (api, caller):
        asset = api.record(BEAM, b"0123456789", duration_s=5)
        listed = await caller.get(f"/recording-assets?session_id={BEAM.session_id}&type=room-composite")
        signed = await caller.get(f"/recording-assets/{asset.id}/presigned-url?presign_duration=60")
        assert [asset.id] == [each["id"] for each in listed["data"]]
        assert 60 == signed["expiry"]
        async with aiohttp.ClientSession() as session:
            async with session.get(signed["url"], headers={"Range": "bytes=2-4"}) as answer:
                assert (206, b"234", "bytes 2-4/10") == (
                    answer.status,
                    await answer.read(),
                    answer.headers["Content-Range"],
                )
            async with session.get(signed["url"] + "0") as answer:
                assert 403 == answer.status


async def test_faults_answer_in_its_place_once_each() -> None:
    async with double() as (api, caller):
        api.faults.extend([Fault(status=429), Fault(status=500)])
        statuses = [(await caller.call("GET", "/live-streams"))[0] for _ in range(3)]
    assert [429, 500, 200] == statuses


async def test_failed_webhooks_are_listed_in_pages() -> None:
    async with double() as (api, caller):
        api.failed_webhooks[:] = [{"event_id": str(number)} for number in range(3)]
        page = await caller.get("/analytics/webhooks?status=failed&limit=2&page=2")
    assert ["2"] == [each["event_id"] for each in page["events"]]
    assert (2, False) == (page["pagination"]["total_pages"], page["pagination"]["has_next"])

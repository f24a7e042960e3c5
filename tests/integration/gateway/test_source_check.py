"""Sources looked at over real HTTP when they are submitted, and what the answer, the row and the event then say."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from sandbox.http_server import HttpServer
from sandbox.twitch import Channel, TwitchDouble
from shared.database import Database
from tests.integration.gateway.api_client import Customer, GatewayApp, running_api

HEADERS = {
    "X-Encrypted-URL": "s3cret-place",
    "X-Encryption-Key": "s3cret-key",
    "Authorization": "Bearer s3cret",
}
STARTED_AT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


class Origin(HttpServer):
    """Answers each path as `answers` says, and keeps what was asked."""

    def __init__(self) -> None:
        super().__init__(host="127.0.0.1", port=0)
        self.answers: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {}
        self.asked: list[web.Request] = []

    @property
    def place(self) -> str:
        return urlsplit(self.base_url).netloc

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        handler = self.answers.get(request.path)
        return await handler(request) if handler else web.Response(status=404)

    def serves(
        self, path: str, body: bytes, content_type: str = "application/octet-stream", **more: Any
    ) -> str:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(body=body, content_type=content_type, **more)

        self.answers[path] = answer
        return self.base_url + path


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as started:
        yield started


@asynccontextmanager
async def checking(
    database: Database, folder: Path, *servers: HttpServer, **changes: Any
) -> AsyncIterator[GatewayApp]:
    allow = ",".join(urlsplit(server.base_url).netloc for server in servers)
    settings = {"source_check_s": 5.0, "outbound_allow": allow} | changes
    async with running_api(database.url, folder, **settings) as app:
        yield app


@pytest.fixture
async def app(emptied_database: Database, tmp_path: Path, origin: Origin) -> AsyncIterator[GatewayApp]:
    async with checking(emptied_database, tmp_path, origin) as started:
        yield started


async def refused(app: GatewayApp, customer: Customer, url: str) -> str:
    answer = await app.client.post("/v1/streams", json={"source_url": url}, headers=customer.headers)
    assert 422 == answer.status_code, answer.text
    return str(answer.json()["detail"])


async def test_a_playlist_that_answers_head_is_asked_for_nothing_more(
    app: GatewayApp, origin: Origin
) -> None:
    url = origin.serves("/live.m3u8", b"#EXTM3U\n", "application/vnd.apple.mpegurl")
    body = await app.submit(await app.register(), source_url=url)

    assert {"status": "reachable", "detail": "the source answered"} == body["source_check"]
    assert ["HEAD"] == [request.method for request in origin.asked]


async def test_a_server_that_knows_no_head_is_asked_for_the_first_bytes(
    app: GatewayApp, origin: Origin
) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.method == "HEAD":
            return web.Response(status=405)
        return web.Response(body=b"#EXTM3U\n" + bytes(2_000_000))

    origin.answers["/live.m3u8"] = answer
    body = await app.submit(await app.register(), source_url=origin.base_url + "/live.m3u8")

    assert {"status": "reachable", "detail": "the source answered with a playlist"} == body["source_check"]
    assert [("HEAD", None), ("GET", "bytes=0-4095")] == [
        (request.method, request.headers.get("Range")) for request in origin.asked
    ]


async def test_the_kind_of_an_address_that_says_nothing_is_told_by_its_bytes(
    app: GatewayApp, origin: Origin
) -> None:
    customer = await app.register()
    file = await app.submit(customer, source_url=origin.serves("/1", b"\0\0\0\x20ftypisom"))
    playlist = await app.submit(customer, source_url=origin.serves("/2", b"#EXTM3U\n", "text/plain"))

    events = await app.emitted("stream.online")
    assert ["file", "hls"] == [file["source_kind"], playlist["source_kind"]]
    assert [("file", "vod"), ("hls", "live")] == [
        (event["source"]["kind"], event["lane"]) for event in events
    ]


async def test_an_empty_file_is_no_web_page_though_its_server_says_so_with_one(
    app: GatewayApp, origin: Origin
) -> None:
    url = origin.serves("/live", b"<html>416", "text/html", status=416)
    body = await app.submit(await app.register(), source_url=url)

    assert {"status": "reachable", "detail": "the source answered"} == body["source_check"]


async def test_a_stream_that_is_not_there_yet_is_accepted_and_says_so(
    app: GatewayApp, origin: Origin
) -> None:
    customer = await app.register()
    missing = await app.submit(customer, source_url=origin.base_url + "/live.m3u8")
    place = origin.place
    await origin.close()
    away = await app.submit(customer, source_url=f"http://{place}/live.m3u8")

    assert ("pending", "unreachable", "the source answered 404") == (
        missing["status"],
        missing["source_check"]["status"],
        missing["source_check"]["detail"],
    )
    assert ("pending", "unreachable") == (away["status"], away["source_check"]["status"])
    read = await app.client.get(f"/v1/streams/{missing['id']}", headers=customer.headers)
    assert missing == read.json()


async def test_a_source_that_hangs_holds_the_answer_up_for_the_time_that_is_set(
    emptied_database: Database, tmp_path: Path, origin: Origin
) -> None:
    released = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    origin.answers["/live.m3u8"] = hang
    async with checking(emptied_database, tmp_path, origin, source_check_s=0.5) as app:
        customer = await app.register()
        began = monotonic()
        body = await app.submit(customer, source_url=origin.base_url + "/live.m3u8")
        took_s = monotonic() - began
    released.set()
    assert "unreachable" == body["source_check"]["status"]
    assert 0.4 < took_s < 8


async def test_a_web_page_is_refused_with_words_that_help(app: GatewayApp, origin: Origin) -> None:
    customer = await app.register()
    url = origin.serves("/watch/17", b"<!doctype html><html>", "text/html")

    assert "this is a web page: give the address of the media itself, such as its .m3u8" == await refused(
        app, customer, url
    )
    assert [] == await app.rows("SELECT 1 FROM streams", customer)


async def test_a_redirect_to_the_inside_is_refused(app: GatewayApp, origin: Origin) -> None:
    async def answer(_: web.Request) -> web.Response:
        raise web.HTTPFound("http://169.254.169.254/latest/meta-data")

    origin.answers["/live.m3u8"] = answer
    assert "not a public address" in await refused(app, await app.register(), origin.base_url + "/live.m3u8")


async def test_a_replay_by_its_key_looks_at_nothing(app: GatewayApp, origin: Origin) -> None:
    customer = await app.register()
    request = {"source_url": origin.serves("/live.m3u8", b"#EXTM3U\n")}
    headers = customer.headers | {"Idempotency-Key": "once"}

    first = await app.client.post("/v1/streams", json=request, headers=headers)
    looks = len(origin.asked)
    second = await app.client.post("/v1/streams", json=request, headers=headers)
    other = await app.client.post("/v1/streams", json=request | {"title": "x"}, headers=headers)

    assert (first.json(), 422) == (second.json(), other.status_code)
    assert (1, 1) == (looks, len(origin.asked))


async def test_the_same_address_without_a_key_makes_a_second_stream(app: GatewayApp, origin: Origin) -> None:
    customer = await app.register()
    url = origin.serves("/live.m3u8", b"#EXTM3U\n")

    first, second = [await app.submit(customer, source_url=url) for _ in range(2)]

    assert first["id"] != second["id"]
    assert 2 == len(await app.emitted("stream.online"))


async def test_custom_headers_reach_the_source_and_are_told_nowhere(app: GatewayApp, origin: Origin) -> None:
    customer = await app.register()
    async with Origin() as elsewhere:
        # Another port is another origin; where it is not allowed, the redirect ends there.
        async def away(_: web.Request) -> web.Response:
            raise web.HTTPFound(f"http://{elsewhere.place}/x.m3u8")

        origin.answers["/live.m3u8"] = away
        with capture_logs() as logs:
            answer = await app.client.post(
                "/v1/streams",
                json={"source_url": origin.base_url + "/live.m3u8", "options": {"custom_headers": HEADERS}},
                headers=customer.headers,
            )
        assert (422, []) == (answer.status_code, elsewhere.asked)
    url = origin.serves("/own.m3u8", b"#EXTM3U\n")
    with capture_logs() as more_logs:
        body = await app.submit(customer, source_url=url, options={"custom_headers": HEADERS})
    listed = await app.client.get("/v1/streams", headers=customer.headers)
    told = [logs, more_logs, answer.json(), body, listed.json(), await app.emitted("stream.online")]
    assert all(HEADERS.items() <= request.headers.items() for request in origin.asked)
    assert 2 == len(origin.asked)
    assert "s3cret" not in json.dumps(told, default=str)


async def test_headers_are_gone_after_a_redirect_to_another_origin(
    emptied_database: Database, tmp_path: Path, origin: Origin
) -> None:
    async with Origin() as elsewhere, checking(emptied_database, tmp_path, origin, elsewhere) as app:
        target = elsewhere.serves("/x.m3u8", b"#EXTM3U\n")

        async def away(_: web.Request) -> web.Response:
            raise web.HTTPFound(target)

        origin.answers["/live.m3u8"] = away
        await app.submit(
            await app.register(),
            source_url=origin.base_url + "/live.m3u8",
            options={"custom_headers": HEADERS},
        )
        assert HEADERS.items() <= origin.asked[0].headers.items()
        assert [set()] == [HEADERS.keys() & request.headers.keys() for request in elsewhere.asked]


async def test_a_twitch_channel_brings_title_game_and_start(
    emptied_database: Database, tmp_path: Path
) -> None:
    channel = Channel("SomeBody", title="Finals", game_name="Chess", started_at=STARTED_AT)
    async with (
        TwitchDouble({"somebody": channel}) as twitch,
        with_twitch(emptied_database, tmp_path, twitch) as app,
    ):
        customer = await app.register()
        taken = await app.submit(customer, source_url="https://twitch.tv/SomeBody")
        own = await app.submit(customer, source_url="https://twitch.tv/SomeBody", title="mine")

        first, second = await app.emitted("stream.online")
    assert ("Finals", "mine", "twitch", "Chess") == (
        taken["title"],
        own["title"],
        taken["platform"],
        taken["game_name"],
    )
    for event in (first, second):
        assert ("twitch", "twitch", "SomeBody", "Chess") == (
            event["source"]["kind"],
            event["platform"],
            event["channel_name"],
            event["game_name"],
        )
        assert STARTED_AT == datetime.fromisoformat(event["started_at"])
    assert 1 == twitch.calls.tokens


async def test_a_token_that_was_revoked_is_renewed_once(emptied_database: Database, tmp_path: Path) -> None:
    async with (
        TwitchDouble({"somebody": Channel("S")}) as twitch,
        with_twitch(emptied_database, tmp_path, twitch) as app,
    ):
        customer = await app.register()
        await app.submit(customer, source_url="https://twitch.tv/somebody")
        twitch.revoke()
        body = await app.submit(customer, source_url="https://twitch.tv/somebody")
    assert ("S is not live just now", 2) == (body["source_check"]["detail"], twitch.calls.tokens)


async def test_a_channel_that_twitch_does_not_know_is_refused(
    emptied_database: Database, tmp_path: Path
) -> None:
    async with TwitchDouble({}) as twitch, with_twitch(emptied_database, tmp_path, twitch) as app:
        detail = await refused(app, await app.register(), "https://twitch.tv/nobody")
    assert "Twitch has no channel nobody" == detail


async def test_a_twitch_api_that_fails_blocks_no_submission(
    emptied_database: Database, tmp_path: Path
) -> None:
    async with TwitchDouble({}) as twitch, with_twitch(emptied_database, tmp_path, twitch) as app:
        customer = await app.register()
        twitch.status = 503
        failing = await app.submit(customer, source_url="https://twitch.tv/somebody")
        twitch.client_secret = "another"
        twitch.revoke()
        refusing = await app.submit(customer, source_url="https://twitch.tv/somebody")
        await twitch.close()
        away = await app.submit(customer, source_url="https://twitch.tv/somebody")
    assert ["unchecked"] * 3 == [body["source_check"]["status"] for body in (failing, refusing, away)]
    assert "Unknown" == (await first_event(emptied_database, tmp_path))["game_name"]


async def first_event(database: Database, folder: Path) -> dict[str, Any]:
    async with running_api(database.url, folder) as app:
        return (await app.emitted("stream.online"))[0]


@asynccontextmanager
async def with_twitch(database: Database, folder: Path, twitch: TwitchDouble) -> AsyncIterator[GatewayApp]:
    access = {
        "twitch_client_id": twitch.client_id,
        "twitch_client_secret": twitch.client_secret,
        "twitch_api_url": twitch.api_url,
        "twitch_token_url": twitch.token_url,
    }
    async with checking(database, folder, twitch, **access) as app:
        yield app


async def test_an_external_id_is_kept_given_back_and_listed_by(app: GatewayApp, origin: Origin) -> None:
    customer, other = await app.register(), await app.register("other")
    url = origin.serves("/live.m3u8", b"#EXTM3U\n")
    named = [await app.submit(customer, source_url=url, external_id="match-17") for _ in range(2)]
    await app.submit(customer, source_url=url, external_id="match-18")
    await app.submit(other, source_url=url, external_id="match-17")

    listed = await app.client.get("/v1/streams", params={"external_id": "match-17"}, headers=customer.headers)

    assert ["match-17"] * 2 == [body["external_id"] for body in named]
    assert (2, {body["id"] for body in named}) == (
        listed.json()["total"],
        {item["id"] for item in listed.json()["items"]},
    )
    assert ["match-17", "match-17", "match-18", "match-17"] == [
        event["external_id"] for event in await app.emitted("stream.online")
    ]

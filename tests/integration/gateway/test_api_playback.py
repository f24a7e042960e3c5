"""Playlists of highlights by signed link: who may read them, from where, for how long, and what they lead to."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
from structlog.testing import capture_logs

from gateway.domain.playback_link import sign_link
from shared.database import Database
from shared.events import SegmentRef
from shared.ids import HighlightId, OrganizationId
from tests.builders import segment_ref
from tests.integration.gateway.api_client import Customer, GatewayApp, running_api

HIGHLIGHT = """
INSERT INTO highlights (highlight_id, organization_id, stream_id, run, revision, start_us, end_us, peak_us,
                        score, confidence, type, title, segments)
VALUES (:id, :organization, :stream, 0, 0, 3000000, 9000000, 5000000, 0.9, 0.8, 'clutch', 'A clutch',
        CAST(:segments AS jsonb)) RETURNING 1
"""
GOAL = "hl_goal"


@dataclass(frozen=True)
class Owner:
    """A customer with a confirmed highlight whose clip is not there yet."""

    app: GatewayApp
    customer: Customer
    segments: tuple[SegmentRef, ...]

    async def shown(self) -> dict[str, Any]:
        answer = await self.app.client.get(f"/v1/highlights/{GOAL}", headers=self.customer.headers)
        assert answer.status_code == 200
        found: dict[str, Any] = answer.json()
        return found

    async def link(self) -> str:
        return str((await self.shown())["playback_url"])

    async def get(self, **headers: str) -> httpx2.Response:
        return await self.app.client.get(await self.link(), headers=headers)


async def owner_of(app: GatewayApp, segments: Sequence[SegmentRef], name: str = "owner") -> Owner:
    customer = await app.register(name)
    stream = await app.submit(customer)
    for one in segments:
        await app.base.store.put(one.key, f"media {one.sequence}".encode())
    await app.rows(
        HIGHLIGHT,
        customer,
        id=GOAL,
        organization=customer.organization_id,
        stream=stream["id"],
        segments=json.dumps([one.model_dump(mode="json") for one in segments]),
    )
    return Owner(app, customer, tuple(segments))


def segments_of_8s() -> list[SegmentRef]:
    return [segment_ref(n, start_us=n * 2_000_000) for n in range(8)]


@pytest.fixture
async def owner(gateway_app: GatewayApp) -> Owner:
    return await owner_of(gateway_app, segments_of_8s())


def addresses(playlist: str) -> list[str]:
    return [line for line in playlist.splitlines() if line and not line.startswith("#")]


async def test_a_highlight_is_playable_before_its_clip_is_there(owner: Owner) -> None:
    shown = await owner.shown()
    answer = await owner.get()

    assert (shown["clip_status"], shown["video_url"], shown["video_type"]) == ("pending", None, None)
    assert answer.headers["content-type"] == "application/vnd.apple.mpegurl"
    assert "#EXT-X-START:TIME-OFFSET=1.000000,PRECISE=YES" in answer.text
    bodies = [(await owner.app.client.get(url)).text for url in addresses(answer.text)]
    assert bodies == ["media 1", "media 2", "media 3", "media 4"]


async def test_the_addresses_are_made_anew_at_each_reading(owner: Owner) -> None:
    text = (await owner.get()).text
    assert all(
        "signature=" in url and url.startswith("http://test/objects/archive/") for url in addresses(text)
    )
    stored = await owner.app.rows("SELECT segments::text AS text FROM highlights", owner.customer)
    assert "signature" not in stored[0]["text"]


async def test_a_link_may_be_kept_for_less_long_than_what_it_leads_to(owner: Owner) -> None:
    answer = await owner.get()

    assert answer.headers["cache-control"] == "private, max-age=300"
    again = await owner.get(**{"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.text) == (304, "")
    assert (await owner.get(**{"If-None-Match": 'W/"other"'})).status_code == 200


async def test_head_tells_the_same_without_the_body(owner: Owner) -> None:
    link = await owner.link()
    asked, got = await owner.app.client.head(link), await owner.app.client.get(link)

    assert asked.status_code == 200
    for name in ("content-type", "etag", "cache-control"):
        assert asked.headers[name] == got.headers[name]


def changed(link: str, **changes: str) -> str:
    parts = urlsplit(link)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()} | changes
    return parts._replace(query=urlencode(query)).geturl()


async def test_a_changed_link_is_refused(owner: Owner) -> None:
    link = await owner.link()
    stranger = await owner.app.register("stranger")
    for wrong in (
        changed(link, signature="0" * 64),
        changed(link, expires="99999999999"),
        changed(link, organization=stranger.organization_id),
        link.replace(GOAL, "hl_other"),
    ):
        answer = await owner.app.client.get(wrong)
        assert (answer.status_code, answer.json()["detail"]) == (403, "The link is not valid")
    assert (await owner.app.client.get(link.partition("?")[0])).status_code == 422


def genuine_link(owner: Owner, *, organization: str, highlight: str, expires: int) -> str:
    secret = owner.app.settings.url_signing_secret.get_secret_value()
    signature = sign_link(
        OrganizationId(organization), HighlightId(highlight), expires=expires, secret=secret
    )
    query = urlencode({"organization": organization, "expires": expires, "signature": signature})
    return f"/v1/highlights/{highlight}/playlist.m3u8?{query}"


async def test_an_old_link_says_so(owner: Owner) -> None:
    link = genuine_link(owner, organization=owner.customer.organization_id, highlight=GOAL, expires=1_000)

    answer = await owner.app.client.get(link)

    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert answer.json()["detail"].startswith("The link has expired")


async def test_what_is_not_there_or_was_taken_back_or_is_anothers_is_not_found(owner: Owner) -> None:
    stranger = await owner.app.register("stranger")
    of_stranger = genuine_link(owner, organization=stranger.organization_id, highlight=GOAL, expires=2**40)
    unknown = genuine_link(
        owner, organization=owner.customer.organization_id, highlight="hl_none", expires=2**40
    )
    link = await owner.link()
    await owner.app.rows("UPDATE highlights SET retracted = true RETURNING 1", owner.customer)

    for missing in (of_stranger, unknown, link):
        answer = await owner.app.client.get(missing)
        assert (answer.status_code, answer.json()["detail"]) == (404, "Highlight not found")


@pytest.mark.parametrize("place", [1, 4], ids=["first", "last"])
async def test_media_that_is_not_kept_any_more_is_gone(owner: Owner, place: int) -> None:
    await owner.app.base.store.delete(owner.segments[place].key)

    answer = await owner.get()

    assert (answer.status_code, answer.json()["type"]) == (410, "urn:tldr:problem:gone")
    assert "not kept any more" in answer.json()["detail"]


async def test_the_playlist_has_all_the_names_of_the_api(owner: Owner) -> None:
    link = await owner.link()
    assert (await owner.app.client.get(link.replace("/v1/", "/api/v1/"))).status_code == 200


async def test_pages_of_any_origin_may_read_playlist_and_segments(
    gateway_database: Database, tmp_path: Path
) -> None:
    """Whatever the API itself allows: players run on the customers' own pages."""
    origin = {"Origin": "https://fans.example.org"}
    async with running_api(
        gateway_database.url, tmp_path, allowed_origins=("https://console.example.com",)
    ) as app:
        owner = await owner_of(app, segments_of_8s())
        link = await owner.link()
        playlist = await app.client.get(link, headers=origin)
        segment_url = addresses(playlist.text)[0]
        part = await app.client.get(segment_url, headers=origin | {"Range": "bytes=0-4"})
        old = await app.client.get(changed(link, expires="1"), headers=origin)
        for url in (link, segment_url):
            asked = await app.client.options(
                url,
                headers=origin
                | {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"},
            )
            assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, "*")
            assert "Range" in asked.headers["access-control-allow-headers"]
        api = await app.client.get("/health", headers=origin)

    assert (part.status_code, part.text) == (206, "media")
    assert "Content-Range" in part.headers["access-control-expose-headers"]
    for answer in (playlist, part, old):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
    assert playlist.headers["cross-origin-resource-policy"] == "cross-origin"
    assert "access-control-allow-origin" not in api.headers


async def test_requests_by_signed_link_are_counted_under_their_route(owner: Owner) -> None:
    with capture_logs() as lines:
        answer = await owner.get(Origin="https://fans.example.org")
        await owner.app.client.get(addresses(answer.text)[0], headers={"Origin": "https://fans.example.org"})

    routes = [line["route"] for line in lines if line["event"] == "request"]
    assert routes[1].endswith("/highlights/{highlight_id}/playlist.m3u8")
    assert routes[2] == "/objects/{key:path}"


async def test_a_moment_of_hours_can_be_fetched_for_as_long_as_it_plays(gateway_app: GatewayApp) -> None:
    hour_us = 3_600_000_000
    segments = [segment_ref(n, start_us=n * hour_us, duration_us=hour_us) for n in range(3)]
    owner = await owner_of(gateway_app, segments)
    await gateway_app.rows("UPDATE highlights SET end_us = 10800000000 RETURNING 1", owner.customer)

    urls = addresses((await owner.get()).text)

    until = int(parse_qs(urlsplit(urls[-1]).query)["expires"][0])
    link_until = int(parse_qs(urlsplit(await owner.link()).query)["expires"][0])
    assert len(urls) == 3
    assert until > link_until + 4 * 3600

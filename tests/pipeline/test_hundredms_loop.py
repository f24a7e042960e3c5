"""100ms' API and webhooks together, through the whole product: what webhooks lose is made good, nothing is doubled."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from sandbox.demo.customer import Customer
from sandbox.film import make_film
from sandbox.hundredms import Beam, HundredMs
from sandbox.hundredms_api import HundredmsApi
from sandbox.origin import HlsOrigin
from tests.conftest import Installation
from tests.pipeline.product import Product, customer_of, product, until, until_terminal

LENGTH_S = 16
ACCESS_KEY, APP_SECRET = "access-key-of-a-workspace", "app-secret-of-a-workspace"
SECRET, HEADER = "a-secret-of-sixteen-and-more", "X-100ms-Secret"
EVERY_S = 0.5


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=LENGTH_S, moments=())


@dataclass
class World:
    origin: HlsOrigin
    api: HundredmsApi
    product: Product
    customer: Customer
    sender: HundredMs

    def beam(self) -> Beam:
        return Beam(stream_url=self.origin.url, started_at=datetime.now(UTC))

    async def flowing(self) -> dict[str, Any] | None:
        """The one stream, once media of it is archived."""
        streams = await self.customer.streams()
        assert len(streams) <= 1, "one live stream became two"
        return next((each for each in streams if each["started_at"]), None)

    async def offline(self) -> int:
        """How often a stream was asked to end."""
        query = "SELECT count(*) FROM gateway.outbox WHERE event_name = 'stream.offline'"
        return int((await self.product.rows(query))[0][0])

    def close_playlist(self) -> None:
        """What is asked to end would drain for seconds where the playlist stays open."""
        self.origin.windows = tuple(replace(each, endlist=True) for each in self.origin.windows)


@asynccontextmanager
async def world(installation: Installation, film: Path) -> AsyncIterator[World]:
    async with (
        HlsOrigin(film, speed=10, endlist=False, initial_segments=1) as origin,
        HundredmsApi(access_key=ACCESS_KEY, app_secret=APP_SECRET) as api,
        product(
            installation,
            reachable=(origin.url, api.url),
            hundredms_api_url=api.url,
            hundredms_reconcile_s=str(EVERY_S),
            drain_s="1",
        ) as made,
        customer_of(made) as customer,
    ):
        url = await customer.connect_100ms(secret=SECRET, secret_header=HEADER)
        path = f"/v1/connections/100ms/{url.rpartition('/')[2]}/api-credentials"
        await customer.call("PUT", path, {"access_key": ACCESS_KEY, "app_secret": APP_SECRET})
        async with HundredMs(url, secret=SECRET, secret_header=HEADER) as sender:
            yield World(origin, api, made, customer, sender)


@pytest.mark.faults
async def test_a_stream_of_which_no_webhook_came_is_followed_and_ended(
    installation: Installation, film: Path
) -> None:
    async with world(installation, film) as made:
        made.origin.go_live()
        live, told_at = made.api.go_live(made.beam()), monotonic()
        stream = await until(made.flowing)
        followed_s = monotonic() - told_at
        await made.origin.ended.wait()
        made.api.end(live)
        await until(made.offline)
        made.close_playlist()
        stream = await until_terminal(made.customer, stream["id"])
        told = await made.offline()
    assert ("completed", False) == (stream["status"], stream["partial"]), stream["error"]
    assert 100.0 == stream["progress"]["coverage_pct"]
    assert 1 == told
    assert followed_s < 10 * EVERY_S


@pytest.mark.faults
async def test_webhooks_and_the_api_together_make_one_stream_with_its_recording_and_chat(
    installation: Installation, film: Path
) -> None:
    async with world(installation, film) as made:
        made.origin.go_live()
        beam = made.beam()
        live = made.api.go_live(beam)
        started, _ = await asyncio.gather(
            made.sender.send("hls.started.success", beam=beam), until(made.flowing)
        )
        assert started.delivered
        await made.origin.ended.wait()
        made.api.end(live)
        assert (await made.sender.send("hls.stopped.success", beam=beam)).delivered
        stream = (await made.customer.streams())[0]
        stream = await until_terminal(made.customer, stream["id"])
        await _record(made, beam)

        async def arrived() -> bool:
            query = "SELECT (SELECT count(*) FROM ingest.recordings), (SELECT count(*) FROM gateway.signals)"
            return [(1, 2)] == [tuple(row) for row in await made.product.rows(query)]

        await until(arrived)
        streams = await made.customer.streams()
    assert ["completed"] == [each["status"] for each in streams]
    assert "client request" == streams[0]["source_end"]


async def _record(made: World, beam: Beam) -> None:
    now = datetime.now(UTC).isoformat()
    chat = f"SentAt,SenderPeerID,Message\n{now},p1,what a goal\n{now},p2,wow\n"
    film, messages = made.api.record(beam, b"an MP4"), made.api.record(beam, chat.encode(), kind="chat")
    layer = {"layer": "0", "asset_id": film.id, "recording_presigned_url": made.api.address(film)}
    changes = {
        "recording_single_files": [layer],
        "chat_recording_presigned_url": made.api.address(messages),
    }
    assert (await made.sender.send("hls.recording.success", beam=beam, changes=changes)).delivered


@pytest.mark.faults
async def test_a_failure_at_100ms_leaves_a_partial_stream_that_says_so(
    installation: Installation, film: Path
) -> None:
    async with world(installation, film) as made:
        made.origin.go_live()
        beam = made.beam()
        made.api.go_live(beam)
        assert (await made.sender.send("hls.started.success", beam=beam)).delivered
        stream = await until(made.flowing)
        upload = {"error_type": "UPLOAD_ERROR", "error_message": "Failed to upload recordings."}
        assert (await made.sender.send("hls.failure", beam=beam, changes=upload)).delivered
        assert (await made.customer.stream(stream["id"]))["source_end"] is None
        assert (await made.sender.send("hls.failure", beam=beam)).delivered
        stream = await until_terminal(made.customer, stream["id"])
    assert ("completed", True, "source_failed") == (stream["status"], stream["partial"], stream["cause"])
    assert stream["source_end"].startswith("failure: INTERNAL_ERROR")
    assert "INTERNAL_ERROR" in stream["error"]

"""Wrong input gets a clear error or is parked with a reason, and nothing else stops."""

from pathlib import Path

import aio_pika
import aiohttp
import pytest
from aiohttp import web

from sandbox.demo.customer import ApiRefused, Customer
from sandbox.film import make_film
from sandbox.origin import HlsOrigin
from shared.contract import routing_key
from shared.events import Lane, SegmentReady
from tests.conftest import Installation
from tests.pipeline.product import Product, customer_of, product, until, until_terminal


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=20)


def html(_request: object) -> web.Response:
    return web.Response(text="<html>It works!</html>", content_type="text/html")


async def test_a_page_instead_of_a_playlist_ends_in_an_error_that_says_so(
    installation: Installation, film: Path
) -> None:
    async with (
        HlsOrigin(film) as origin,
        product(
            installation, reachable=(origin.url,), start_patience_s="1", stream_start_deadline_s="30"
        ) as made,
        customer_of(made) as customer,
    ):
        origin.faults[r".*\.m3u8"] = html
        stream = await customer.call("POST", "/v1/streams", {"source_url": origin.url})
        stream = await until_terminal(customer, stream["id"])
    assert "error" == stream["status"]
    assert "playlist" in stream["error"].lower()


async def test_an_unparsable_message_is_parked_and_the_stream_beside_it_completes(
    installation: Installation, film: Path
) -> None:
    async with (
        HlsOrigin(film, speed=10, initial_segments=1) as origin,
        product(installation, reachable=(origin.url,)) as made,
        customer_of(made) as customer,
    ):
        await _publish(made, b"{not json")
        origin.go_live()
        stream = await customer.call("POST", "/v1/streams", {"source_url": origin.url})
        stream = await until_terminal(customer, stream["id"])

        async def parked() -> list[object]:
            return await made.rows("SELECT code, reason FROM analyzer.inbox WHERE state = 'parked'")

        [row] = await until(parked)
    assert "completed" == stream["status"]
    assert "unparsable" == row["code"]
    assert "segment.ready" in row["reason"]


async def _publish(made: Product, body: bytes) -> None:
    async with await aio_pika.connect(made.installation.rabbitmq_url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange("tldr.events", ensure=False)
        await exchange.publish(aio_pika.Message(body), routing_key(SegmentReady.name, Lane.LIVE))


ADDRESSES = (
    ("not a url", "url"),
    ("ftp://example.com/a.m3u8", "ftp"),
    ("http://127.0.0.1:8080/a.m3u8", "127.0.0.1"),
    ("http://169.254.169.254/a.m3u8", "169.254.169.254"),
    ("https://user:pw@example.com/a.m3u8", "user"),
)


async def test_a_wrong_source_address_is_refused_with_a_reason(installation: Installation) -> None:
    async with product(installation) as made, customer_of(made) as customer:
        for url, told in ADDRESSES:
            with pytest.raises(ApiRefused) as refused:
                await customer.call("POST", "/v1/streams", {"source_url": url})
            assert 422 == refused.value.status
            assert told in refused.value.problem["detail"].lower()
        assert [] == await made.rows("SELECT 1 FROM gateway.streams")


async def test_wrong_keys_foreign_ids_and_broken_bodies_get_their_words(installation: Installation) -> None:
    async with product(installation) as made, customer_of(made) as owner, customer_of(made) as stranger:
        stream = await owner.call("POST", "/v1/streams", {"source_url": "https://example.com/a.m3u8"})
        path = f"/v1/streams/{stream['id']}"
        assert (404, "Stream not found") == await _refusal(stranger, "GET", path)
        assert (404, "Stream not found") == await _refusal(stranger, "GET", "/v1/streams/str_000000000000")
        assert (404, "Stream not found") == await _refusal(stranger, "POST", f"{path}/stop")
        async with Customer(made.api_url) as nobody:
            assert (401, "Missing API key") == await _refusal(nobody, "GET", path)
            nobody.use_key("tldr_live_wrong_key")
            assert (401, "Invalid API key") == await _refusal(nobody, "GET", path)
        async with aiohttp.ClientSession() as session:
            url = await owner.connect_100ms(secret="a" * 20, secret_header="X-Secret")
            async with session.post(url, data=b"{}", headers={"X-Secret": "b" * 20}) as answer:
                assert (401, "Invalid signature") == (answer.status, (await answer.json())["detail"])
            async with session.post(url, data=b"{not json", headers={"X-Secret": "a" * 20}) as answer:
                assert 400 == answer.status


async def _refusal(customer: Customer, method: str, path: str) -> tuple[int, str]:
    with pytest.raises(ApiRefused) as refused:
        await customer.call(method, path)
    return refused.value.status, refused.value.problem["detail"]

"""The cluster through its life: every part crashes during a stream, it goes down and comes up, it grows."""

import asyncio
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import pytest

from sandbox.demo.customer import Customer
from sandbox.film import make_film
from sandbox.hundredms import Beam, HundredMs
from sandbox.origin import HlsOrigin
from shared.contract import SERVICES
from tests.compose.conftest import Compose, fetched, until_terminal

pytestmark = pytest.mark.compose

SECRET = "a-secret-of-sixteen-and-more"
HEADER = "X-100ms-Secret"
# The object store crashes only where it keeps its objects; it is frozen instead, for some stand-ins do not.
CRASHED = (*SERVICES, "api", "redis", "rabbitmq", "postgres")
FROZEN_SEGMENTS = 4
# Of two seconds each: leases change hands within eight seconds, and this machine may be busy.
PLAYLIST_SEGMENTS = 10


async def judged_more(compose: Compose, *, within_s: float = 240) -> None:
    """Wait until one more window was judged: the stream went on."""
    query = "SELECT count(*) AS n FROM gateway.windows WHERE verdict IS NOT NULL"
    [before] = await compose.rows(query)
    async with asyncio.timeout(within_s):
        while (await compose.rows(query))[0]["n"] <= before["n"]:
            await asyncio.sleep(0.5)


async def crash(compose: Compose, container: str) -> None:
    """The engine starts it again by itself."""
    cluster = compose.cluster
    before = await asyncio.to_thread(cluster.starts, container)
    await asyncio.to_thread(cluster.crash, container)
    async with asyncio.timeout(60):
        while await asyncio.to_thread(cluster.starts, container) <= before:
            await asyncio.sleep(0.2)
    await compose.healthy()


async def freeze_the_object_store(compose: Compose, origin: HlsOrigin) -> None:
    """Away until some more segments were fetched: ingest keeps them in its spool meanwhile."""
    await asyncio.to_thread(compose.cluster.compose, "pause", "s3")
    try:
        before = len(fetched(origin.requests))
        async with asyncio.timeout(120):
            while len(fetched(origin.requests)) < before + FROZEN_SEGMENTS:
                await asyncio.sleep(0.2)
    finally:
        await asyncio.to_thread(compose.cluster.compose, "unpause", "s3")
    await compose.healthy()


async def check_whole(compose: Compose, customer: Customer, stream: dict[str, Any]) -> None:
    """Completed and covered, each clip there, nothing parked."""
    assert ("completed", False, None) == (stream["status"], stream["partial"], stream["error"]), stream
    assert 100.0 == stream["progress"]["coverage_pct"]
    assert 0 == stream["progress"]["gaps"]
    highlights = await customer.highlights(stream["id"])
    assert highlights
    async with aiohttp.ClientSession() as session:
        for each in highlights:
            async with session.get(each["video_url"]) as answer:
                assert 200 == answer.status
                assert b"ftyp" in (await answer.read())[:12]
    for service in SERVICES:
        parked = f"SELECT event_name, reason FROM {service}.inbox WHERE state = 'parked'"
        assert [] == await compose.rows(parked), service


async def test_a_stream_is_covered_whole_while_every_container_crashes(
    compose: Compose, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    film = await asyncio.to_thread(
        make_film,
        tmp_path / "film.mp4",
        duration_s=800,
        moments=tuple((at, at + 4.0) for at in (12.0, 100.0, 200.0, 300.0)),
    )
    # A lone ingest that starts anew takes longer than the source's playlist is long; another takes over in time.
    await asyncio.to_thread(compose.cluster.up, scale={"ingest": 2})
    async with (
        compose.outside.origin(film, window=PLAYLIST_SEGMENTS) as origin,
        compose.customer() as customer,
    ):
        url = await customer.connect_100ms(secret=SECRET, secret_header=HEADER)
        async with HundredMs(url, secret=SECRET, secret_header=HEADER) as sender:
            beam = Beam(stream_url=compose.outside.seen(origin.url), started_at=datetime.now(UTC))
            origin.go_live()
            assert (await sender.send("hls.started.success", beam=beam)).delivered
            await judged_more(compose)
            for service in CRASHED:
                for container in await asyncio.to_thread(compose.cluster.containers, service):
                    crashed_at = monotonic()
                    await crash(compose, container)
                    record_property(f"{service} healthy after s", round(monotonic() - crashed_at, 1))
                    await judged_more(compose)
            await freeze_the_object_store(compose, origin)
            await judged_more(compose)
            origin.end_live()
            assert (await sender.send("hls.stopped.success", beam=beam)).delivered
            [stream] = await customer.streams()
            stream = await until_terminal(customer, stream["id"])
        await check_whole(compose, customer, stream)


async def test_what_the_database_holds_survives_going_down_and_coming_up(
    compose: Compose, film: Path
) -> None:
    email, password = f"c-{secrets.token_hex(4)}@example.com", secrets.token_urlsafe(16)
    async with compose.outside.origin(film, speed=8, duration_s=40) as origin:
        async with Customer(compose.cluster.api_url) as customer:
            registered = await customer.call(
                "POST",
                "/v1/auth/register",
                {"email": email, "password": password, "company_name": "Compose"},
            )
            customer.use_key(registered["api_key"])
            origin.go_live()
            body = {"source_url": compose.outside.seen(origin.url)}
            stream = await customer.call("POST", "/v1/streams", body)
            before = await until_terminal(customer, stream["id"])

        await asyncio.to_thread(compose.cluster.down)
        await asyncio.to_thread(compose.cluster.up)

        async with Customer(compose.cluster.api_url) as customer:
            customer.use_key(registered["api_key"])
            after = await customer.stream(stream["id"])
            assert {key: before[key] for key in ("status", "progress", "duration")} == {
                key: after[key] for key in ("status", "progress", "duration")
            }
            # The source's address was sealed with the keyring of the first start.
            assert before["source_url"] == after["source_url"]
            again = await customer.call("POST", "/v1/streams", {**body, "title": "once more"})
            assert "completed" == (await until_terminal(customer, again["id"]))["status"]


async def test_every_service_runs_twice_and_a_stream_is_judged_once(compose: Compose, film: Path) -> None:
    try:
        await asyncio.to_thread(compose.cluster.up, scale=dict.fromkeys(SERVICES, 2))
        for service in SERVICES:
            assert 2 == len(await asyncio.to_thread(compose.cluster.containers, service))
        async with (
            compose.outside.origin(film, speed=4) as origin,
            compose.customer() as customer,
        ):
            origin.go_live()
            body = {"source_url": compose.outside.seen(origin.url)}
            stream = await customer.call("POST", "/v1/streams", body)
            stream = await until_terminal(customer, stream["id"])
            await check_whole(compose, customer, stream)
        duplicates = await compose.rows(
            "SELECT stream_id, epoch, sequence FROM ingest.segments GROUP BY 1, 2, 3 HAVING count(*) > 1"
        )
        assert [] == duplicates
        asked = await asyncio.gather(*(requests_answered(compose, index) for index in (1, 2)))
        assert all(count > 0 for count in asked), f"the proxy sent requests to one gateway only: {asked}"
    finally:
        await asyncio.to_thread(compose.cluster.up, scale=dict.fromkeys(SERVICES, 1))


async def requests_answered(compose: Compose, index: int) -> int:
    """How many requests one replica of the gateway has answered."""
    read = (
        "import re, urllib.request; "
        "text = urllib.request.urlopen('http://127.0.0.1:9100/metrics').read().decode(); "
        "print(sum(float(n) for n in re.findall(r'^tldr_http_requests_total.* ([0-9.e+]+)$', text, re.M)))"
    )
    told = await asyncio.to_thread(
        compose.cluster.compose, "exec", "-T", "--index", str(index), "gateway", "python", "-c", read
    )
    return int(float(told))

"""The cluster finds and cuts what a local installation finds and cuts in the same stream."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sandbox.demo.customer import Customer
from sandbox.film import read_frame_numbers
from sandbox.hundredms import Beam, HundredMs
from sandbox.origin import HlsOrigin
from tests.compose.conftest import FPS, MOMENTS, Compose, until_terminal
from tests.conftest import Installation
from tests.pipeline.product import customer_of, product

pytestmark = pytest.mark.compose

SECRET = "a-secret-of-sixteen-and-more"
HEADER = "X-100ms-Secret"
SPEED = 4


async def watch(customer: Customer, origin: HlsOrigin, *, stream_url: str) -> dict[str, Any]:
    """Put the origin on air, tell by 100ms, and wait for the stream's end."""
    url = await customer.connect_100ms(secret=SECRET, secret_header=HEADER)
    beam = Beam(stream_url=stream_url, started_at=datetime.now(UTC))
    async with HundredMs(url, secret=SECRET, secret_header=HEADER) as sender:
        origin.go_live()
        assert (await sender.send("hls.started.success", beam=beam)).delivered
        await origin.ended.wait()
        assert (await sender.send("hls.stopped.success", beam=beam)).delivered
    async with asyncio.timeout(60):
        while not (streams := await customer.streams()):
            await asyncio.sleep(0.2)
    return await until_terminal(customer, streams[0]["id"])


async def clips_of(customer: Customer, stream: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The highlights by their start, each with the numbers of the first and last frame of its clip."""
    folder.mkdir()
    found = sorted(await customer.highlights(stream["id"]), key=lambda each: each["start_s"])
    for each in found:
        path = folder / f"{each['id']}.mp4"
        await customer.fetch(each["video_url"], path)
        frames = read_frame_numbers(path)
        each["frames"] = (frames[0][1], frames[-1][1])
    return found


async def test_the_same_stream_gives_the_same_clips_as_on_this_machine(
    compose: Compose, installation: Installation, film: Path, tmp_path: Path
) -> None:
    outside = compose.outside
    async with (
        outside.origin(film, speed=SPEED) as origin,
        outside.receiver() as receiver,
        compose.customer() as customer,
    ):
        receiver.secrets[:] = [await customer.add_webhook(outside.seen(receiver.url))]
        stream = await watch(customer, origin, stream_url=outside.seen(origin.url))
        await receiver.wait_for(lambda one: one.type == "stream.completed", timeout_s=60)
        here = await clips_of(customer, stream, tmp_path / "compose")
        received = receiver.distinct()
    async with (
        HlsOrigin(film, speed=SPEED, initial_segments=1) as origin,
        product(installation, reachable=(origin.url,)) as made,
        customer_of(made) as customer,
    ):
        local = await watch(customer, origin, stream_url=origin.url)
        there = await clips_of(customer, local, tmp_path / "local")

    assert ("completed", False, 100.0) == _outcome(stream)
    assert ("completed", False, 100.0) == _outcome(local)
    assert len(there) == len(here) >= len(MOMENTS)
    for one, other in zip(here, there, strict=True):
        assert one["type"] == other["type"]
        assert one["start_s"] == pytest.approx(other["start_s"], abs=1 / FPS)
        assert one["end_s"] == pytest.approx(other["end_s"], abs=1 / FPS)
        assert one["frames"] == pytest.approx(other["frames"], abs=1)
        assert one["score"] == pytest.approx(other["score"], abs=0.02)
    assert all(one.verified for one in received)
    assert len(here) == [one.type for one in received].count("highlight.created")


def _outcome(stream: dict[str, Any]) -> tuple[str, bool, float]:
    return stream["status"], stream["partial"], stream["progress"]["coverage_pct"]

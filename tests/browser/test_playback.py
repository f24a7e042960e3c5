"""hls.js in Chromium plays a highlight's playlist from a page of another origin, from the exact picture on."""

import hashlib
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from playwright.async_api import Browser

from sandbox.film import make_film
from sandbox.origin import HlsOrigin
from sandbox.receiver import WebhookReceiver
from sandbox.segmenter import Container
from tests.browser.player import PlayerPage, state_of
from tests.browser.witness import Witness
from tests.conftest import Installation
from tests.pipeline.product import customer_of, product

pytestmark = pytest.mark.browser
FPS = 25
WITHIN_FRAMES = 2  # the picture is read a little after the clock


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=60, moments=((14.0, 18.0),))


@pytest.mark.parametrize("container", ["mpegts", "fmp4"])
async def test_a_highlight_plays_in_a_browser_as_soon_as_it_is_detected(
    installation: Installation, film: Path, browser: Browser, hls_js: Path, container: Container
) -> None:
    async with (
        HlsOrigin(film, speed=15, initial_segments=1, container=container) as origin,
        WebhookReceiver() as receiver,
        PlayerPage(hls_js) as player,
        product(installation, reachable=(origin.url, receiver.url)) as made,
        customer_of(made) as customer,
    ):
        receiver.secrets[:] = [await customer.add_webhook(receiver.url)]
        origin.go_live()
        await customer.call("POST", "/v1/streams", {"source_url": origin.url})
        detected = await receiver.wait_for(lambda one: one.type == "highlight.detected", timeout_s=60)
        highlight = detected.payload["data"]
        assert "hls" == highlight["video_type"]

        witness = await Witness.of(browser)
        page = witness.page
        await page.goto(f"{player.base_url}/?src={quote(highlight['video_url'], safe='')}")
        await page.wait_for_function("told.firstTime !== null && video.readyState >= 2")
        first, first_picture = await state_of(page), await page.locator("video").screenshot()
        await page.evaluate("video.play()")
        await page.wait_for_function(f"video.currentTime >= {first['time'] + 2}")
        await page.evaluate("video.pause()")
        second, second_picture = await state_of(page), await page.locator("video").screenshot()
        length_s = highlight["end_s"] - highlight["start_s"]
        await page.evaluate(f"video.currentTime = {first['time'] + length_s - 0.5}; video.play()")
        await page.wait_for_function("video.ended")
        last = await state_of(page)
        hosts = {urlsplit(player.base_url).netloc, urlsplit(made.api_url).netloc}

    starts_at = highlight["start_s"] * FPS
    assert [] == last["errors"]
    assert [] == witness.faults
    assert starts_at == pytest.approx(first["frame"], abs=WITHIN_FRAMES)
    assert first["time"] == pytest.approx(first["firstTime"], abs=0.05)
    moved = (second["time"] - first["time"]) * FPS
    assert moved == pytest.approx(second["frame"] - first["frame"], abs=2 * WITHIN_FRAMES)
    assert hashlib.sha256(first_picture).digest() != hashlib.sha256(second_picture).digest()
    assert last["frame"] + 1 >= round(highlight["end_s"] * FPS)
    assert hosts == witness.hosts

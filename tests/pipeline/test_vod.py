"""A VOD by its playlist: everything archived, everything analysed, the fight found and the credits not."""

import json

import pytest

from sandbox.origin import VodOrigin
from tests.conftest import SHARED, Installation
from tests.pipeline.product import customer_of, product, until_terminal

FOLDER = SHARED / "media" / "agent327_hls"


@pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the recording agent327_hls beside the repository")
async def test_a_vod_is_covered_whole_and_its_best_moments_are_found(installation: Installation) -> None:
    truth = json.loads((SHARED / "media" / "agent327.truth.json").read_text())
    async with (
        VodOrigin(FOLDER, playlist="360p.m3u8") as origin,
        product(installation, reachable=(origin.url,)) as made,
        customer_of(made) as customer,
    ):
        body = {"source_url": origin.url, "live": False}
        stream = await customer.call("POST", "/v1/streams", body)
        stream = await until_terminal(customer, stream["id"], timeout_s=120)
        highlights = await customer.highlights(stream["id"])
    assert ("completed", False, 100.0) == (
        stream["status"],
        stream["partial"],
        stream["progress"]["coverage_pct"],
    )
    assert truth["duration_s"] == pytest.approx(stream["duration"], abs=0.1)
    assert all("ready" == each["clip_status"] for each in highlights)
    fight = truth["moments"][0]["window"]
    assert any(fight[0] <= each["peak_s"] <= fight[1] for each in highlights)
    credits_start_s = truth["must_not_be_picked"][0]["window"][0]
    assert not [each for each in highlights if each["peak_s"] >= credits_start_s]

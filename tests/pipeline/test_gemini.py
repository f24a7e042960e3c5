"""The product with a model that understands, played by the double: what it finds, costs, and how its absence ends."""

import json
import subprocess
from pathlib import Path

import pytest

import shared.middleware
from analyzer.adapters import gemini_api
from analyzer.domain.gemini.breaker import Breaker
from sandbox.film import make_film
from sandbox.gemini import GeminiDouble, Refuse
from sandbox.origin import HlsOrigin, VodOrigin
from tests.conftest import Installation
from tests.pipeline.product import customer_of, product, until_terminal

EXCERPT = Path(__file__).resolve().parents[2] / "libs" / "sandbox" / "media" / "arena_excerpt.mp4"
KEY = "AIza-a-secret-key-of-the-operator"
PLAYLIST = "arena.m3u8"


@pytest.fixture(scope="module")
def vod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vod")
    options = ("-t", "45", "-c", "copy", "-f", "hls", "-hls_time", "4", "-hls_playlist_type", "vod")
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(EXCERPT), *options, str(folder / PLAYLIST)], check=True
    )
    return folder


async def test_a_vod_is_judged_by_gemini_and_its_cost_is_recorded(
    installation: Installation, vod: Path
) -> None:
    truth = json.loads(EXCERPT.with_suffix(".truth.json").read_text())
    async with (
        GeminiDouble(keys={KEY}) as gemini,
        VodOrigin(vod, playlist=PLAYLIST) as origin,
        product(
            installation, reachable=(origin.url,), gemini_api_key=KEY, gemini_base_url=gemini.base_url
        ) as made,
        customer_of(made) as customer,
    ):
        stream = await customer.call("POST", "/v1/streams", {"source_url": origin.url, "live": False})
        stream = await until_terminal(customer, stream["id"], timeout_s=120)
        highlights = await customer.highlights(stream["id"])
        verdicts = await made.rows("SELECT body FROM analyzer.outbox WHERE event_name = 'segment.analyzed'")
        everything = await made.rows(
            "SELECT body FROM analyzer.outbox UNION ALL SELECT body FROM gateway.outbox"
        )
        stored = await made.rows("SELECT * FROM gateway.windows")

    assert ("completed", False, 100.0) == (
        stream["status"],
        stream["partial"],
        stream["progress"]["coverage_pct"],
    )
    assert not stream["progress"]["degraded"]
    best = [each["window"] for each in truth["moments"] if each["rank"] <= 3]
    assert any(start <= each["peak_s"] <= end for each in highlights for start, end in best)
    assert all(each["title"].startswith("Seen by the double") for each in highlights)

    events = [json.loads(row["body"]) for row in verdicts]
    assert len(events) == len(gemini.asked) == len(stored)
    assert all(
        ("gemini", "analysed", True, 1)
        == (each["provider"], each["verdict"], each["cost_known"], each["model_calls"])
        for each in events
    )
    assert all(each["cost_microusd"] > 0 and each["snap_points_us"] for each in events)
    assert sum(each["cost_microusd"] for each in events) == sum(row["cost_microusd"] for row in stored)
    assert not [row for row in everything if KEY in row["body"]]


@pytest.mark.faults
async def test_a_stream_ends_with_the_reason_when_gemini_is_down_all_the_time(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared.middleware, "RETRY_DELAYS_S", (0.01,) * 4)
    monkeypatch.setattr(gemini_api, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(gemini_api, "Breaker", lambda: Breaker(open_s=0.01))
    film = make_film(tmp_path / "film.mp4", duration_s=20, moments=((8.0, 12.0),))
    async with (
        GeminiDouble() as gemini,
        HlsOrigin(film, speed=10, initial_segments=1) as origin,
        product(
            installation, reachable=(origin.url,), gemini_api_key=KEY, gemini_base_url=gemini.base_url
        ) as made,
        customer_of(made) as customer,
    ):
        gemini.always["generate"] = Refuse(503, "UNAVAILABLE", "The model is overloaded.")
        origin.go_live()
        stream = await customer.call("POST", "/v1/streams", {"source_url": origin.url})
        stream = await until_terminal(customer, stream["id"], timeout_s=90)
        verdicts = await made.rows("SELECT body FROM analyzer.outbox WHERE event_name = 'segment.analyzed'")

    assert stream["progress"]["windows_failed"] == len(verdicts) > 0
    assert 0 == stream["progress"]["coverage_pct"]
    assert "provider_unavailable" in stream["error"]
    assert "Gemini answered 503" in stream["error"]
    assert ("completed", True, "analysis_failed") == (stream["status"], stream["partial"], stream["cause"])
    for row in verdicts:
        verdict = json.loads(row["body"])
        assert ("gemini", "failed", []) == (verdict["provider"], verdict["verdict"], verdict["candidates"])
    attempts = len(verdicts) * shared.middleware.MAX_ATTEMPTS
    assert attempts <= len(gemini.asked) <= attempts * gemini_api.TRIES

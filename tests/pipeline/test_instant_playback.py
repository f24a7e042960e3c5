"""A stream as transport stream and as fragmented MP4: playable at confirmation, the same highlights, exact clips."""

import asyncio
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ingest.domain.playlist import MediaPlaylist, parse_playlist
from sandbox.demo.customer import Customer
from sandbox.film import make_film, read_frame_numbers, sync_error_s
from sandbox.origin import HlsOrigin
from sandbox.receiver import WebhookReceiver
from tests.conftest import Installation
from tests.pipeline.product import customer_of, product, until_terminal

FPS = 25
FRAME_S = 1 / FPS
MOMENT = (14.0, 18.0)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=60, moments=(MOMENT,))


@dataclass(frozen=True)
class Outcome:
    """What one of the two streams came to: `at_once` is the playlist as it was at `highlight.detected`."""

    detected: dict[str, Any]
    at_once: MediaPlaylist
    highlights: list[dict[str, Any]]
    played: Path
    clip: Path


async def test_a_highlight_plays_before_its_clip_and_is_the_same_in_both_containers(
    installation: Installation, film: Path
) -> None:
    async with (
        HlsOrigin(film, speed=15, initial_segments=1) as plain,
        HlsOrigin(film, speed=15, initial_segments=1, container="fmp4") as fragmented,
        WebhookReceiver() as receiver,
        product(installation, reachable=(plain.url, fragmented.url, receiver.url)) as made,
        customer_of(made) as customer,
    ):
        receiver.secrets[:] = [await customer.add_webhook(receiver.url)]
        plain.go_live()
        fragmented.go_live()
        ts, fmp4 = await asyncio.gather(
            *(_follow(customer, receiver, origin, installation.folder) for origin in (plain, fragmented))
        )
        keys = await made.rows("SELECT DISTINCT init_key AS key FROM ingest.segments")

    for outcome in (ts, fmp4):
        _check_played_at_once(outcome)
        _check_clip(outcome)
    assert 1 == len(ts.highlights) == len(fmp4.highlights)
    for name in ("start_s", "end_s", "peak_s"):
        assert ts.highlights[0][name] == pytest.approx(fmp4.highlights[0][name], abs=FRAME_S)
    assert {False, True} == {row["key"] is None for row in keys}
    assert 2 == len(keys)


async def _follow(customer: Customer, receiver: WebhookReceiver, origin: HlsOrigin, folder: Path) -> Outcome:
    stream = await customer.call("POST", "/v1/streams", {"source_url": origin.url})
    told = await receiver.wait_for(
        lambda one: one.type == "highlight.detected" and one.payload["stream_id"] == stream["id"],
        timeout_s=60,
    )
    detected = told.payload["data"]
    listed, played = folder / f"{stream['id']}.m3u8", folder / f"{stream['id']}.mkv"
    await customer.fetch(detected["video_url"], listed)
    await asyncio.to_thread(_play, detected["video_url"], played)
    at_once = parse_playlist(listed.read_text(), url=detected["video_url"])
    assert isinstance(at_once, MediaPlaylist)

    assert "completed" == (await until_terminal(customer, stream["id"]))["status"]
    highlights = await customer.highlights(stream["id"])
    clip = folder / f"{stream['id']}.mp4"
    await customer.fetch(highlights[0]["video_url"], clip)
    await customer.fetch(highlights[0]["thumbnail_url"], clip.with_suffix(".jpg"))
    return Outcome(detected, at_once, highlights, played, clip)


def _play(url: str, path: Path) -> None:
    """As a player that decodes everything would, keeping what it was given."""
    done = subprocess.run(
        [
            *("ffmpeg", "-v", "error", "-xerror", "-i", url),
            *("-map", "0", "-c", "copy", str(path), "-map", "0", "-f", "null", "-"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)


def _check_played_at_once(outcome: Outcome) -> None:
    detected, playlist = outcome.detected, outcome.at_once
    assert ("pending", "hls", detected["playback_url"]) == (
        detected["clip_status"],
        detected["video_type"],
        detected["video_url"],
    )
    frames = [number for _, number in read_frame_numbers(outcome.played)]
    assert list(range(frames[0], frames[-1] + 1)) == frames
    assert frames[0] <= detected["start_s"] * FPS < detected["end_s"] * FPS <= frames[-1] + 1
    listed_s = sum(one.duration_us for one in playlist.segments) / 1_000_000
    assert listed_s == pytest.approx(len(frames) / FPS, abs=FRAME_S)
    assert listed_s == pytest.approx(_length_s(outcome.played), abs=2 * FRAME_S)
    assert playlist.ended


def _length_s(path: Path) -> float:
    told = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "format=start_time,duration", "-of", "json", str(path)],
        capture_output=True,
        check=True,
    )
    return float(json.loads(told.stdout)["format"]["duration"])


def _check_clip(outcome: Outcome) -> None:
    [highlight] = outcome.highlights
    frames = [number for _, number in read_frame_numbers(outcome.clip)]
    assert list(range(round(highlight["start_s"] * FPS), round(highlight["end_s"] * FPS))) == frames
    assert MOMENT[0] <= highlight["peak_s"] <= MOMENT[1]
    assert abs(sync_error_s(outcome.clip)) <= 0.020
    [(_, pictured)] = read_frame_numbers(outcome.clip.with_suffix(".jpg"))
    assert pictured == int(highlight["peak_s"] * FPS + 0.001)

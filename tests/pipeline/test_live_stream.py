"""A live stream from the 100ms webhook to the last delivery: exact clips, true times, one trace, one of each."""

import asyncio
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sandbox.film import make_film, read_click_times_s, read_frame_numbers, sync_error_s
from sandbox.hundredms import Beam, HundredMs
from sandbox.origin import HlsOrigin
from sandbox.receiver import WebhookReceiver
from tests.conftest import Installation
from tests.pipeline.product import customer_of, product, until, until_terminal

FPS = 25
LENGTH_S = 112
MOMENTS = ((14.0, 18.0), (100.0, 104.0))
SECRET = "a-secret-of-sixteen-and-more"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=LENGTH_S, moments=MOMENTS)


async def test_a_100ms_stream_becomes_exact_clips_and_verified_webhooks(
    installation: Installation, film: Path
) -> None:
    async with (
        HlsOrigin(film, speed=10, initial_segments=1) as origin,
        WebhookReceiver() as receiver,
        product(installation, reachable=(origin.url, receiver.url)) as made,
        customer_of(made) as customer,
    ):
        receiver.secrets[:] = [await customer.add_webhook(receiver.url)]
        url = await customer.connect_100ms(secret=SECRET, secret_header="X-100ms-Secret")
        beam = Beam(stream_url=origin.url, started_at=datetime.now(UTC))
        async with HundredMs(url, secret=SECRET, secret_header="X-100ms-Secret") as sender:
            origin.go_live()
            assert (await sender.send("hls.started.success", beam=beam)).delivered
            await origin.ended.wait()
            assert (await sender.send("hls.stopped.success", beam=beam)).delivered
            [stream] = await until(customer.streams)
            stream = await until_terminal(customer, stream["id"])
            await receiver.wait_for(lambda one: one.type == "stream.completed", timeout_s=20)
            highlights = await customer.highlights(stream["id"])
            clips = {each["id"]: installation.folder / f"{each['id']}.mp4" for each in highlights}
            for each in highlights:
                await customer.fetch(each["video_url"], clips[each["id"]])
                await customer.fetch(each["thumbnail_url"], clips[each["id"]].with_suffix(".jpg"))
        duplicates = await made.rows(
            "SELECT stream_id, epoch, sequence FROM ingest.segments GROUP BY 1, 2, 3 HAVING count(*) > 1"
        )
        traces = await made.rows(
            "SELECT DISTINCT split_part(traceparent, '-', 2) AS trace FROM gateway.outbox "
            "WHERE event_name IN ('stream.online', 'notification.requested')"
        )

    assert ("completed", False, None) == (stream["status"], stream["partial"], stream["error"])
    assert 100.0 == stream["progress"]["coverage_pct"]
    assert LENGTH_S == pytest.approx(stream["duration"], abs=0.1)
    assert [] == duplicates

    assert _found(highlights) == len(MOMENTS)
    for each in highlights:
        _check_clip(each, clips[each["id"]])

    received = receiver.distinct()
    assert all(one.verified for one in received)
    assert len(received) == len({one.id for one in receiver.received})
    types = [one.type for one in received]
    assert "stream.started" == types[0]
    assert "stream.completed" == types[-1]
    assert len(highlights) == types.count("highlight.created") == types.count("highlight.detected")
    sequences = [one.payload["sequence"] for one in received]
    assert list(range(1, len(received) + 1)) == sorted(sequences)
    assert {dict(one.headers)["traceparent"].split("-")[1] for one in received} <= {
        row["trace"] for row in traces
    }


def _found(highlights: list[dict]) -> int:
    """How many of the film's moments a highlight's peak lies in."""
    return sum(any(start - 1 <= each["peak_s"] <= end + 1 for each in highlights) for start, end in MOMENTS)


def _check_clip(highlight: dict, path: Path) -> None:
    """First and last picture are those of the source at the highlight's times; the sound is in place."""
    frames = read_frame_numbers(path)
    first, last = frames[0][1], frames[-1][1]
    assert list(range(first, last + 1)) == [number for _, number in frames]
    assert first == round(highlight["start_s"] * FPS), highlight
    assert last + 1 == round(highlight["end_s"] * FPS), highlight
    assert highlight["duration"] == pytest.approx(len(frames) / FPS, abs=0.001)
    assert read_click_times_s(path)
    assert abs(sync_error_s(path)) <= 0.020
    thumbnail = path.with_suffix(".jpg").read_bytes()
    assert b"\xff\xd8" == thumbnail[:2]
    assert {"h264", "aac"} == _codecs(path)
    decoded = subprocess.run(
        ["ffmpeg", "-v", "error", "-xerror", "-i", str(path), "-f", "null", "-"],
        capture_output=True,
        check=False,
    )
    assert (0, b"") == (decoded.returncode, decoded.stderr)


def _codecs(path: Path) -> set[str]:
    listed = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", str(path)],
        capture_output=True,
        check=True,
        text=True,
    )
    return set(listed.stdout.split())


@pytest.mark.faults
async def test_stop_ends_the_stream_with_what_was_found(installation: Installation, film: Path) -> None:
    async with (
        HlsOrigin(film, speed=8, duration_s=60, endlist=False, initial_segments=1) as origin,
        product(installation, reachable=(origin.url,)) as made,
        customer_of(made) as customer,
    ):
        origin.go_live()
        stream = await customer.call("POST", "/v1/streams", {"source_url": origin.url})
        assert "pending" == stream["status"]

        async def analysed() -> bool:
            now = await customer.stream(stream["id"])
            return bool(now["progress"]["windows_analyzed"])

        await until(analysed, timeout_s=60)
        assert {"message": "Stream processing stopped"} == await customer.call(
            "POST", f"/v1/streams/{stream['id']}/stop"
        )
        stream = await until_terminal(customer, stream["id"])
    assert "completed" == stream["status"]
    assert 100.0 == stream["progress"]["coverage_pct"]


async def test_two_streams_of_two_customers_stay_apart(installation: Installation, film: Path) -> None:
    async with (
        HlsOrigin(film, speed=20, duration_s=30, initial_segments=1) as origin,
        product(installation, reachable=(origin.url,)) as made,
        customer_of(made) as first,
        customer_of(made) as second,
    ):
        origin.go_live()
        streams = await asyncio.gather(
            *(one.call("POST", "/v1/streams", {"source_url": origin.url}) for one in (first, second))
        )
        for one, stream in zip((first, second), streams, strict=True):
            assert "completed" == (await until_terminal(one, stream["id"]))["status"]
            assert [stream["id"]] == [each["id"] for each in await one.streams()]

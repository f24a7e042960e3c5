"""A stream with a gap is over; its recording comes, and what was missed is found, cut and told."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sandbox.film import make_film, read_frame_numbers
from sandbox.origin import VodOrigin
from sandbox.receiver import WebhookReceiver
from sandbox.segmenter import segment_media
from shared.events import Lane, RecordingAvailable
from shared.ids import OrganizationId, StreamId, event_id
from tests.conftest import Installation
from tests.pipeline.product import Product, customer_of, product, until, until_terminal

pytestmark = pytest.mark.faults

S = 1_000_000
FPS = 25
EVENTS = ["stream.completed", "stream.updated", "highlight.created"]
LENGTH_S = 124
SEEN, MISSED = (12.0, 16.0), (104.0, 108.0)  # so far apart that they are not one moment
GAP_S = (98, 112)
BEGAN_AT = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
RECORDED_BEFORE_S = 3.0  # the recording began before the first segment


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A playlist of 2 s segments, seven of which are not there, and the whole film beside it."""
    folder = tmp_path_factory.mktemp("served")
    cuts = folder / "segments"
    cuts.mkdir()
    moments = [_recorded(SEEN), _recorded(MISSED)]
    make_film(folder / "recording.mp4", duration_s=LENGTH_S + RECORDED_BEFORE_S, moments=moments)
    film = make_film(folder / "film.mp4", duration_s=LENGTH_S, moments=[SEEN, MISSED])
    media = await segment_media(film, folder=cuts)
    lines = ["#EXTM3U", "#EXT-X-VERSION:6", "#EXT-X-TARGETDURATION:2", "#EXT-X-MEDIA-SEQUENCE:0"]
    for segment in media.segments:
        at = BEGAN_AT + timedelta(microseconds=segment.start_us)
        lines += [f"#EXT-X-PROGRAM-DATE-TIME:{at.isoformat(timespec='milliseconds')}"]
        lines += [f"#EXTINF:{segment.duration_us / S:.3f},", f"segments/{segment.uri}"]
        if GAP_S[0] * S <= segment.start_us < GAP_S[1] * S:
            (media.folder / segment.uri).unlink()
    (folder / "index.m3u8").write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))
    return folder


def _recorded(span_s: tuple[float, float]) -> tuple[float, float]:
    return span_s[0] + RECORDED_BEFORE_S, span_s[1] + RECORDED_BEFORE_S


async def test_a_recording_fills_the_gap_and_brings_the_moment_that_was_missed(
    installation: Installation, served: Path
) -> None:
    async with (
        VodOrigin(served, playlist="index.m3u8") as origin,
        WebhookReceiver() as receiver,
        product(installation, reachable=(origin.base_url, receiver.url)) as made,
        customer_of(made) as customer,
    ):
        endpoint = await customer.call("POST", "/v1/webhooks", {"url": receiver.url, "event_types": EVENTS})
        receiver.secrets[:] = [endpoint["secret"]]
        stream = await customer.call("POST", "/v1/streams", {"source_url": origin.url, "live": False})
        before = await until_terminal(customer, stream["id"], timeout_s=120)
        found_before = await customer.highlights(stream["id"])
        holes = await customer.call("GET", f"/v1/streams/{stream['id']}/timeline")

        await _offer(made, stream["id"], f"{origin.base_url}/recording.mp4")

        async def repaired() -> dict[str, Any] | None:
            now: dict[str, Any] = await customer.stream(stream["id"])
            return None if now["partial"] else now

        after = await until(repaired, timeout_s=90)
        timeline = await customer.call("GET", f"/v1/streams/{stream['id']}/timeline")
        await receiver.wait_for(lambda one: one.type == "stream.updated", timeout_s=20)
        found = await customer.highlights(stream["id"])
        late = [each for each in found if MISSED[0] - 1 <= each["peak_s"] <= MISSED[1] + 1]
        clip = installation.folder / "late.mp4"
        for each in late:
            await customer.fetch(each["video_url"], clip)

    assert ("completed", True, "gaps") == (before["status"], before["partial"], before["cause"])
    assert [(*map(float, GAP_S), "not_found")] == [
        (each["from_s"], each["to_s"], each["cause"]) for each in holes["stretches"] if each["kind"] == "gap"
    ]
    assert ("completed", None, 100.0, 0) == (
        after["status"],
        after["error"],
        after["progress"]["coverage_pct"],
        after["progress"]["gaps"],
    )
    [gap] = [each for each in timeline["stretches"] if each["kind"] == "gap"]
    assert "repaired" == gap["repair"]["outcome"]
    assert {"analysed"} == {each["verdict"] for each in timeline["windows"]}
    assert {each["id"] for each in found_before} < {each["id"] for each in found}
    [highlight] = late
    frames = [number for _, number in read_frame_numbers(clip)]
    assert list(range(frames[0], frames[-1] + 1)) == frames
    assert frames[0] == round((highlight["start_s"] + RECORDED_BEFORE_S) * FPS)
    told = [one.type for one in receiver.distinct()]
    assert len(found) == told.count("highlight.created")
    assert "stream.completed" in told
    assert 1 == told.count("stream.updated")
    assert all(one.verified for one in receiver.distinct())


async def _offer(made: Product, stream_id: str, url: str) -> None:
    """As the gateway does when 100ms tells of a recording."""
    base = made.services["gateway"].application.foundation
    [row] = await made.rows("SELECT organization_id FROM gateway.streams WHERE stream_id = $1", stream_id)
    stream, organization = StreamId(stream_id), OrganizationId(row["organization_id"])
    event = RecordingAvailable(
        event_id=event_id(stream, RecordingAvailable.name, "rec"),
        organization_id=organization,
        stream_id=stream,
        occurred_at=datetime.now(UTC),
        lane=Lane.VOD,
        recording_id="rec",
        sealed_url=base.keyring.encrypt(url, context=f"stream:{stream}"),
        started_at=BEGAN_AT - timedelta(seconds=RECORDED_BEFORE_S),
        duration_us=round((LENGTH_S + RECORDED_BEFORE_S) * S),
    )
    async with base.database.transaction(organization) as session:
        await base.outbox.emit(session, (event,))
    base.outbox.wake.set()

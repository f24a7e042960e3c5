"""What a stream brings beside its picture, what of it is no programme, and its other renditions."""

import asyncio
import base64
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.events import SegmentAnnotated, SegmentMissed, SegmentReady, SignalReceived
from tests.fakes.ingest.http import Answer
from tests.fakes.ingest.media import ts_segment
from tests.fakes.ingest.stage import BASE, SEGMENT_US, URL, Stage, window

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def dated(text: str) -> str:
    """Dates as a source at real time would give them: noon plus media time."""
    entry = re.compile(r"#EXT-X-PROGRAM-DATE-TIME:.*\n(#EXTINF:.*\n(\d+)\.ts)")

    def date(found: re.Match[str]) -> str:
        at = NOON + timedelta(microseconds=SEGMENT_US * int(found.group(2)))
        return f"#EXT-X-PROGRAM-DATE-TIME:{at.isoformat()}\n{found.group(1)}"

    return entry.sub(date, text)


def tagged(tags: dict[int, str]) -> Callable[[str], str]:
    """Tags before these segments, as long as they are listed."""

    def rewrite(text: str) -> str:
        for number, tag in tags.items():
            text = re.sub(rf"(#EXTINF:.*\n{number:03}\.ts)", rf"{tag}\n\1", text)
        return text

    return rewrite


def excluded(stage: Stage) -> list[tuple[str, int, int, str]]:
    return [(e.kind, e.from_us, e.to_us, e.detail) for e in stage.of(SegmentAnnotated)]


def in_windows(stage: Stage) -> set[int]:
    return {ref.sequence for event in stage.of(SegmentReady) for ref in event.segments}


CUES = {5: "#EXT-X-CUE-OUT:30", 10: "#EXT-X-CUE-IN"}


async def test_advertising_is_archived_stands_in_no_window_and_is_told(stage: Stage) -> None:
    stage.rewrite = tagged(CUES)
    ended = await stage.run()
    assert list(range(15)) == stage.journal.sequences
    assert {*range(5), *range(10, 15)} == in_windows(stage)
    assert [("ad", 10_000_000, 20_000_000, "cue-out")] == excluded(stage)
    assert (10_000_000, 30_000_000) == (ended.excluded_us, ended.media_duration_us)
    assert all(not e.start_us < 20_000_000 <= e.end_us - SEGMENT_US for e in stage.of(SegmentReady))


async def test_advertising_at_the_end_is_told_before_the_end(stage: Stage) -> None:
    stage.rewrite = tagged({12: "#EXT-X-CUE-OUT"})
    ended = await stage.run()
    assert [("ad", 24_000_000, 30_000_000, "cue-out")] == excluded(stage)
    assert ended is stage.journal.events[-1]


async def test_a_marked_slate_is_told_as_one(stage: Stage) -> None:
    start = (NOON + timedelta(seconds=8)).isoformat()
    line = f'#EXT-X-DATERANGE:ID="s1",CLASS="disconnection-slate",START-DATE="{start}",DURATION=6'
    tag = tagged({4: line})
    stage.rewrite = lambda text: tag(dated(text))
    await stage.run()
    assert [("slate", 8_000_000, 14_000_000, "disconnection-slate s1")] == excluded(stage)
    assert {4, 5, 6}.isdisjoint(in_windows(stage))


async def test_whoever_resumes_in_a_break_tells_the_same(tmp_path: Path) -> None:
    whole, parted = Stage(tmp_path / "a"), Stage(tmp_path / "b")
    for stage in (whole, parted):
        stage.folder.mkdir()
        stage.rewrite = tagged(CUES)
    await whole.run()
    first = await parted.follower()
    running = asyncio.create_task(first.run())
    async with asyncio.timeout(20):
        while len(parted.journal.sequences) < 7:
            await parted.journal.committed.wait()
            parted.journal.committed.clear()
    first.stop()
    await running
    await parted.run()
    assert whole.of(SegmentAnnotated)[0].event_id == parted.of(SegmentAnnotated)[0].event_id
    assert excluded(whole) == excluded(parted)
    assert [e.event_id for e in whole.of(SegmentReady)] == [e.event_id for e in parted.of(SegmentReady)]


def metadata_line(name: str, at_s: float, payload: object) -> str:
    document = {"payload": payload, "start_date": "x", "end_date": "y", "hms_version": "v1.1"}
    encoded = base64.b64encode(json.dumps(document).encode()).decode()
    start = (NOON + timedelta(seconds=at_s)).isoformat()
    return f'#EXT-X-DATERANGE:ID="{name}",START-DATE="{start}",DURATION=2,X-100MSLIVE-PAYLOAD="{encoded}"'


async def test_timed_metadata_is_told_once_at_its_media_time(stage: Stage) -> None:
    tag = tagged({3: metadata_line("m1", 7.5, "goal!"), 9: metadata_line("m2", 18, "poll")})
    stage.rewrite = lambda text: tag(dated(text))
    await stage.run()
    assert [("m1", 7_500_000, "goal!"), ("m2", 18_000_000, "poll")] == [
        (e.external_id, e.at_us, e.text) for e in stage.of(SignalReceived)
    ]
    assert {("metadata", "playlist", 2_000_000, 0)} == {
        (e.kind, e.origin, e.duration_us, e.run) for e in stage.of(SignalReceived)
    }


async def test_timed_metadata_behind_the_last_segment_is_not_lost(stage: Stage) -> None:
    line = metadata_line("last", 29, "bye")
    stage.rewrite = lambda text: dated(text) + (line + "\n" if "014.ts" in text else "")
    await stage.run()
    assert [("last", 29_000_000, "bye")] == [
        (e.external_id, e.at_us, e.text) for e in stage.of(SignalReceived)
    ]


# -- captions ------------------------------------------------------------------------------------------

CAPTIONED = (
    '#EXTM3U\n#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="subs",NAME="cc",DEFAULT=YES,URI="subs/list.m3u8"\n'
    '#EXT-X-STREAM-INF:BANDWIDTH=1,SUBTITLES="subs"\nv.m3u8\n'
)


def with_captions(stage: Stage) -> None:
    """A file of captions for each segment: its own text, and that of the next one."""
    stage.http.pages[f"{BASE}/v.m3u8"] = stage.playlist
    stage.http.pages[URL] = CAPTIONED.encode()

    def listed() -> Answer:
        text = stage.playlist()
        assert isinstance(text, bytes)
        return re.sub(r"(\d+)\.ts", r"\1.vtt", text.decode()).encode()

    stage.http.pages[f"{BASE}/subs/list.m3u8"] = listed
    for n in range(15):
        cues = "".join(
            f"00:{m * 2:02}.500 --> 00:{m * 2 + 1:02}.500\n<i>text {m}</i>\n\n" for m in (n, n + 1)
        )
        head = "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:900000\n\n"
        stage.http.pages[f"{BASE}/subs/{n:03}.vtt"] = (head + cues).encode()


def captions(stage: Stage) -> list[tuple[int | None, str]]:
    return [(e.at_us, e.text) for e in stage.of(SignalReceived) if e.kind == "caption"]


async def test_captions_are_told_at_their_media_time_each_once(tmp_path: Path) -> None:
    stage = Stage(tmp_path, may_end=lambda: len(captions(stage)) >= 15)
    with_captions(stage)
    ended = await stage.run()
    assert [(n * 2_000_000 + 500_000, f"text {n}") for n in range(16)] == captions(stage)
    assert (15, ()) == (ended.segments, ended.gap_indexes)


@pytest.mark.parametrize("broken", [404, b"<html>", b"\xff\xfe" * 99])
async def test_captions_that_are_broken_disturb_nothing(stage: Stage, broken: Answer) -> None:
    with_captions(stage)
    for n in range(15):
        stage.http.pages[f"{BASE}/subs/{n:03}.vtt"] = broken
    ended = await stage.run()
    assert (15, [], []) == (ended.segments, stage.of(SegmentMissed), captions(stage))


# -- renditions ----------------------------------------------------------------------------------------


def in_two_renditions(stage: Stage) -> None:
    stage.rewrite = dated
    lines = "".join(
        f"#EXT-X-STREAM-INF:BANDWIDTH={h},RESOLUTION={h}x{h}\n{h}/list.m3u8\n" for h in (720, 480)
    )
    stage.http.pages[URL] = ("#EXTM3U\n" + lines).encode()
    for height in (720, 480):
        stage.http.pages[f"{BASE}/{height}/list.m3u8"] = stage.playlist
        for n in range(15):
            stage.http.pages[f"{BASE}/{height}/{n:03}.ts"] = ts_segment(n * SEGMENT_US, SEGMENT_US)


@pytest.mark.parametrize("fault", [404, 403, 503, b"<html>broken</html>"])
async def test_a_rendition_that_breaks_is_left_and_nothing_is_lost(stage: Stage, fault: Answer) -> None:
    in_two_renditions(stage)
    for n in range(6, 15):
        stage.http.pages[f"{BASE}/720/{n:03}.ts"] = fault
    ended = await stage.run()
    refs = [entry.segment.ref for entry in stage.journal.entries if entry.segment]
    assert (list(range(15)), ()) == (stage.journal.sequences, ended.gap_indexes)
    assert [n * SEGMENT_US for n in range(15)] == [ref.start_us for ref in refs]
    assert [6] == [ref.sequence for ref in refs if ref.discontinuity]


async def test_a_rendition_whose_list_is_gone_is_left(stage: Stage) -> None:
    in_two_renditions(stage)
    good = stage.playlist

    def gone() -> Answer:
        text = good()
        assert isinstance(text, bytes)
        return 404 if b"005.ts" in text else text

    stage.http.pages[f"{BASE}/720/list.m3u8"] = gone
    ended = await stage.run()
    assert (list(range(15)), ()) == (stage.journal.sequences, ended.gap_indexes)


async def test_what_no_rendition_has_is_a_gap_and_the_rest_is_had(stage: Stage) -> None:
    stage.live = window(15, head_start_us=30_000_000, window=15)
    in_two_renditions(stage)
    for height in (720, 480):
        stage.http.pages[f"{BASE}/{height}/007.ts"] = 404
    ended = await stage.run()
    (gap,) = stage.of(SegmentMissed)
    assert (14, "not_found", 7 * SEGMENT_US, 8 * SEGMENT_US) == (
        ended.segments,
        gap.cause,
        gap.from_us,
        gap.to_us,
    )

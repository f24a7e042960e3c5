"""Where a break begins and ends, by cue tags and by date ranges, and that no marker excludes for ever."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from ingest.domain.ads import LONGEST_BREAK_US, Ads
from ingest.domain.cues import Cue, CueKind
from ingest.domain.date_ranges import parse_date_range
from ingest.domain.playlist import MediaPlaylist, parse_playlist

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND = 1_000_000
SEGMENT_US = 2 * SECOND


def cues_of(*tags: str) -> tuple[Cue, ...]:
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n" + "".join(f"{tag}\n" for tag in tags) + "#EXTINF:2,\na.ts\n"
    parsed = parse_playlist(text, url="https://cdn.example/p.m3u8")
    assert isinstance(parsed, MediaPlaylist)
    return parsed.segments[0].cues


@pytest.mark.parametrize(
    ("tag", "kind", "left_s"),
    [
        ("#EXT-X-CUE-OUT", CueKind.OUT, None),
        ("#EXT-X-CUE-OUT:30", CueKind.OUT, 30),
        ("#EXT-X-CUE-OUT:DURATION=30.5", CueKind.OUT, 30.5),
        ('#EXT-X-CUE-OUT:Duration="30",ID=1', CueKind.OUT, 30),
        ("#EXT-X-CUE-OUT:nonsense", CueKind.OUT, None),
        ("#EXT-X-CUE-OUT:99999999999", CueKind.OUT, None),
        ("#EXT-X-CUE-OUT-CONT:8.0/30", CueKind.CONTINUED, 22),
        ("#EXT-X-CUE-OUT-CONT:ElapsedTime=8,Duration=30,SCTE35=/DA=", CueKind.CONTINUED, 22),
        ("#EXT-X-CUE-OUT-CONT:40/30", CueKind.CONTINUED, 0),
        ("#EXT-X-CUE-OUT-CONT:8", CueKind.CONTINUED, None),
        ("#EXT-X-CUE-IN", CueKind.IN, None),
    ],
)
def test_cue_tags_are_read_in_every_common_form(tag: str, kind: CueKind, left_s: float | None) -> None:
    (cue,) = cues_of(tag)
    assert (kind, None if left_s is None else round(left_s * SECOND)) == (cue.kind, cue.left_us)


def test_a_splice_message_alone_opens_a_break() -> None:
    (cue,) = cues_of("#EXT-OATCLS-SCTE35:/DAlAAAAAAAAAP/wFAUAAAABf+/+LRQrAP4AKTLgAAEBAQAA")
    assert (CueKind.OUT, 30 * SECOND) == (cue.kind, cue.left_us)


def test_no_segment_carries_a_flood_of_tags() -> None:
    assert 8 == len(cues_of(*["#EXT-X-CUE-OUT"] * 1000))


def excluded_by(tags: dict[int, str], count: int = 12) -> list[int]:
    """Which of so many segments of 2 s are no programme."""
    ads, found = Ads(), []
    for n in range(count):
        cues = cues_of(tags[n]) if n in tags else ()
        ads = ads.after_cues(cues, start_us=n * SEGMENT_US, duration_us=SEGMENT_US)
        ads = Ads.from_json(json.loads(json.dumps(ads.to_json())))
        if ads.exclusion(wall_at=None, duration_us=SEGMENT_US) is not None:
            found.append(n)
    return found


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({3: "#EXT-X-CUE-OUT:30", 6: "#EXT-X-CUE-IN"}, [3, 4, 5]),
        ({3: "#EXT-X-CUE-OUT:6"}, [3, 4, 5]),
        ({3: "#EXT-X-CUE-OUT:7"}, [3, 4, 5]),
        ({3: "#EXT-X-CUE-OUT", 9: "#EXT-X-CUE-IN"}, [3, 4, 5, 6, 7, 8]),
        ({0: "#EXT-X-CUE-OUT-CONT:20/26"}, [0, 1, 2]),
        ({0: "#EXT-X-CUE-OUT-CONT:4", 2: "#EXT-X-CUE-IN"}, [0, 1]),
        ({3: "#EXT-X-CUE-OUT:60", 4: "#EXT-X-CUE-OUT-CONT:56/60"}, [3, 4, 5]),
        ({3: "#EXT-X-CUE-IN"}, []),
    ],
)
def test_a_break_lasts_until_its_end_is_told_or_its_time_is_over(
    tags: dict[int, str], expected: list[int]
) -> None:
    assert expected == excluded_by(tags)


def test_a_break_that_nobody_ends_is_over_after_ten_minutes() -> None:
    assert LONGEST_BREAK_US // SEGMENT_US == len(excluded_by({1: "#EXT-X-CUE-OUT"}, count=400))


def date_range(name: str, at_s: float, **attributes: str) -> str:
    start = (NOON + timedelta(seconds=at_s)).isoformat()
    more = "".join(f",{key.replace('_', '-')}={value}" for key, value in attributes.items())
    return f'ID="{name}",START-DATE="{start}"{more}'


def ads_of(*lines: str) -> Ads:
    ads = Ads()
    for line in lines:
        found = parse_date_range(line)
        assert found is not None
        ads = ads.with_range(found)
    return Ads.from_json(json.loads(json.dumps(ads.to_json())))


def marked(ads: Ads, count: int = 12) -> list[int]:
    at = [NOON + timedelta(microseconds=n * SEGMENT_US) for n in range(count)]
    return [n for n in range(count) if ads.exclusion(wall_at=at[n], duration_us=SEGMENT_US) is not None]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([date_range("a", 4, DURATION="6", SCTE35_OUT="0xFC")], [2, 3, 4]),
        ([date_range("a", 4, PLANNED_DURATION="6", CLASS='"twitch-stitched-ad"')], [2, 3, 4]),
        ([date_range("a", 4, DURATION="6", CLASS='"com.apple.hls.interstitial"')], [2, 3, 4]),
        ([date_range("a", 4, CLASS='"com.apple.hls.interstitial"', X_ASSET_URI='"https://x/"')], []),
        ([date_range("a", 4, DURATION="6", CLASS='"com.apple.hls.interstitial"', X_RESUME_OFFSET="0")], []),
        (
            [date_range("a", 4, DURATION="6", CLASS='"com.apple.hls.interstitial"', X_RESUME_OFFSET="4")],
            [2, 3],
        ),
        (
            [date_range("a", 4, SCTE35_OUT="0xFC"), date_range("a", 4, SCTE35_OUT="0xFC", DURATION="4")],
            [2, 3],
        ),
        ([date_range("a", 4, SCTE35_OUT="0xFC"), date_range("b", 8, SCTE35_IN="0xFC")], [2, 3]),
        ([date_range("a", 4, DURATION="6", X_NOTE='"metadata"')], []),
    ],
)
def test_date_ranges_of_advertising_exclude_what_they_cover(lines: list[str], expected: list[int]) -> None:
    assert expected == marked(ads_of(*lines))


def test_ranges_that_are_over_are_forgotten_and_their_number_is_bounded() -> None:
    many = ads_of(*(date_range(f"a{n}", n, DURATION="1", SCTE35_OUT="0x") for n in range(100)))
    assert 16 == len(many.ranges)
    assert () == many.since(NOON + timedelta(seconds=200)).ranges


def test_a_slate_is_named_as_one() -> None:
    exclusion = ads_of(date_range("s", 0, DURATION="6", CLASS='"slate"')).exclusion(
        wall_at=NOON, duration_us=SEGMENT_US
    )
    assert exclusion is not None and ("slate", "slate s") == (exclusion.kind, exclusion.detail)

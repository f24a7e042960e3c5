"""The live window: what it lists never goes back, and every segment is seen."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.live_window import LiveSegment, LiveWindow, Variant, master_playlist

WENT_LIVE_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def segments(*durations_s: float) -> tuple[LiveSegment, ...]:
    made: list[LiveSegment] = []
    for index, duration_s in enumerate(durations_s):
        start_us = made[-1].end_us if made else 0
        made.append(
            LiveSegment(uri=f"{index}.ts", start_us=start_us, duration_us=round(duration_s * 1_000_000))
        )
    return tuple(made)


windows = st.builds(
    LiveWindow,
    segments=st.lists(st.integers(100, 6_000), min_size=1, max_size=40).map(
        lambda durations_ms: segments(*(duration_ms / 1000 for duration_ms in durations_ms))
    ),
    speed=st.sampled_from([0.5, 1.0, 1.5, 4.0, 10.0]),
    window=st.integers(1, 8),
    head_start_us=st.integers(0, 20_000_000),
)
times = st.lists(st.floats(0, 300), min_size=2, max_size=30).map(sorted)


@given(window=windows, at_s=times)
def test_the_window_never_goes_back_and_its_media_sequence_only_grows(
    window: LiveWindow, at_s: list[float]
) -> None:
    listed = [window.listed(elapsed_s) for elapsed_s in at_s]

    pairs = list(pairwise(listed))
    assert all(now.start <= later.start and now.stop <= later.stop for now, later in pairs)
    assert all(len(now) <= window.size for now in listed)


@given(window=windows)
def test_every_segment_is_listed_at_the_moment_it_is_complete(window: LiveWindow) -> None:
    visible = {
        index
        for segment in window.segments
        for index in window.listed(
            max(0, segment.end_us - window.head_start_us) / 1_000_000 / window.speed + 1e-5
        )
    }

    already_left = range(max(0, window.complete(0.0) - window.size))
    assert visible | set(already_left) == set(range(len(window.segments)))


@given(window=windows, elapsed_s=st.floats(0, 300))
def test_what_is_listed_can_be_fetched(window: LiveWindow, elapsed_s: float) -> None:
    refused = [i for i in window.listed(elapsed_s) if not window.fetchable(i, elapsed_s=elapsed_s)]

    assert refused == []


def test_a_segment_stays_fetchable_for_one_window_longer_and_is_gone_then() -> None:
    window = LiveWindow(segments=segments(*[2.0] * 20), window=3)

    fetchable = {at_s: window.fetchable(0, elapsed_s=at_s) for at_s in (1.9, 2.0, 6.0, 8.0, 12.0, 14.0)}

    assert fetchable == {1.9: False, 2.0: True, 6.0: True, 8.0: True, 12.0: True, 14.0: False}
    assert list(window.listed(8.0)) == [1, 2, 3]


def test_the_window_covers_the_same_wall_time_at_any_speed() -> None:
    sizes = {speed: LiveWindow(segments=segments(2.0), speed=speed).size for speed in (0.5, 1.0, 1.5, 4.0)}

    assert sizes == {0.5: 5, 1.0: 5, 1.5: 8, 4.0: 20}


@pytest.mark.parametrize(
    ("durations_s", "expected"), [((2.0, 2.0), 2), ((1.9, 2.49), 2), ((3.6, 1.4), 4), ((0.2,), 1)]
)
def test_target_duration_is_the_longest_segment_rounded(
    durations_s: tuple[float, ...], expected: int
) -> None:
    window = LiveWindow(segments=segments(*durations_s))

    assert window.target_duration_s == expected


def test_the_playlist_dates_each_segment_by_when_it_was_captured() -> None:
    window = LiveWindow(segments=segments(2.0, 1.5, 2.0, 2.0), speed=2.0, window=1)

    playlist = window.playlist(2.8, went_live_at=WENT_LIVE_AT)

    assert playlist.splitlines() == [
        "#EXTM3U",
        "#EXT-X-VERSION:6",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        "#EXT-X-TARGETDURATION:2",
        "#EXT-X-MEDIA-SEQUENCE:1",
        "#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:06.000+00:00",
        "#EXTINF:1.500000,",
        "1.ts",
        "#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:06.750+00:00",
        "#EXTINF:2.000000,",
        "2.ts",
    ]


def test_a_head_start_publishes_media_that_was_captured_before_going_live() -> None:
    window = LiveWindow(segments=segments(2.0, 2.0, 2.0), head_start_us=4_000_000)

    playlist = window.playlist(0.0, went_live_at=WENT_LIVE_AT).splitlines()

    assert [line for line in playlist if not line.startswith("#")] == ["0.ts", "1.ts"]
    assert playlist[5] == "#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:01.000+00:00"
    assert window.length_s == 2.0


def test_the_end_is_marked_when_the_last_segment_is_complete() -> None:
    window = LiveWindow(segments=segments(2.0, 2.0))

    ends = {at_s: "#EXT-X-ENDLIST" in window.playlist(at_s, went_live_at=WENT_LIVE_AT) for at_s in (3.9, 4.0)}

    assert ends == {3.9: False, 4.0: True}


def test_a_window_that_was_cut_has_ended_with_what_was_complete() -> None:
    window = LiveWindow(segments=segments(2.0, 2.0, 2.0)).cut(4.5)

    assert [segment.uri for segment in window.segments] == ["0.ts", "1.ts"]
    assert window.ended(4.5)


def test_without_endlist_and_dates_the_playlist_only_stops_growing() -> None:
    window = LiveWindow(segments=segments(2.0), endlist=False, program_date_time=False)

    text = window.playlist(60.0, went_live_at=WENT_LIVE_AT)

    assert "ENDLIST" not in text
    assert "PROGRAM-DATE-TIME" not in text
    assert window.ended(60.0)


def test_fragmented_mp4_names_its_init_section_before_the_first_segment() -> None:
    window = LiveWindow(segments=segments(2.0, 2.0), init_uri="init.mp4", program_date_time=False)

    lines = window.playlist(60.0, went_live_at=WENT_LIVE_AT).splitlines()

    assert lines[5:7] == ['#EXT-X-MAP:URI="init.mp4"', "#EXTINF:2.000000,"]


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one segment"):
        LiveWindow(segments=())
    with pytest.raises(ValueError, match="speed must be above 0"):
        LiveWindow(segments=segments(2.0), speed=0)


def test_the_master_playlist_names_variants_best_first() -> None:
    variants = tuple(
        Variant(
            uri=f"stream_{index}/stream.m3u8",
            width=width,
            height=height,
            frame_rate=25.0,
            peak_bps=bps,
            average_bps=bps // 2,
        )
        for index, (width, height, bps) in enumerate([(1280, 720, 1_700_000), (640, 360, 600_000)])
    )

    playlist = master_playlist(variants)

    assert playlist.splitlines()[3:] == [
        "#EXT-X-STREAM-INF:RESOLUTION=1280x720,BANDWIDTH=1700000,AVERAGE-BANDWIDTH=850000,FRAME-RATE=25.000",
        "stream_0/stream.m3u8",
        "#EXT-X-STREAM-INF:RESOLUTION=640x360,BANDWIDTH=600000,AVERAGE-BANDWIDTH=300000,FRAME-RATE=25.000",
        "stream_1/stream.m3u8",
    ]

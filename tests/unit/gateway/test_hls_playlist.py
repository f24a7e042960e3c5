"""Highlights as playlists, read back with the parser that ingest reads foreign playlists with."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.hls_playlist import HOLE_US, covering, keys_of, media_playlist
from ingest.domain.playlist import MediaPlaylist, parse_playlist
from shared.events import SegmentRef
from tests.builders import NOW, segment_ref

S = 1_000_000
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def ref(number: int, **changes: Any) -> SegmentRef:
    """Segments of 2 s, one after the other."""
    fields = {"start_us": number * 2 * S, "wall_at": NOW + timedelta(seconds=2 * number)}
    return segment_ref(number, **fields | changes)


def url_of(key: str) -> str:
    return f"https://cdn.example.com/{key}?expires=1&signature=2"


def written(segments: Sequence[SegmentRef], *, start_us: int = 0) -> str:
    return media_playlist(segments, start_us=start_us, url_of=url_of)


def read(segments: Sequence[SegmentRef]) -> MediaPlaylist:
    parsed = parse_playlist(written(segments), url="https://api.example.com/v1/highlights/h/playlist.m3u8")
    assert isinstance(parsed, MediaPlaylist)
    return parsed


def test_the_whole_playlist_of_a_highlight() -> None:
    segments = [ref(15, duration_us=2_040_000), ref(16)]
    assert written(segments, start_us=31_250_000).splitlines() == [
        "#EXTM3U",
        "#EXT-X-VERSION:3",
        "#EXT-X-TARGETDURATION:3",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-START:TIME-OFFSET=1.250000,PRECISE=YES",
        f"#EXT-X-PROGRAM-DATE-TIME:{(NOW + timedelta(seconds=30)):%Y-%m-%dT%H:%M:%S}.000Z",
        "#EXTINF:2.040000,",
        url_of(segments[0].key),
        "#EXTINF:2.000000,",
        url_of(segments[1].key),
        "#EXT-X-ENDLIST",
    ]


def test_only_segments_that_show_some_of_the_moment_are_taken_and_each_once() -> None:
    segments = [ref(n) for n in (4, 2, 1, 3, 2, 0)]
    chosen = covering(segments, start_us=4 * S, end_us=8 * S)
    assert [2, 3] == [one.sequence for one in chosen]
    assert () == covering(segments, start_us=90 * S, end_us=99 * S)


def test_a_moment_whose_beginning_is_missing_starts_with_what_there_is() -> None:
    assert "#EXT-X-START:TIME-OFFSET=0.000000," in written([ref(3)], start_us=5 * S)


def test_fragmented_mp4_names_its_init_section_again_where_it_changes() -> None:
    segments = [
        ref(n, container="fmp4", init_key=f"archive/{init}.init.mp4")
        for n, init in enumerate(("a", "a", "b"))
    ]
    playlist = read(segments)
    lines = written(segments).splitlines()
    assert "#EXT-X-VERSION:6" in lines
    assert 2 == sum(line.startswith("#EXT-X-MAP") for line in lines)
    assert [False, False, True] == [one.discontinuity for one in playlist.segments]
    inits = [one.init.location.url for one in playlist.segments if one.init]
    assert [url_of(f"archive/{init}.init.mp4") for init in ("a", "a", "b")] == inits
    assert {one.key for one in segments} | {"archive/a.init.mp4", "archive/b.init.mp4"} == set(
        keys_of(segments)
    )


@pytest.mark.parametrize(
    "changes", [{"discontinuity": True}, {"epoch": 1}, {"start_us": 2 * S + HOLE_US + 1}]
)
def test_a_decoder_is_told_where_it_must_start_anew(changes: dict[str, Any]) -> None:
    playlist = read([ref(0), ref(1, **changes), ref(2, **changes | {"start_us": 9 * S})])
    assert playlist.segments[1].discontinuity


def test_a_hole_is_left_out_and_the_wall_clock_goes_on_behind_it() -> None:
    playlist = read([ref(0), ref(7)])
    assert [False, True] == [one.discontinuity for one in playlist.segments]
    assert NOW + timedelta(seconds=14) == playlist.segments[1].wall_at


def test_without_a_wall_clock_no_date_is_told() -> None:
    assert "DATE" not in written([ref(0, wall_at=None)])


def test_no_segments_are_no_playlist() -> None:
    with pytest.raises(ValueError, match="needs a segment"):
        written([])


@dataclass(frozen=True)
class Step:
    """How a segment follows the one before it."""

    duration_us: int
    hole_us: int
    discontinuity: bool
    new_epoch: bool
    new_init: bool


STEPS = st.lists(
    st.builds(
        Step,
        duration_us=st.integers(1, 20 * S),
        hole_us=st.sampled_from([0, 0, 0, -1_000, HOLE_US, HOLE_US + 1, 30 * S]),
        discontinuity=st.booleans(),
        new_epoch=st.booleans(),
        new_init=st.booleans(),
    ),
    min_size=1,
    max_size=20,
)


def run_of(steps: Sequence[Step]) -> list[SegmentRef]:
    segments: list[SegmentRef] = []
    epoch = init = 0
    end_us = 100 * S
    for number, step in enumerate(steps):
        epoch, init = epoch + step.new_epoch, init + step.new_init
        start_us = end_us + step.hole_us
        segments.append(
            ref(
                number,
                start_us=start_us,
                duration_us=step.duration_us,
                epoch=epoch,
                container="fmp4",
                init_key=f"archive/{init}",
                discontinuity=step.discontinuity,
                wall_at=NOW + timedelta(microseconds=start_us),
            )
        )
        end_us = start_us + step.duration_us
    return segments


@UNHURRIED
@given(STEPS)
def test_whatever_the_archive_holds_the_playlist_says_it_as_the_standard_demands(steps: list[Step]) -> None:
    segments = run_of(steps)

    playlist = read(segments)

    assert (True, "VOD", 0, ()) == (playlist.ended, playlist.kind, playlist.media_sequence, playlist.faults)
    assert [one.duration_us for one in segments] == [one.duration_us for one in playlist.segments]
    assert all((one.duration_us + S // 2) // S * S <= playlist.target_us for one in segments)
    assert [url_of(one.key) for one in segments] == [one.location.url for one in playlist.segments]
    assert [url_of(one.init_key or "") for one in segments] == [
        one.init.location.url for one in playlist.segments if one.init
    ]
    breaks = [
        step.discontinuity or step.new_epoch or step.new_init or abs(step.hole_us) > HOLE_US for step in steps
    ]
    assert [False, *breaks[1:]] == [one.discontinuity for one in playlist.segments]


@UNHURRIED
@given(STEPS, st.data())
def test_what_is_chosen_covers_the_moment_and_no_more(steps: list[Step], data: st.DataObject) -> None:
    segments = run_of(steps)
    start_us = data.draw(st.integers(90 * S, 200 * S))
    end_us = start_us + data.draw(st.integers(1, 60 * S))

    chosen = covering(segments[::-1], start_us=start_us, end_us=end_us)

    for one in segments:
        shows_some = one.start_us < end_us and one.start_us + one.duration_us > start_us
        assert shows_some == (one in chosen)

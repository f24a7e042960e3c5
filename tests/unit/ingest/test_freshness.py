"""Static addresses: what the stream before has left there is not taken for the new one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ingest.domain.freshness import Freshness, freshness_of, is_static_address
from ingest.domain.playlist import MediaPlaylist, parse_playlist
from shared.events import Source

BEGAN_AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
STATIC = "https://cdn.100ms.live/beam/customer/room/master.m3u8"
DATED = "https://cdn.100ms.live/beam/customer/room/20260101/1767268800000/master.m3u8"


def playlist(
    first: int, *, count: int = 5, dated_s: float | None = None, name: str = "a", ended: bool = False
) -> MediaPlaylist:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for number in range(first, first + count):
        if dated_s is not None:
            at = BEGAN_AT + timedelta(seconds=dated_s + 2 * (number - first))
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{at.isoformat()}")
        lines += ["#EXTINF:2,", f"{name}{number}.ts"]
    text = "\n".join([*lines, "#EXT-X-ENDLIST"] if ended else lines) + "\n"
    parsed = parse_playlist(text, url="https://cdn.example/stream_0/stream.m3u8")
    assert isinstance(parsed, MediaPlaylist)
    return parsed


def sequences(shown: MediaPlaylist) -> list[int]:
    return [segment.sequence for segment in shown.segments]


def test_a_fresh_list_passes_as_it_is() -> None:
    fresh = playlist(0, dated_s=-10)
    assert fresh is Freshness(began_at=BEGAN_AT).shown(fresh)


def test_the_end_of_the_stream_before_is_neither_shown_nor_taken_for_the_end_of_this_one() -> None:
    freshness = Freshness(began_at=BEGAN_AT)
    stale = freshness.shown(playlist(90, dated_s=-300, ended=True))
    begun = freshness.shown(playlist(0, dated_s=0, name="b"))
    assert ([], False) == (sequences(stale), stale.ended)
    assert [0, 1, 2, 3, 4] == sequences(begun)


def test_old_segments_in_front_of_new_ones_are_left_out() -> None:
    shown = Freshness(began_at=BEGAN_AT).shown(playlist(7, count=20, dated_s=-37))
    assert list(range(18, 27)) == sequences(shown)
    assert 18 == shown.media_sequence


def test_the_end_of_a_stream_that_was_stopped_to_start_this_one_is_not_its_own() -> None:
    """100ms tells a start up to a dozen seconds late, so the last segments before it look new enough."""
    freshness = Freshness(began_at=BEGAN_AT)
    running = freshness.shown(playlist(90, count=20, dated_s=-43))
    ended = freshness.shown(playlist(90, count=20, dated_s=-43, ended=True))
    short = Freshness(began_at=BEGAN_AT).shown(playlist(3, count=5, dated_s=-12, ended=True))
    assert ([], [], False, [], False) == (
        sequences(running),
        sequences(ended),
        ended.ended,
        sequences(short),
        short.ended,
    )


def test_what_follows_a_break_behind_an_older_stream_is_this_one_alone() -> None:
    listed = playlist(90, count=20, dated_s=-35)
    broken = tuple(replace(each, discontinuity=each.sequence == 106) for each in listed.segments)
    shown = Freshness(began_at=BEGAN_AT).shown(replace(listed, segments=broken))
    assert [106, 107, 108, 109] == sequences(shown)


def test_a_stream_that_was_over_before_it_was_looked_at_is_shown_with_its_end() -> None:
    shown = Freshness(began_at=BEGAN_AT).shown(playlist(0, dated_s=-6, ended=True))
    assert ([0, 1, 2, 3, 4], True) == (sequences(shown), shown.ended)


@pytest.mark.parametrize("dated_s", [None, -300])
def test_old_copies_from_several_edges_are_no_life(dated_s: float | None) -> None:
    freshness = Freshness(began_at=BEGAN_AT)
    copies = [playlist(90, dated_s=dated_s), playlist(88, dated_s=dated_s and dated_s - 4)]
    assert [[]] * 8 == [sequences(freshness.shown(copies[number % 2])) for number in range(8)]


@pytest.mark.parametrize("dated_s", [None, -300])
def test_an_end_that_is_added_to_an_old_list_is_no_life(dated_s: float | None) -> None:
    freshness = Freshness(began_at=BEGAN_AT)
    freshness.shown(playlist(90, dated_s=dated_s))
    shown = freshness.shown(playlist(90, count=6, dated_s=dated_s, ended=True))
    assert ([], False) == (sequences(shown), shown.ended)


def test_once_the_new_list_is_known_a_reset_passes() -> None:
    freshness = Freshness(began_at=BEGAN_AT)
    freshness.shown(playlist(0, dated_s=0))
    assert [0, 1, 2, 3, 4] == sequences(freshness.shown(playlist(0, dated_s=-500, name="c")))


def test_without_dates_a_list_is_shown_when_it_goes_on() -> None:
    freshness = Freshness(began_at=BEGAN_AT)
    assert [] == sequences(freshness.shown(playlist(3)))
    assert [] == sequences(freshness.shown(playlist(3)))
    assert [3, 4, 5, 6, 7, 8] == sequences(freshness.shown(playlist(3, count=6)))


def test_without_dates_the_list_that_takes_the_place_of_another_is_the_new_one() -> None:
    freshness = Freshness(began_at=BEGAN_AT)
    assert [] == sequences(freshness.shown(playlist(90, ended=True)))
    assert [0, 1] == sequences(freshness.shown(playlist(0, count=2, name="b")))


def test_a_clock_that_is_wrong_hides_no_living_stream_for_long() -> None:
    freshness = Freshness(began_at=BEGAN_AT)
    shown = [sequences(freshness.shown(playlist(first, dated_s=-900 + 2 * first))) for first in range(4)]
    assert [[], []] == shown[:2]
    assert [3, 4, 5, 6, 7] == shown[3]


def test_an_empty_list_proves_nothing() -> None:
    freshness = Freshness(began_at=BEGAN_AT)
    empty = freshness.shown(playlist(0, count=0, ended=True))
    assert ([], False) == (sequences(empty), empty.ended)


@pytest.mark.parametrize(
    ("url", "static"),
    [(STATIC, True), (f"{STATIC}?token=1", True), (DATED, False), ("https://cdn.example/master.m3u8", False)],
)
def test_only_the_documented_static_address_is_one(url: str, static: bool) -> None:
    assert static == is_static_address(url)


def test_a_successor_and_a_stream_without_a_beginning_judge_nothing() -> None:
    source = Source(sealed_url="x", display_url="x", began_at=BEGAN_AT)
    assert freshness_of(source, STATIC, is_joined=False) is not None
    assert freshness_of(source, STATIC, is_joined=True) is None
    assert freshness_of(source, DATED, is_joined=False) is None
    assert freshness_of(Source(sealed_url="x", display_url="x"), STATIC, is_joined=False) is None

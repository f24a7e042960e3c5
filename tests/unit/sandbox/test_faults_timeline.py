"""What a scripted source does when, and what it offered: pure, without clock or HTTP."""

from datetime import UTC, datetime
from math import inf
from pathlib import Path

import pytest

from sandbox.faults_offer import Offer, offers, read_offers, write_offers
from sandbox.faults_playlist import Rendering, damaged, media, shown_at_s
from sandbox.faults_timeline import Timeline, plan
from sandbox.live_window import LiveSegment
from sandbox.scenario import Script, parse_script

SEGMENTS = tuple(LiveSegment(f"{n:06d}.ts", n * 2_000_000, 2_000_000) for n in range(30))
DIGESTS = {n: f"sha-{n}" for n in range(30)}


def script(faults: str = "", stream: str = "{}") -> Script:
    return parse_script(f"stream: {stream}\nfaults: [{faults}]")


def timeline(faults: str = "", stream: str = "{}") -> Timeline:
    return plan(SEGMENTS, script=script(faults, stream))


def offered(faults: str = "", stream: str = "{}") -> tuple[Offer, ...]:
    read = script(faults, stream)
    return offers(plan(SEGMENTS, script=read), read, digests=DIGESTS)


def numbers(of: Timeline, at_s: float) -> list[int]:
    return [of.sequence_of(cast, at_s) for cast in of.listed(at_s)]


def text(of: Timeline, at_s: float) -> str:
    rendering = Rendering(
        timeline=of,
        stream=script().stream,
        went_live_at=datetime(2026, 1, 1, tzinfo=UTC),
        target_s=2,
        durations_us=[2_000_000] * 30,
    )
    return media(rendering, at_s=at_s, now_s=at_s)


def test_without_faults_a_window_slides_over_the_film() -> None:
    plain = timeline()
    assert [0, 1] == numbers(plain, 4.5)
    assert list(range(5, 10)) == numbers(plain, 20.0)
    first = plain.casts[0]
    assert (2.0, 12.0, 22.0) == (first.complete_s, first.left_s, first.gone_s)
    assert inf == plain.casts[-1].left_s


def test_a_stall_moves_all_that_comes_later_and_loses_nothing() -> None:
    stalled = timeline("{at_s: 9, for_s: 30, fault: stall}")
    assert [0, 1, 2, 3] == numbers(stalled, 39.0)
    assert [0, 1, 2, 3, 4] == numbers(stalled, 40.0)
    assert 38.0 == stalled.casts[4].captured_s


def test_dates_run_as_the_media_does_at_any_speed_and_jump_with_a_pause() -> None:
    fast = timeline("{from_segment: 4, fault: stall, for_s: 5}", "{speed: 2, initial_segments: 2}")
    assert [-4.0, -2.0, 0.0, 2.0, 9.0, 11.0] == [cast.captured_s for cast in fast.casts[:6]]
    assert [0.0, 0.0, 1.0, 2.0, 8.0, 9.0] == [cast.complete_s for cast in fast.casts[:6]]


def test_after_a_restart_only_what_is_new_is_listed_under_new_numbers() -> None:
    restarted = timeline("{from_segment: 7, fault: sequence_reset}")
    assert [2, 3, 4, 5, 6] == numbers(restarted, 15.9)
    assert [0] == numbers(restarted, 16.0)
    assert "e1-000000.ts" == restarted.casts[7].uri
    assert (1, 0, -7 * 180_000) == (
        restarted.casts[7].epoch,
        restarted.casts[7].sequence,
        restarted.casts[7].pts_shift,
    )


def test_a_restart_under_the_old_names_serves_the_new_bytes() -> None:
    restarted = timeline("{from_segment: 7, fault: sequence_reset, names: same}")
    before, after = restarted.find("000000.ts", 15.9), restarted.find("000000.ts", 16.0)
    assert before is not None and after is not None
    assert (0, 7) == (before.ordinal, after.ordinal)


def test_renumbering_keeps_what_is_listed() -> None:
    renumbered = timeline("{from_segment: 7, fault: renumber, by: 100}")
    assert [103, 104, 105, 106, 107] == numbers(renumbered, 16.0)
    assert ["000003.ts", "000007.ts"] == [renumbered.listed(16.0)[n].uri for n in (0, -1)]


def test_a_window_jump_is_never_listed_and_leaves_no_hole_in_a_playlist() -> None:
    jumped = timeline("{from_segment: 5, fault: window_jump, count: 3}")
    assert [0, 1, 2, 3, 4] == numbers(jumped, 17.9)
    assert [8] == numbers(jumped, 18.0)
    assert jumped.find("000006.ts", 18.0) is None


def test_the_clock_wraps_within_the_segment_that_is_meant() -> None:
    wrapped = timeline("{from_segment: 6, fault: pts_wrap}")
    starts = [(126_000 + n * 180_000 + cast.pts_shift) % 2**33 for n, cast in enumerate(wrapped.casts)]
    assert starts[6] > starts[7] and sorted(starts[:7]) == starts[:7]


def test_the_count_of_discontinuities_slides_out_with_the_tag() -> None:
    cut = timeline("{from_segment: 2, fault: discontinuity}")
    assert "#EXT-X-DISCONTINUITY\n" in text(cut, 6.0)
    assert "#EXT-X-DISCONTINUITY-SEQUENCE:0\n" in text(cut, 14.0)
    assert "#EXT-X-DISCONTINUITY-SEQUENCE:1\n" in text(cut, 16.0)
    assert "#EXT-X-DISCONTINUITY\n" not in text(cut, 16.0)


def test_markers_stand_where_the_script_wants_them() -> None:
    marked = text(
        timeline(
            "{from_segment: 1, fault: ads, count: 2}, {from_segment: 2, fault: gap}, "
            "{from_segment: 3, fault: date_range, payload: goal}"
        ),
        10.0,
    )
    order = [
        marked.index(each) for each in ("CUE-OUT", "000001", "EXT-X-GAP", "000002", "CUE-IN", "DATERANGE")
    ]
    assert sorted(order) == order


@pytest.mark.parametrize(
    ("fault", "at_s", "shown_s"),
    [("{at_s: 9, for_s: 10, fault: freeze}", 15.0, 9.0), ("{at_s: 9, fault: stale, behind: 3}", 20.0, 14.0)],
)
def test_a_copy_is_of_an_earlier_moment(fault: str, at_s: float, shown_s: float) -> None:
    read = script(fault)
    assert shown_s == shown_at_s(plan(SEGMENTS, script=read), read.faults, now_s=at_s)  # type: ignore[arg-type]


def test_playlists_are_damaged_as_the_script_says() -> None:
    right = text(timeline(), 10.0)
    bad, huge, empty = (
        damaged(right, script(f"{{at_s: 0, fault: {name}}}").faults)  # type: ignore[arg-type]
        for name in ("bad_lines", "huge, size_bytes: 50000", "empty_playlist")
    )
    assert bad.count("#EXTINF:abc,") == 1
    assert 50_000 <= len(huge) < 52_000
    assert "EXTINF" not in empty and empty.startswith("#EXTM3U")


def test_an_offer_lasts_while_the_playlist_names_it_and_its_bytes_are_served() -> None:
    found = offered()
    assert {10.0} == {round(offer.offered_s, 3) for offer in found[:25]}
    assert {20.0} == {round(offer.fetchable_s, 3) for offer in found[:25]}


def test_a_fault_of_a_segment_takes_its_offer_away_and_is_told() -> None:
    found = offered("{from_segment: 3, count: 1, fault: status, code: 404}")
    assert (0.0, ("status 404",)) == (found[3].offered_s, found[3].faults)
    assert (10.0, ()) == (round(found[4].offered_s, 3), found[4].faults)


def test_a_fault_of_the_playlist_cuts_the_offer_but_not_the_bytes() -> None:
    found = offered("{at_s: 10, for_s: 4, target: playlist, fault: status, code: 503}")
    assert (8.0, 20.0) == (round(found[0].offered_s, 3), round(found[0].fetchable_s, 3))
    assert (4.0, ("playlist status 503",)) == (round(found[3].offered_s, 3), found[3].faults)


def test_a_frozen_playlist_offers_what_it_lists_and_nothing_newer() -> None:
    found = offered("{at_s: 10, for_s: 6, fault: freeze}")
    assert (10.0, 6.0) == (round(found[0].offered_s, 3), round(found[5].offered_s, 3))


def test_what_costs_one_more_try_only_is_still_offered() -> None:
    found = offered("{at_s: 0, fault: reset, tries: 1}, {at_s: 0, fault: redirect}")
    assert {10.0} == {round(offer.offered_s, 3) for offer in found[:25]}


def test_a_gap_is_not_offered() -> None:
    found = offered("{from_segment: 3, fault: gap}")
    assert ("gap", 0.0, ("gap",)) == (found[3].presence, found[3].offered_s, found[3].faults)


def test_offers_are_written_and_read_back(tmp_path: Path) -> None:
    found = offered("{from_segment: 3, fault: gap}")
    write_offers(tmp_path / "offers.jsonl", found)
    assert found == read_offers(tmp_path / "offers.jsonl")

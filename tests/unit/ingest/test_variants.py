"""A rendition that breaks is left for another one: nothing twice, nothing out of order, what is lost is a gap."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from ingest.domain.actions import (
    Action,
    CommitSegment,
    FailureKind,
    FetchFailure,
    LossCause,
    SegmentLost,
    SegmentUnwanted,
    UseOtherVariant,
)
from ingest.domain.playlist import Location, MediaPlaylist, Segment
from ingest.domain.policy import TrackerPolicy
from ingest.domain.timeline import Break
from ingest.domain.tracker import PlaylistTracker

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SEGMENT_US = 2_000_000
POLICY = TrackerPolicy()
NOT_FOUND = FetchFailure(kind=FailureKind.STATUS, status=404)
BROKEN = FetchFailure(kind=FailureKind.CORRUPT)
SILENT = FetchFailure(kind=FailureKind.TIMEOUT)
_Kind = TypeVar("_Kind")


def listing(
    variant: str,
    first: int,
    last: int,
    *,
    shift: int = 0,
    dated: bool = True,
    gaps: Iterable[int] = (),
    **more: bool,
) -> MediaPlaylist:
    """Media `first` to `last`; this variant counts them from `shift` on."""
    segments = tuple(
        Segment(
            sequence=n + shift,
            location=Location(url=f"https://cdn.example/{variant}/{n}.ts"),
            duration_us=SEGMENT_US,
            wall_at=NOON + timedelta(microseconds=n * SEGMENT_US) if dated else None,
            gap=n in gaps,
        )
        for n in range(first, last + 1)
    )
    return MediaPlaylist(
        url=f"https://cdn.example/{variant}.m3u8",
        target_us=SEGMENT_US,
        media_sequence=first + shift,
        listed_count=len(segments),
        segments=segments,
        variant=variant,
        has_other_variants=True,
        **more,
    )


def pts_of(segment: Segment) -> int:
    return 10_000_000 + SEGMENT_US * int(segment.location.url.rpartition("/")[2].partition(".")[0])


def store(
    follower: PlaylistTracker, *, now_s: float, failing: Iterable[str] = (), pts: bool = True
) -> list[Action]:
    """Fetch all that is due; what lies at a failing place answers 404."""
    actions: list[Action] = []
    while fetches := follower.next_fetches(100, now_s=now_s):
        for fetch in fetches:
            key = (fetch.epoch, fetch.sequence)
            if any(place in fetch.segment.location.url for place in failing):
                actions += follower.on_segment_failed(*key, failure=NOT_FOUND, now_s=now_s)
            else:
                pts_us = pts_of(fetch.segment) if pts else None
                actions += follower.on_segment_stored(*key, now_s=now_s, pts_us=pts_us, probed_us=SEGMENT_US)
    return actions


def of_kind(actions: Iterable[Action], kind: type[_Kind]) -> list[_Kind]:
    return [action for action in actions if isinstance(action, kind)]


def media(actions: Iterable[Action]) -> list[str]:
    """Where each committed segment came from."""
    return [
        a.segment.location.url.removeprefix("https://cdn.example/")[:-3]
        for a in of_kind(actions, CommitSegment)
    ]


def losses(actions: Iterable[Action]) -> list[tuple[str, int]]:
    return [(action.cause, action.estimated_us) for action in of_kind(actions, SegmentLost)]


def on_high(last: int = 4, **fields: bool) -> PlaylistTracker:
    follower = PlaylistTracker(POLICY, now_s=0)
    follower.on_playlist(listing("high", 0, last, **fields), now_s=0)
    store(follower, now_s=0)
    return follower


def test_a_segment_that_one_variant_lacks_is_had_from_another() -> None:
    follower = on_high()
    actions = list(follower.on_playlist(listing("high", 2, 7), now_s=4))
    actions += store(follower, now_s=4, failing=["high/5"])
    actions += store(follower, now_s=4.3, failing=["high/5"])

    assert ["not_found"] == [wish.reason for wish in of_kind(actions, UseOtherVariant)]
    actions += follower.on_playlist(listing("low", 2, 7, shift=90), now_s=4.4)
    actions += store(follower, now_s=4.4)

    assert (["low/5", "low/6", "low/7"], []) == (media(actions), losses(actions))
    assert [Break.VARIANT, "", ""] == [a.placed.break_before for a in of_kind(actions, CommitSegment)]
    assert [(1, 95), (1, 96), (1, 97)] == [(a.epoch, a.sequence) for a in of_kind(actions, CommitSegment)]
    assert {(0, 6), (0, 7)} == {(a.epoch, a.sequence) for a in of_kind(actions, SegmentUnwanted)}


def test_without_dates_the_medias_own_clock_tells_what_is_known_already() -> None:
    follower = on_high(dated=False)
    actions = list(follower.on_playlist(listing("low", 2, 7, shift=90, dated=False), now_s=4))
    actions += store(follower, now_s=4)

    assert (["low/5", "low/6", "low/7"], []) == (media(actions), losses(actions))
    assert [10_000_000, 12_000_000, 14_000_000] == [
        a.placed.start_us for a in of_kind(actions, CommitSegment)
    ]


def test_without_dates_the_medias_own_clock_tells_what_is_missing() -> None:
    follower = on_high(dated=False)
    actions = list(follower.on_playlist(listing("low", 8, 9, shift=90, dated=False), now_s=9))
    actions += store(follower, now_s=9)

    assert (["low/8", "low/9"], [("window_overrun", 3 * SEGMENT_US)]) == (media(actions), losses(actions))
    assert 8 * SEGMENT_US == of_kind(actions, CommitSegment)[0].placed.start_us


def test_what_the_other_variant_lacks_too_is_a_gap_with_its_own_cause() -> None:
    follower = on_high()
    follower.on_playlist(listing("high", 2, 7), now_s=4)
    store(follower, now_s=4, failing=["high/5"])
    store(follower, now_s=4.3, failing=["high/5"])
    actions = list(follower.on_playlist(listing("low", 6, 7, shift=90), now_s=4.4))
    actions += store(follower, now_s=4.4)

    assert (["low/6", "low/7"], [("not_found", SEGMENT_US)]) == (media(actions), losses(actions))


def test_a_variant_that_is_behind_is_waited_for_while_the_old_one_goes_on() -> None:
    follower = on_high()
    follower.on_playlist(listing("high", 2, 7), now_s=4)
    store(follower, now_s=4, failing=["high/5"])
    store(follower, now_s=4.3, failing=["high/5"])
    actions = list(follower.on_playlist(listing("low", 0, 4, shift=90), now_s=4.4))
    assert [] == media(actions)
    actions += follower.on_playlist(listing("low", 2, 6, shift=90), now_s=6)
    actions += store(follower, now_s=6)
    assert (["low/5", "low/6"], []) == (media(actions), losses(actions))


def test_a_marked_gap_is_looked_for_in_another_variant() -> None:
    follower = on_high()
    actions = list(follower.on_playlist(listing("high", 2, 7, gaps=[6]), now_s=4))
    actions += store(follower, now_s=4)
    assert ["source_gap"] == [wish.reason for wish in of_kind(actions, UseOtherVariant)]
    actions += follower.on_playlist(listing("low", 2, 7), now_s=4.1)
    actions += store(follower, now_s=4.1)
    assert (["high/5", "low/6", "low/7"], []) == (media(actions), losses(actions))


def test_what_no_variant_has_is_lost_at_once_and_not_asked_for_again_soon() -> None:
    follower = on_high()
    actions = list(follower.on_playlist(listing("high", 2, 7, gaps=[6]), now_s=4))
    actions += follower.on_no_other_variant(now_s=4)
    actions += store(follower, now_s=4)
    assert [("source_gap", SEGMENT_US)] == losses(actions)
    later = follower.on_playlist(listing("high", 4, 9, gaps=[6, 8]), now_s=8)
    assert [] == of_kind(later, UseOtherVariant)


def test_when_no_other_variant_comes_the_segment_is_tried_once_more_and_then_lost() -> None:
    follower = on_high()
    follower.on_playlist(listing("high", 2, 7), now_s=4)
    actions = store(follower, now_s=4, failing=["high/5"])
    actions += store(follower, now_s=4.3, failing=["high/5"])
    assert follower.retry_at_s == 4.3 + POLICY.variant_patience_s
    actions += store(follower, now_s=13, failing=["high/5"])
    assert ([("not_found", SEGMENT_US)], ["high/6", "high/7"]) == (losses(actions), media(actions))


def test_broken_bodies_and_server_errors_leave_the_variant_after_some_attempts() -> None:
    follower = on_high()
    follower.on_playlist(listing("high", 2, 5), now_s=4)
    actions: list[Action] = []
    for now_s in (4.0, 5.0, 6.0):
        ((fetch),) = follower.next_fetches(1, now_s=now_s)
        actions += follower.on_segment_failed(fetch.epoch, fetch.sequence, failure=BROKEN, now_s=now_s)
    assert ["corrupt"] == [wish.reason for wish in of_kind(actions, UseOtherVariant)]


def test_a_silent_network_is_no_matter_of_the_variant() -> None:
    follower = on_high()
    follower.on_playlist(listing("high", 2, 5), now_s=4)
    actions: list[Action] = []
    for now_s in (4.0, 5.0, 6.0, 8.0):
        ((fetch),) = follower.next_fetches(1, now_s=now_s)
        actions += follower.on_segment_failed(fetch.epoch, fetch.sequence, failure=SILENT, now_s=now_s)
    assert [] == of_kind(actions, UseOtherVariant)


def test_a_playlist_that_stays_unreadable_leaves_the_variant() -> None:
    follower = on_high()
    actions: list[Action] = []
    for now_s in (2.0, 3.0, 4.0):
        actions += follower.on_playlist_failed(NOT_FOUND, now_s=now_s)
    assert ["http_404"] == [wish.reason for wish in of_kind(actions, UseOtherVariant)]


def test_another_replica_goes_on_with_whatever_variant_it_finds() -> None:
    follower = on_high()
    resumed = PlaylistTracker(POLICY, now_s=10, cursor=follower.cursor)
    actions = list(resumed.on_playlist(listing("low", 3, 7, shift=50), now_s=10))
    actions += store(resumed, now_s=10)
    assert (["low/5", "low/6", "low/7"], []) == (media(actions), losses(actions))


def test_a_variant_under_a_new_name_with_the_same_media_is_the_same() -> None:
    follower = on_high()
    renamed = replace(listing("high", 2, 6), variant="high@changed")
    actions = list(follower.on_playlist(renamed, now_s=4))
    actions += store(follower, now_s=4)
    assert [(0, 5), (0, 6)] == [(a.epoch, a.sequence) for a in of_kind(actions, CommitSegment)]


def test_a_recording_is_had_whole_although_one_variant_breaks_in_its_middle() -> None:
    follower = PlaylistTracker(POLICY, now_s=0)
    actions = list(follower.on_playlist(listing("high", 0, 9, ended=True), now_s=0))
    actions += store(follower, now_s=0, failing=["high/4"])
    actions += store(follower, now_s=1, failing=["high/4"])
    actions += follower.on_playlist(listing("low", 0, 9, ended=True), now_s=1)
    actions += store(follower, now_s=1)
    assert [f"high/{n}" for n in range(4)] + [f"low/{n}" for n in range(4, 10)] == media(actions)
    assert ([], "ended") == (losses(actions), follower.phase)


def test_a_recording_ends_although_no_variant_has_all_of_it() -> None:
    follower = PlaylistTracker(POLICY, now_s=0)
    actions = list(follower.on_playlist(listing("high", 0, 5, ended=True), now_s=0))
    actions += store(follower, now_s=0, failing=["high/5"])
    actions += store(follower, now_s=1, failing=["high/5"])
    actions += follower.on_playlist(listing("low", 0, 4, ended=True), now_s=1)
    assert ([(LossCause.NOT_FOUND, SEGMENT_US)], "ended") == (losses(actions), follower.phase)


def test_a_loss_is_numbered_as_in_the_variant_that_listed_it_also_for_a_successor() -> None:
    follower = on_high()
    actions = list(follower.on_playlist(listing("low", 7, 8, shift=90), now_s=9))
    actions += follower.on_playlist(listing("high", 12, 13), now_s=18)
    assert "low" == follower.cursor.variant
    resumed = PlaylistTracker(POLICY, now_s=24, cursor=follower.cursor)
    actions += resumed.on_playlist(listing("high", 14, 15), now_s=24)
    actions += store(resumed, now_s=24)
    assert (["high/14", "high/15"], 9 * SEGMENT_US) == (media(actions), sum(us for _, us in losses(actions)))
    assert 14 * SEGMENT_US == of_kind(actions, CommitSegment)[0].placed.start_us


def test_what_is_stored_and_the_other_variant_does_not_list_any_more_is_kept() -> None:
    follower = on_high()
    follower.on_playlist(listing("high", 2, 9), now_s=4)
    store(follower, now_s=4, failing=["high/5"])
    store(follower, now_s=4.3, failing=["high/5"])
    actions = list(follower.on_playlist(listing("low", 8, 9, shift=90), now_s=4.4))
    actions += store(follower, now_s=4.4)

    assert ["high/6", "high/7", "low/8", "low/9"] == media(actions)
    assert [("not_found", SEGMENT_US)] == losses(actions)
    assert {(0, 8), (0, 9)} == {(a.epoch, a.sequence) for a in of_kind(actions, SegmentUnwanted)}

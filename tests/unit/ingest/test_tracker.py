import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.domain.actions import (
    Action,
    CommitSegment,
    Cursor,
    EndCause,
    Ended,
    FailureKind,
    FetchFailure,
    Joined,
    LossCause,
    PollAgain,
    ReloadMaster,
    ReloadWithoutDelta,
    Resumed,
    SegmentLost,
    Stalled,
)
from ingest.domain.playlist import EncryptionKey, InitSection, Location, MediaPlaylist, Segment
from ingest.domain.policy import TrackerPolicy
from ingest.domain.timeline import Break
from ingest.domain.tracker import Phase, PlaylistTracker

POLICY = TrackerPolicy()
_Kind = TypeVar("_Kind")
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND = 1_000_000
NOT_FOUND = FetchFailure(kind=FailureKind.STATUS, status=404)
FORBIDDEN = FetchFailure(kind=FailureKind.STATUS, status=403)
UNAVAILABLE = FetchFailure(kind=FailureKind.STATUS, status=503)


def segment(
    sequence: int, *, take: str = "a", dated: bool = False, token: str = "", **fields: Any
) -> Segment:
    url = f"https://cdn.example/{take}/{sequence}.ts" + (f"?{token}" if token else "")
    made = {
        "sequence": sequence,
        "location": Location(url=url),
        "duration_us": 2 * SECOND,
        "wall_at": NOON + timedelta(seconds=2 * sequence) if dated else None,
    }
    return Segment(**{**made, **fields})


def listing(first: int, last: int, *, take: str = "a", ended: bool = False, **fields: Any) -> MediaPlaylist:
    return playlist(
        [segment(s, take=take, **fields) for s in range(first, last + 1)], first=first, ended=ended
    )


def playlist(segments: list[Segment], *, first: int | None = None, **fields: Any) -> MediaPlaylist:
    return MediaPlaylist(
        **{
            "url": "https://cdn.example/p.m3u8",
            "target_us": 2 * SECOND,
            "media_sequence": segments[0].sequence if first is None else first,
            "listed_count": len(segments),
            "segments": tuple(segments),
            **fields,
        }
    )


def tracker(cursor: Cursor | None = None, policy: TrackerPolicy = POLICY) -> PlaylistTracker:
    return PlaylistTracker(policy, now_s=0, cursor=cursor)


def store_all(follower: PlaylistTracker, *, now_s: float) -> list[Action]:
    actions: list[Action] = []
    while fetches := follower.next_fetches(100, now_s=now_s):
        for fetch in fetches:
            actions += follower.on_segment_stored(fetch.epoch, fetch.sequence, now_s=now_s)
    return actions


def of_kind(actions: Iterable[Action], kind: type[_Kind]) -> list[_Kind]:
    return [action for action in actions if isinstance(action, kind)]


def committed(actions: Iterable[Action]) -> list[tuple[int, int]]:
    return [(action.epoch, action.sequence) for action in of_kind(actions, CommitSegment)]


def lost(actions: Iterable[Action]) -> list[tuple[int, int, int, str]]:
    return [(a.epoch, a.from_sequence, a.to_sequence, a.cause) for a in of_kind(actions, SegmentLost)]


def joined(first: int = 0, last: int = 4, **fields: Any) -> PlaylistTracker:
    follower = tracker()
    follower.on_playlist(listing(first, last, **fields), now_s=0)
    store_all(follower, now_s=0)
    return follower


def test_the_first_join_takes_the_oldest_listed_segment_first() -> None:
    follower = tracker()
    (start, *_) = follower.on_playlist(listing(10, 14), now_s=0)
    assert isinstance(start, Joined) and start.cursor.sequence == 9
    assert [fetch.sequence for fetch in follower.next_fetches(3, now_s=0)] == [10, 11, 12]
    assert [fetch.sequence for fetch in follower.next_fetches(3, now_s=0)] == [13, 14]


def test_segments_are_committed_in_order_whatever_the_order_of_arrival() -> None:
    follower = tracker()
    follower.on_playlist(listing(0, 2), now_s=0)
    follower.next_fetches(3, now_s=0)
    assert committed(follower.on_segment_stored(0, 2, now_s=1)) == []
    assert committed(follower.on_segment_stored(0, 0, now_s=1)) == [(0, 0)]
    assert committed(follower.on_segment_stored(0, 1, now_s=1)) == [(0, 1), (0, 2)]
    assert committed(follower.on_segment_stored(0, 1, now_s=1)) == []


def test_a_window_that_passed_on_is_a_gap_with_its_length() -> None:
    follower = joined()
    actions = [*follower.on_playlist(listing(8, 12), now_s=16), *store_all(follower, now_s=16)]
    assert lost(actions) == [(0, 5, 7, LossCause.WINDOW_OVERRUN)]
    assert of_kind(actions, SegmentLost)[0].estimated_us == 6 * SECOND
    assert committed(actions)[0] == (0, 8)


def test_the_length_of_a_gap_comes_from_the_dates_where_there_are_some() -> None:
    follower = joined(dated=True)
    late = [segment(n, wall_at=NOON + timedelta(seconds=2 * n + 1)) for n in range(8, 13)]
    (gap,) = of_kind(follower.on_playlist(playlist(late), now_s=16), SegmentLost)
    assert gap.estimated_us == 7 * SECOND


def test_unchanged_and_stale_copies_bring_nothing() -> None:
    follower = joined(5, 9)
    for first, last in ((5, 9), (4, 8), (3, 7), (5, 9)):
        assert of_kind(follower.on_playlist(listing(first, last), now_s=1), SegmentLost) == []
        assert follower.next_fetches(9, now_s=1) == ()
    assert committed([*follower.on_playlist(listing(6, 10), now_s=2), *store_all(follower, now_s=2)]) == [
        (0, 10)
    ]


def test_a_reset_is_confirmed_by_a_second_reload_and_begins_a_new_epoch() -> None:
    follower = joined(100, 104)
    follower.on_playlist(listing(0, 1, take="b"), now_s=2)
    assert follower.next_fetches(9, now_s=2) == ()
    assert follower.parse_from_sequence == 0
    follower.on_playlist(listing(0, 2, take="b"), now_s=3)
    actions = store_all(follower, now_s=3)
    assert committed(actions) == [(1, 0), (1, 1), (1, 2)]
    assert [a.placed.break_before for a in of_kind(actions, CommitSegment)] == [Break.EPOCH, "", ""]


def test_other_media_under_the_same_numbers_is_a_reset() -> None:
    follower = joined(2, 6)
    for now_s in (2, 3):
        follower.on_playlist(listing(3, 7, take="b"), now_s=now_s)
    assert committed(store_all(follower, now_s=3)) == [(1, n) for n in range(3, 8)]


def test_a_suspicion_is_dropped_when_the_known_playlist_comes_back() -> None:
    follower = joined(100, 104)
    for listed in (listing(0, 1, take="b"), listing(100, 105), listing(0, 1, take="b"), listing(101, 106)):
        follower.on_playlist(listed, now_s=2)
    assert committed(store_all(follower, now_s=3)) == [(0, 105), (0, 106)]


def test_a_reset_with_a_later_date_needs_no_confirmation() -> None:
    follower = joined(100, 104, dated=True)
    late = [replace(segment(n, take="b"), wall_at=NOON + timedelta(seconds=300 + 2 * n)) for n in range(2)]
    follower.on_playlist(playlist(late), now_s=2)
    assert committed(store_all(follower, now_s=2)) == [(1, 0), (1, 1)]


def test_a_renumbered_playlist_brings_no_duplicates() -> None:
    follower = joined(100, 104)
    same = [replace(segment(100 + n), sequence=n) for n in range(2, 7)]
    for now_s in (2, 3):
        follower.on_playlist(playlist(same), now_s=now_s)
    assert committed(store_all(follower, now_s=3)) == [(1, 5), (1, 6)]


def test_a_leap_that_no_outage_explains_is_a_reset_and_not_a_gap() -> None:
    follower = joined()
    actions: list[Action] = []
    for now_s in (2, 3):
        actions += follower.on_playlist(listing(1_700_000_000, 1_700_000_004), now_s=now_s)
    assert lost(actions) == []
    assert committed(store_all(follower, now_s=3))[0] == (1, 1_700_000_000)


def test_an_old_copy_that_moves_on_by_itself_for_long_is_a_restart() -> None:
    follower = joined(20, 29)
    actions: list[Action] = []
    for step in range(40):
        first = 16 + step // 10
        follower.on_playlist(listing(first, first + 9), now_s=3.0 * step)
        actions += store_all(follower, now_s=3.0 * step)
    assert committed(actions)[0] == (1, 18)


def test_a_copy_that_lags_by_more_than_its_window_is_stale_as_long_as_it_is_remembered() -> None:
    follower = tracker()
    actions: list[Action] = []
    for newest in range(4, 60):
        actions += follower.on_playlist(listing(newest - 4, newest), now_s=2.0 * newest)
        actions += store_all(follower, now_s=2.0 * newest)
        for lag in (40, 9, 8, 5):
            copy = listing(max(0, newest - lag - 4), max(0, newest - lag))
            actions += follower.on_playlist(copy, now_s=2.0 * newest + 1)
            actions += store_all(follower, now_s=2.0 * newest + 1)
    assert (committed(actions), lost(actions)) == ([(0, n) for n in range(60)], [])


def test_an_edge_that_lags_by_its_window_may_catch_up_on_its_own() -> None:
    follower = tracker()
    actions: list[Action] = []
    follower.on_playlist(listing(0, 4), now_s=0.0)
    follower.on_playlist(listing(5, 9), now_s=10.0)
    store_all(follower, now_s=10.0)
    for step in range(7):
        actions += follower.on_playlist(listing(step, 4 + step), now_s=12.0 + 2 * step)
        actions += store_all(follower, now_s=12.0 + 2 * step)
    assert (committed(actions), lost(actions)) == ([(0, 10)], [])


def test_a_copy_from_before_the_join_is_no_reset_as_long_as_it_stands_still() -> None:
    follower = joined(10, 11)
    actions = [a for now_s in range(2, 8) for a in follower.on_playlist(listing(6, 7), now_s=now_s)]
    actions += [*follower.on_playlist(listing(11, 12), now_s=8), *store_all(follower, now_s=8)]
    assert (committed(actions), lost(actions)) == ([(0, 12)], [])


def test_an_unknown_list_that_is_over_is_a_reset() -> None:
    follower = joined(10, 14)
    for now_s in (2, 3):
        follower.on_playlist(listing(0, 2, take="b", ended=True), now_s=now_s)
    assert committed(store_all(follower, now_s=3)) == [(1, 0), (1, 1), (1, 2)]


def test_a_restart_under_the_old_names_loses_nothing() -> None:
    """Without dates the new list looks like an old copy, but for that it stays behind."""
    follower, now_s = joined(0, 4), 0.0
    actions: list[Action] = []
    for newest in range(5, 30):
        now_s += 2
        follower.on_playlist(listing(newest - 4, newest), now_s=now_s)
        store_all(follower, now_s=now_s)
    for newest in range(12):
        now_s += 2
        actions += follower.on_playlist(listing(max(0, newest - 4), newest), now_s=now_s)
        actions += store_all(follower, now_s=now_s)
    assert (committed(actions), lost(actions)) == ([(1, n) for n in range(12)], [])


def test_a_restart_first_seen_with_a_full_window_loses_no_more_than_about_that() -> None:
    follower = tracker()
    actions: list[Action] = []
    for newest in range(4, 30):
        follower.on_playlist(listing(newest - 4, newest), now_s=2.0 * newest)
        store_all(follower, now_s=2.0 * newest)
    for newest in range(5, 20):
        actions += follower.on_playlist(listing(newest - 4, newest), now_s=60.0 + 2 * newest)
        actions += store_all(follower, now_s=60.0 + 2 * newest)
    assert committed(actions) == [(1, n) for n in range(7, 20)]


def test_what_was_known_under_the_numbers_of_the_former_epoch_is_forgotten() -> None:
    follower = joined(0, 9)
    actions: list[Action] = []
    for newest in (0, 1, 2, 3, 4):
        actions += follower.on_playlist(listing(0, newest, take="b"), now_s=2.0 + newest)
        actions += store_all(follower, now_s=2.0 + newest)
    assert committed(actions) == [(1, n) for n in range(5)]


def test_the_same_path_on_another_host_with_another_token_is_the_same_segment() -> None:
    follower = joined(0, 4, token="t=1")
    moved = [
        replace(s, location=Location(url=s.location.url.replace("cdn", "edge2")))
        for s in listing(0, 5).segments
    ]
    follower.on_playlist(playlist(moved), now_s=2)
    assert committed(store_all(follower, now_s=2)) == [(0, 5)]


def test_a_marked_gap_is_reported_without_a_fetch() -> None:
    follower = tracker()
    listed = playlist([segment(0), segment(1, gap=True), segment(2)])
    actions = [*follower.on_playlist(listed, now_s=0), *store_all(follower, now_s=0)]
    assert (committed(actions), lost(actions)) == ([(0, 0), (0, 2)], [(0, 1, 1, LossCause.SOURCE_GAP)])


def test_a_refused_address_is_a_gap_without_a_fetch() -> None:
    follower = tracker()
    listed = playlist([segment(0), segment(1, location=Location(url="file:///x", refusal="scheme"))])
    actions = [*follower.on_playlist(listed, now_s=0), *store_all(follower, now_s=0)]
    assert lost(actions) == [(0, 1, 1, LossCause.REFUSED_ADDRESS)]


def test_neighbouring_losses_of_one_cause_are_one_gap() -> None:
    follower = tracker()
    listed = playlist([segment(n, gap=True) for n in range(3)] + [segment(3)])
    actions = follower.on_playlist(listed, now_s=0)
    assert lost(actions) == [(0, 0, 2, LossCause.SOURCE_GAP)]
    assert of_kind(actions, SegmentLost)[0].estimated_us == 6 * SECOND


def fail_until_settled(
    follower: PlaylistTracker, sequence: int, failure: FetchFailure, *, now_s: float
) -> tuple[list[float], list[Action]]:
    """Fails every attempt at `sequence`; returns the times of the attempts and all actions."""
    times = []
    actions: list[Action] = []
    while not lost(actions):
        assert now_s < 1000
        for fetch in follower.next_fetches(9, now_s=now_s):
            if fetch.sequence != sequence:
                actions += follower.on_segment_stored(0, fetch.sequence, now_s=now_s)
                continue
            times.append(now_s)
            actions += follower.on_segment_failed(0, sequence, failure=failure, now_s=now_s)
        now_s = round(now_s + 0.05, 2)
    return times, actions


def test_404_on_the_newest_is_retried_for_two_targets() -> None:
    follower = joined()
    follower.on_playlist(listing(1, 5), now_s=2)
    times, actions = fail_until_settled(follower, 5, NOT_FOUND, now_s=2)
    assert 5.9 <= times[-1] <= 6.1 and len(times) >= 4
    assert lost(actions) == [(0, 5, 5, LossCause.NOT_FOUND)]


def test_404_on_an_older_one_is_given_up_soon() -> None:
    follower = tracker()
    follower.on_playlist(listing(0, 4), now_s=0)
    times, _ = fail_until_settled(follower, 0, NOT_FOUND, now_s=0)
    assert len(times) == POLICY.settled_attempts


def test_server_errors_are_retried_until_the_segment_can_no_longer_be_had() -> None:
    follower = joined()
    follower.on_playlist(listing(1, 5), now_s=2)
    follower.next_fetches(1, now_s=2)
    assert follower.on_segment_failed(0, 5, failure=UNAVAILABLE, now_s=2) == ()
    follower.on_playlist(listing(6, 10), now_s=12)
    times, actions = fail_until_settled(follower, 5, UNAVAILABLE, now_s=12)
    assert lost(actions) == [(0, 5, 5, LossCause.SERVER_ERROR)]
    assert 23 <= times[-1] <= 24.1


def test_a_segment_that_stays_listed_is_given_up_when_the_budget_ends() -> None:
    follower = tracker()
    follower.on_playlist(listing(0, 0, ended=True), now_s=0)
    times, actions = fail_until_settled(follower, 0, FetchFailure(kind=FailureKind.TIMEOUT), now_s=0)
    assert 59.9 <= times[-1] <= 60.1
    assert lost(actions) == [(0, 0, 0, LossCause.TIMEOUT)]
    assert of_kind(actions, Ended)[0].cause == EndCause.ENDLIST


def test_a_denied_segment_asks_the_master_once_and_is_fetched_with_its_fresh_address() -> None:
    follower = tracker()
    follower.on_playlist(listing(0, 1, token="old"), now_s=0)
    follower.next_fetches(2, now_s=0)
    assert of_kind(follower.on_segment_failed(0, 0, failure=FORBIDDEN, now_s=0), ReloadMaster) != []
    assert follower.on_segment_failed(0, 1, failure=FORBIDDEN, now_s=0) == ()
    follower.on_playlist(listing(0, 1, token="new"), now_s=1)
    fetches = follower.next_fetches(2, now_s=1)
    assert [fetch.segment.location.url for fetch in fetches] == [
        f"https://cdn.example/a/{n}.ts?new" for n in (0, 1)
    ]
    assert lost(follower.on_segment_failed(0, 0, failure=FORBIDDEN, now_s=1)) == [(0, 0, 0, LossCause.DENIED)]


def test_a_stall_is_told_once_and_ended_by_news() -> None:
    follower = joined()
    actions: list[Action] = []
    for now_s in range(1, 14):
        actions += follower.on_playlist(listing(0, 4), now_s=now_s)
    (stall,) = of_kind(actions, Stalled)
    assert (stall.index, stall.cause, stall.cursor.stalled, follower.phase) == (
        0,
        "unchanged",
        True,
        Phase.STALLED,
    )
    (resume,) = of_kind(follower.on_playlist(listing(1, 5), now_s=14), Resumed)
    assert (resume.index, resume.cursor.stalled, follower.phase) == (0, False, Phase.FOLLOWING)


def test_a_playlist_that_fails_while_following_asks_the_master_and_stalls_but_is_not_over() -> None:
    follower = joined()
    actions: list[Action] = []
    for now_s in range(1, 100):
        actions += follower.on_playlist_failed(NOT_FOUND, now_s=now_s)
    assert of_kind(actions, Stalled)[0].cause == "http_404"
    assert len(of_kind(actions, ReloadMaster)) > 1
    assert of_kind(actions, Ended) == []


def test_a_pause_of_our_own_is_no_stall() -> None:
    follower = joined()
    actions = [*follower.on_playlist(listing(20, 24), now_s=60), *store_all(follower, now_s=60)]
    assert of_kind(actions, Stalled) == []
    assert lost(actions) == [(0, 5, 19, LossCause.WINDOW_OVERRUN)]


def test_a_source_that_stays_silent_for_ten_minutes_is_dead() -> None:
    follower = joined()
    actions: list[Action] = []
    for now_s in range(1, 602):
        actions += follower.on_playlist(listing(0, 4), now_s=now_s)
    (end,) = of_kind(actions, Ended)
    assert (end.cause, follower.poll_at_s, end.cursor.ended) == (
        EndCause.SOURCE_DEAD,
        float("inf"),
        "source_dead",
    )


def test_a_source_that_never_answers_is_unreachable_after_a_minute() -> None:
    follower = tracker()
    actions: list[Action] = []
    polls, now_s = 0, 0.0
    while not of_kind(actions, Ended):
        actions += follower.on_playlist_failed(NOT_FOUND, now_s=now_s)
        now_s, polls = min(follower.poll_at_s, now_s + 10), polls + 1
    assert of_kind(actions, Ended)[0].cause == EndCause.SOURCE_UNREACHABLE
    assert 60 <= now_s <= 75 and polls > 12


def test_a_source_that_starts_late_is_joined() -> None:
    follower = tracker()
    for now_s in range(50):
        follower.on_playlist_failed(FetchFailure(kind=FailureKind.NOT_A_PLAYLIST), now_s=now_s)
    follower.on_playlist(listing(0, 1), now_s=50)
    assert follower.phase is Phase.FOLLOWING


def test_a_playlist_that_stays_empty_is_waited_for_like_a_dead_source() -> None:
    follower = tracker()
    empty = playlist([], first=0)
    assert of_kind(follower.on_playlist(empty, now_s=100), Ended) == []
    assert of_kind(follower.on_playlist(empty, now_s=601), Ended)[0].cause == EndCause.SOURCE_DEAD


def test_a_refused_playlist_ends_at_once_with_the_reason() -> None:
    failure = FetchFailure(kind=FailureKind.REFUSED, detail="private address")
    (end,) = of_kind(tracker().on_playlist_failed(failure, now_s=0), Ended)
    assert (end.cause, end.detail) == (EndCause.SOURCE_REFUSED, "private address")


def test_endlist_ends_when_everything_is_settled() -> None:
    follower = tracker()
    follower.on_playlist(listing(0, 2, ended=True), now_s=0)
    assert follower.poll_at_s == float("inf")
    actions = store_all(follower, now_s=1)
    assert (committed(actions), of_kind(actions, Ended)[0].cause) == (
        [(0, 0), (0, 1), (0, 2)],
        EndCause.ENDLIST,
    )
    assert follower.on_playlist(listing(0, 9), now_s=2) == ()


def test_endlist_without_news_ends_too() -> None:
    follower = joined()
    assert (
        of_kind(follower.on_playlist(listing(0, 4, ended=True), now_s=2), Ended)[0].cause == EndCause.ENDLIST
    )


def test_offline_drains_and_then_ends() -> None:
    follower = joined()
    follower.on_offline(now_s=2)
    follower.on_playlist(listing(1, 5), now_s=4)
    actions = store_all(follower, now_s=4)
    assert (committed(actions), of_kind(actions, Ended)) == ([(0, 5)], [])
    assert of_kind(follower.on_playlist(listing(1, 5), now_s=17), Ended)[0].cause == EndCause.STOPPED


def test_offline_with_endlist_does_not_wait() -> None:
    follower = joined()
    follower.on_offline(now_s=2)
    assert (
        of_kind(follower.on_playlist(listing(0, 4, ended=True), now_s=3), Ended)[0].cause == EndCause.ENDLIST
    )


def test_encryption_that_cannot_be_undone_ends_with_the_reason() -> None:
    key = EncryptionKey(method="SAMPLE-AES", location=Location(url=""), unsupported="SAMPLE-AES (identity)")
    actions = tracker().on_playlist(listing(0, 2, key=key), now_s=0)
    assert lost(actions) == [(0, 0, 2, LossCause.UNSUPPORTED_ENCRYPTION)]
    (end,) = of_kind(actions, Ended)
    assert (end.cause, end.detail) == (EndCause.UNSUPPORTED_ENCRYPTION, "SAMPLE-AES (identity)")


def test_a_delta_update_is_asked_for_again_in_full() -> None:
    actions = tracker().on_playlist(replace(listing(0, 4), skipped=True), now_s=0)
    assert [type(action) for action in actions] == [ReloadWithoutDelta, PollAgain]


def test_tags_init_sections_and_counters_break_the_timeline() -> None:
    init = InitSection(location=Location(url="https://cdn.example/i.mp4"))
    listed = [
        segment(0, discontinuity=True),
        segment(1, discontinuity=True),
        segment(2),
        segment(3, init=init),
        segment(4, init=init, discontinuity_sequence=1),
    ]
    follower = tracker()
    follower.on_playlist(playlist(listed, has_discontinuity_sequence=True), now_s=0)
    breaks = [a.placed.break_before for a in of_kind(store_all(follower, now_s=0), CommitSegment)]
    assert breaks == ["", Break.TAGGED, "", Break.INIT_SECTION, Break.TAGGED]


def test_without_dates_a_live_list_is_anchored_to_end_at_first_sight() -> None:
    follower = tracker()
    follower.on_playlist(listing(0, 4), now_s=0, wall_at=NOON)
    walls = [a.placed.wall_at for a in of_kind(store_all(follower, now_s=0), CommitSegment)]
    assert walls == [NOON - timedelta(seconds=s) for s in (10, 8, 6, 4, 2)]


def test_a_cursor_survives_json() -> None:
    follower = tracker()
    follower.on_playlist(listing(0, 4, dated=True), now_s=0)
    cursor = of_kind(store_all(follower, now_s=0), CommitSegment)[-1].cursor
    assert Cursor.from_json(json.loads(json.dumps(cursor.to_json()))) == cursor == follower.cursor
    assert Cursor.from_json(json.loads(json.dumps(Cursor().to_json()))) == Cursor()


def test_another_replica_goes_on_after_the_last_commit() -> None:
    follower = tracker()
    follower.on_playlist(listing(0, 4), now_s=0)
    cursor = of_kind(store_all(follower, now_s=0), CommitSegment)[2].cursor
    other = tracker(cursor)
    actions = [*other.on_playlist(listing(1, 5), now_s=0), *store_all(other, now_s=0)]
    assert committed(actions) == [(0, 3), (0, 4), (0, 5)]
    assert of_kind(actions, CommitSegment)[0].placed.start_us == 6 * SECOND


def test_another_replica_reports_what_passed_by_since_the_last_commit() -> None:
    cursor = joined().cursor
    other = tracker(cursor)
    actions = [*other.on_playlist(listing(8, 12), now_s=0), *store_all(other, now_s=0)]
    assert (lost(actions), committed(actions)[0]) == ([(0, 5, 7, LossCause.WINDOW_OVERRUN)], (0, 8))


def test_what_passed_by_between_join_and_first_commit_is_a_gap() -> None:
    (start,) = of_kind(tracker().on_playlist(listing(5, 9), now_s=0), Joined)
    assert lost(tracker(start.cursor).on_playlist(listing(8, 12), now_s=0)) == [
        (0, 5, 7, LossCause.WINDOW_OVERRUN)
    ]


def test_another_replica_takes_over_a_stall() -> None:
    follower = joined()
    (stall,) = of_kind(follower.on_playlist(listing(0, 4), now_s=11), Stalled)
    other = tracker(stall.cursor)
    assert of_kind(other.on_playlist(listing(0, 4), now_s=30), Stalled) == []
    assert of_kind(other.on_playlist(listing(1, 5), now_s=31), Resumed)[0].index == 0


def test_another_replica_ends_a_stream_whose_source_is_gone_after_endlist() -> None:
    follower = tracker()
    follower.on_playlist(listing(0, 4, ended=True), now_s=0)
    follower.next_fetches(9, now_s=0)
    (first,) = of_kind(follower.on_segment_stored(0, 0, now_s=0), CommitSegment)
    other = tracker(first.cursor)
    actions = [a for now_s in range(62) for a in other.on_playlist_failed(NOT_FOUND, now_s=now_s)]
    assert lost(actions) == [(0, 1, 4, LossCause.SOURCE_UNREACHABLE)]
    assert of_kind(actions, Ended)[0].cause == EndCause.ENDLIST


def test_nothing_follows_an_end() -> None:
    follower = tracker(replace(Cursor(), ended="stopped"))
    assert (follower.phase, follower.on_playlist(listing(0, 4), now_s=0), follower.poll_at_s) == (
        Phase.ENDED,
        (),
        float("inf"),
    )


def test_a_long_list_is_taken_in_parts_and_memory_follows_what_is_open() -> None:
    follower = tracker()
    everything = listing(0, 49, ended=True)
    actions: list[Action] = []
    now_s = 0.0
    while not of_kind(actions, Ended):
        first = follower.parse_from_sequence
        part = everything.segments[first : first + 20]
        cut = part[-1].sequence < 49
        actions += follower.on_playlist(
            replace(everything, segments=part, truncated=cut, ended=not cut), now_s=now_s
        )
        actions += store_all(follower, now_s=now_s)
        now_s = min(follower.poll_at_s, now_s + 10)
    assert committed(actions) == [(0, n) for n in range(50)]


@pytest.mark.parametrize("speed", [1, 4, 8])
def test_the_pace_follows_the_source_and_the_lag_stays_a_fraction_of_a_segment(speed: int) -> None:
    """Segments of 2 s appear every 2/speed seconds, the first at 0.37 s; the playlist always says TARGETDURATION 2."""
    interval_s, offset_s, window = 2 / speed, 0.37, 5 * speed
    follower, now_s, polls, seen_at = tracker(), 1.0, 0, {}
    actions: list[Action] = []
    while now_s < 120:
        last = int((now_s - offset_s) / interval_s)
        actions += follower.on_playlist(listing(max(0, last - window + 1), last), now_s=now_s)
        for action in store_all(follower, now_s=now_s):
            if isinstance(action, CommitSegment):
                seen_at[action.sequence] = now_s
        now_s, polls = follower.poll_at_s, polls + 1
    lags = sorted(at - (offset_s + n * interval_s) for n, at in seen_at.items() if at > 30)
    assert lost(actions) == []
    assert lags[len(lags) // 2] < max(0.15 * interval_s, 0.1)
    assert lags[int(len(lags) * 0.99)] < max(0.4 * interval_s, 0.2)
    assert polls < 2.7 * len(seen_at)


def test_policy_times_scale_with_the_speed_of_the_source() -> None:
    scaled = POLICY.scaled(speed=4)
    assert (scaled.stall_floor_s, scaled.stall_targets, scaled.longest_gap_s) == (2.5, 3.0, 43_200.0)


# -- properties ----------------------------------------------------------------------------------------


class Origin:
    """A source with a sliding window, resets, and segments that are never to be had."""

    def __init__(self, window: int) -> None:
        self.window, self.epoch, self.newest = window, 0, 4
        self.unavailable: set[tuple[int, int]] = set()

    def playlist(self, *, ended: bool = False) -> MediaPlaylist:
        first = max(0, self.newest - self.window + 1)
        return listing(first, self.newest, take=f"take{self.epoch}", ended=ended)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.integers(1, 9)),
        st.tuples(st.just("poll"), st.integers(0, 4)),
        st.tuples(st.just("stale"), st.integers(1, 2)),
        st.tuples(st.just("fail"), st.just(0)),
        st.tuples(st.just("reset"), st.integers(0, 3)),
        st.tuples(st.just("crash"), st.just(0)),
        st.tuples(st.just("break"), st.integers(0, 3)),
    ),
    max_size=60,
)


class Run:
    """Drives tracker and origin through a history; keeps only what was committed, as a database would."""

    def __init__(self, window: int, rng: Random) -> None:
        self.origin, self.rng, self.now_s = Origin(window), rng, 0.0
        self.tracker = tracker()
        self.saved = Cursor()
        self.facts: list[Action] = []

    def obey(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, (CommitSegment, SegmentLost, Joined, Stalled, Resumed, Ended)):
                self.facts.append(action)
                self.saved = action.cursor

    def fetch(self, limit: int) -> None:
        fetches = list(self.tracker.next_fetches(limit, now_s=self.now_s))
        self.rng.shuffle(fetches)
        for fetch in fetches:
            if (fetch.epoch, fetch.sequence) in self.origin.unavailable:
                failure = self.rng.choice([NOT_FOUND, FORBIDDEN, UNAVAILABLE])
                self.obey(
                    self.tracker.on_segment_failed(
                        fetch.epoch, fetch.sequence, failure=failure, now_s=self.now_s
                    )
                )
            else:
                self.obey(self.tracker.on_segment_stored(fetch.epoch, fetch.sequence, now_s=self.now_s))

    def step(self, name: str, amount: int) -> None:
        self.now_s += 0.7
        getattr(self, name)(amount)

    def advance(self, amount: int) -> None:
        self.origin.newest += amount

    def poll(self, limit: int) -> None:
        self.obey(self.tracker.on_playlist(self.origin.playlist(), now_s=self.now_s))
        self.fetch(limit)

    def stale(self, amount: int) -> None:
        newest = self.origin.newest
        self.origin.newest = max(newest - amount, 0)
        self.obey(self.tracker.on_playlist(self.origin.playlist(), now_s=self.now_s))
        self.origin.newest = newest

    def fail(self, _: int) -> None:
        self.obey(self.tracker.on_playlist_failed(UNAVAILABLE, now_s=self.now_s))

    def reset(self, newest: int) -> None:
        """The old list is read once more before, and the new one, which moves on, until believed."""
        self.poll(3)
        saved = (self.saved.epoch, self.saved.sequence)
        if saved == (self.origin.epoch, self.origin.newest) and newest <= self.saved.sequence:
            self.origin.epoch, self.origin.newest = self.origin.epoch + 1, newest
            self.poll(0)
            self.advance(1)
            self.poll(9)

    def crash(self, _: int) -> None:
        self.tracker = PlaylistTracker(POLICY, now_s=self.now_s, cursor=self.saved)

    def break_(self, ahead: int) -> None:
        self.origin.unavailable.add((self.origin.epoch, self.origin.newest + 1 + ahead))

    def finish(self) -> None:
        while self.tracker.phase is not Phase.ENDED:
            self.now_s += 1
            assert self.now_s < 5_000
            self.obey(self.tracker.on_playlist(self.origin.playlist(ended=True), now_s=self.now_s))
            self.fetch(3)


setattr(Run, "break", Run.break_)


def test_fetches_look_no_further_than_allowed_behind_one_that_is_not_settled() -> None:
    tracker = PlaylistTracker(POLICY, now_s=0.0)
    tracker.on_playlist(listing(0, 9, ended=True), now_s=0.0)
    first = [fetch.sequence for fetch in tracker.next_fetches(9, now_s=0.0, within=4)]
    tracker.on_segment_stored(0, 1, now_s=0.0)
    assert ([0, 1, 2, 3], ()) == (first, tracker.next_fetches(9, now_s=0.0, within=4))
    tracker.on_segment_stored(0, 0, now_s=0.0)
    assert [4, 5] == [fetch.sequence for fetch in tracker.next_fetches(9, now_s=0.0, within=4)]


@settings(max_examples=400, deadline=None)
@given(st.integers(2, 8), STEPS, st.randoms(use_true_random=False))
def test_every_history_is_told_whole_in_order_and_once(
    window: int, steps: list[tuple[str, int]], rng: Random
) -> None:
    run = Run(window, rng)
    for name, amount in steps:
        run.step(name, amount)
    run.finish()
    assert_whole(run)


def assert_whole(run: Run) -> None:
    told: dict[int, list[int]] = defaultdict(list)
    epochs, position_us = [], 0
    for fact in run.facts:
        if not isinstance(fact, (CommitSegment, SegmentLost)):
            continue
        ends = (
            (fact.sequence, fact.sequence)
            if isinstance(fact, CommitSegment)
            else (fact.from_sequence, fact.to_sequence)
        )
        told[fact.epoch].extend(range(ends[0], ends[1] + 1))
        epochs.append(fact.epoch)
        assert fact.placed.start_us == position_us
        assert fact.placed.duration_us == 2 * SECOND * (ends[1] - ends[0] + 1)
        assert fact.cursor.sequence == ends[1]
        position_us = fact.placed.end_us
    assert epochs == sorted(epochs)
    for sequences in told.values():
        assert sequences == list(range(sequences[0], sequences[-1] + 1))
    assert told[run.origin.epoch][-1] == run.origin.newest
    stored = [(f.epoch, f.sequence) for f in run.facts if isinstance(f, CommitSegment)]
    assert not run.origin.unavailable.intersection(stored)
    assert len(of_kind(run.facts, Ended)) == 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=60), st.randoms(use_true_random=False))
def test_nothing_is_lost_while_the_window_is_read_in_time(advances: list[int], rng: Random) -> None:
    run = Run(window=5, rng=rng)
    for amount in advances:
        run.step("advance", amount)
        run.step("poll", 3)
        if rng.random() < 0.2:
            run.step("crash", 0)
            run.step("poll", 5)
    run.finish()
    assert_whole(run)
    assert of_kind(run.facts, SegmentLost) == []


def test_what_a_list_claims_to_be_missing_puts_no_years_on_the_timeline() -> None:
    follower = joined(dated=True)
    claimed = [segment(5 + n, gap=True, duration_us=86_400 * SECOND) for n in range(10_000)]
    (gap,) = of_kind(follower.on_playlist(playlist(claimed), now_s=3), SegmentLost)
    assert timedelta(microseconds=gap.cursor.timeline.position_us) == timedelta(days=30)


def test_a_source_that_lists_faster_than_it_can_be_read_fills_no_memory_and_its_hole_is_told() -> None:
    follower = tracker()
    for n in range(6):
        follower.on_playlist(listing(10_000 * n, 10_000 * n + 9_999), now_s=n)
    assert follower.waiting_count == 20_000
    store_all(follower, now_s=7)
    actions = [*follower.on_playlist(listing(30_000, 30_004), now_s=8), *store_all(follower, now_s=8)]
    assert lost(actions) == [(0, 20_000, 29_999, LossCause.WINDOW_OVERRUN)]
    assert len(committed(actions)) == 5


def read_from(
    follower: PlaylistTracker, last: int, *, take: str = "a", is_new: bool = False
) -> MediaPlaylist:
    """As a reader shows it that is asked for what the tracker needs, at most 10 entries."""
    start = 0 if is_new or follower.parse_from_sequence > last else follower.parse_from_sequence
    listed = [segment(n, take=take, dated=True) for n in range(start, last + 1)]
    return playlist(listed[:10], first=0, listed_count=last + 1, truncated=len(listed) > 10)


def test_an_older_copy_of_a_list_too_long_for_one_reading_is_forgotten_with_the_next_reload() -> None:
    follower = tracker()
    actions: list[Action] = []
    for n in range(12):
        actions += follower.on_playlist(read_from(follower, 30), now_s=n)
        actions += store_all(follower, now_s=n)
    actions += follower.on_playlist(read_from(follower, 25), now_s=12)
    for n in range(13, 16):
        actions += follower.on_playlist(read_from(follower, 31), now_s=n)
        actions += store_all(follower, now_s=n)
    assert committed(actions) == [(0, n) for n in range(32)]


def test_another_variant_whose_list_is_too_long_for_one_reading_is_read_on_to_the_place() -> None:
    follower = joined(26, 30, dated=True)
    follower.on_playlist(replace(listing(26, 30, dated=True), variant="high"), now_s=1)
    actions: list[Action] = []
    for n in range(2, 8):
        other = replace(read_from(follower, 33, take="b", is_new=n == 2), variant="low")
        actions += follower.on_playlist(other, now_s=n)
        actions += store_all(follower, now_s=n)
    assert committed(actions) == [(1, 31), (1, 32), (1, 33)]

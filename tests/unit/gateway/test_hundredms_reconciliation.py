"""Reconciliation with 100ms' API: whatever is lost, late or out of order, each live stream is one of ours."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.hundredms_reconciliation import (
    LiveStatus,
    LiveStream,
    claimed,
    ending_of,
    reconcile,
)
from gateway.domain.hundredms_sighting import KnownStream, Sighting, is_same, url_key
from shared.ids import StreamId

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
DATED = "https://cdn.100ms.live/beam/customer/room/20260101/1767268800000/master.m3u8"
FIXED = "https://cdn.100ms.live/beam/customer/room/master.m3u8"


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def seen(url: str | None = DATED, *, started_s: float | None = 0, **more: object) -> Sighting:
    started_at = None if started_s is None else at(started_s)
    given: dict = {
        "room_id": "room",
        "session_id": "session",
        "url_key": url_key(url),
        "started_at": started_at,
    }
    return Sighting(**given | more)


def ours(sighting: Sighting, *, name: str = "str_1", **more: object) -> KnownStream:
    given: dict = {"is_over": False, "absences": 0, "created_at": at(0)}
    return KnownStream(stream_id=StreamId(name), sighting=sighting, **given | more)


def live(sighting: Sighting, status: str = LiveStatus.RUNNING, *, url: str | None = DATED) -> LiveStream:
    return LiveStream(
        sighting=replace(sighting, live_id=sighting.live_id or "live-1"), status=status, url=url
    )


def plan_of(*listed: LiveStream, known: tuple = (), buried: tuple = (), asked_s: float = 100, **more: bool):
    return reconcile(listed, known=known, buried=buried, asked_at=at(asked_s), **more)


def test_a_live_stream_that_nobody_told_of_is_started() -> None:
    stream = live(seen())
    assert (stream,) == plan_of(stream).starts


def test_one_that_a_webhook_started_is_linked_and_not_started_again() -> None:
    plan = plan_of(live(seen(started_s=3)), known=(ours(seen(beam_id="beam")),))
    assert () == plan.starts
    assert ((StreamId("str_1"), "live-1"),) == plan.links


def test_what_stands_twice_in_the_pages_counts_once() -> None:
    assert 1 == len(plan_of(live(seen()), live(seen())).starts)


def test_a_live_stream_without_an_address_waits_for_it() -> None:
    assert () == plan_of(live(seen(None), LiveStatus.STARTING, url=None)).starts


@pytest.mark.parametrize("status", sorted(LiveStatus))
def test_only_what_is_over_is_not_started(status: LiveStatus) -> None:
    started = plan_of(live(seen(), status)).starts
    assert (status in (LiveStatus.STARTING, LiveStatus.RUNNING)) == bool(started)


def test_a_stale_list_does_not_start_what_a_webhook_has_stopped() -> None:
    stopped = ours(seen(beam_id="beam", stopped_at=at(50)), is_over=True)
    assert () == plan_of(live(seen()), known=(stopped,)).starts


def test_a_stop_whose_start_never_came_keeps_a_stale_list_from_starting_it() -> None:
    buried = seen(None, beam_id="beam", stopped_at=at(50))
    assert () == plan_of(live(seen()), buried=(buried,)).starts


def test_the_next_stream_of_a_static_address_is_another_one() -> None:
    first = ours(seen(FIXED, beam_id="beam-1", stopped_at=at(50)), is_over=True)
    second = live(seen(FIXED, started_s=60), url=FIXED)
    assert (second,) == plan_of(second, known=(first,)).starts


def test_two_streams_of_a_room_at_the_same_time_are_two() -> None:
    other = "https://cdn.100ms.live/beam/customer/room/20260101/1767268800999/master.m3u8"
    first, second = live(seen()), live(seen(other, live_id="live-2"), url=other)
    plan = plan_of(first, second, known=(ours(seen(beam_id="beam")),))
    assert ((StreamId("str_1"), "live-1"),) == plan.links
    assert (second,) == plan.starts


def test_a_start_joins_no_stream_of_another_beam() -> None:
    told = seen(FIXED, beam_id="beam-2", started_s=20)
    assert claimed(told, [ours(seen(FIXED, beam_id="beam-1"))]) is None
    assert claimed(told, [ours(seen(FIXED, live_id="live-1"))]) is not None


def test_two_absences_make_a_suspect_and_one_does_not() -> None:
    once = plan_of(known=(ours(seen()),))
    twice = plan_of(known=(ours(seen(), absences=1),))
    assert ((StreamId("str_1"),), ()) == (once.absent, once.suspects)
    assert [StreamId("str_1")] == [each.stream_id for each in twice.suspects]


def test_a_list_that_was_cut_off_proves_no_absence() -> None:
    assert () == plan_of(known=(ours(seen(), absences=1),), is_complete=False).absent


def test_what_has_just_begun_is_not_missed() -> None:
    assert () == plan_of(known=(ours(seen(), created_at=at(97)),)).absent


def test_a_stream_that_is_seen_again_is_no_longer_missed() -> None:
    plan = plan_of(live(seen()), known=(ours(seen(live_id="live-1"), absences=1),))
    assert (StreamId("str_1"),) == plan.seen


def test_a_suspect_that_the_session_shows_as_finished_is_over_at_that_moment() -> None:
    finished = live(seen(stopped_at=at(40)), LiveStatus.COMPLETED)
    ending = ending_of(ours(seen(beam_id="beam")), [finished])
    assert ending is not None
    assert (at(40), False) == (ending.stopped_at, ending.failed)


def test_a_suspect_that_still_runs_is_not_over() -> None:
    assert ending_of(ours(seen()), [live(seen())]) is None


@pytest.mark.parametrize("live_id", ["", "live-1"])
def test_silence_ends_no_stream_whether_or_not_the_api_has_shown_it(live_id: str) -> None:
    """Credentials of another workspace, and an index that lags, answer with an empty list too."""
    assert ending_of(ours(seen(live_id=live_id)), []) is None


def test_what_another_connection_knows_is_not_started_again_and_not_missed() -> None:
    sibling = ours(seen(beam_id="beam"), is_own=False, absences=5)
    assert () == plan_of(live(seen()), known=(sibling,)).starts
    assert ((), ()) == (plan_of(known=(sibling,)).absent, plan_of(known=(sibling,)).suspects)


def test_suspects_that_were_asked_for_often_stand_behind_new_ones() -> None:
    old = ours(seen(), name="str_1", absences=50)
    new = ours(seen(), name="str_2", absences=1)
    assert ["str_2", "str_1"] == [each.stream_id for each in plan_of(known=(old, new)).suspects]


def test_a_failed_stream_is_told_as_failed() -> None:
    ending = ending_of(ours(seen(live_id="live-1")), [live(seen(), LiveStatus.FAILED)])
    assert ending is not None
    assert ending.failed


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (seen(DATED), seen(f"{DATED}?token=1", started_s=500), True),
        (seen(FIXED), seen(FIXED, started_s=30), True),
        (seen(FIXED), seen(FIXED, started_s=90), False),
        (seen(FIXED), seen(FIXED, started_s=None), True),
        (seen(DATED), seen(FIXED, started_s=10), True),
        (seen(DATED), seen(FIXED, started_s=20), False),
        (seen(DATED), seen(FIXED, started_s=None), False),
        (seen(DATED), seen(DATED, session_id="another"), False),
        (seen(DATED), seen(DATED, session_id=""), True),
        (seen(DATED), seen(DATED, room_id="another"), False),
        (seen(DATED, room_id=""), seen(DATED, room_id=""), False),
        (seen(None), seen(DATED), True),
    ],
)
def test_which_two_sightings_are_one_stream(one: Sighting, other: Sighting, same: bool) -> None:
    assert same == is_same(one, other) == is_same(other, one)


# -- any order of webhooks and lists -----------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """One live stream as it really is; `number` tells it from all others."""

    number: int
    room: str
    url: str
    starts_s: int
    stops_s: int

    def sighting(self, **ids: str) -> Sighting:
        return Sighting(
            room_id=self.room,
            session_id="session",
            url_key=url_key(self.url),
            started_at=at(self.starts_s),
            **ids,  # type: ignore[arg-type]
        )

    def live(self, now_s: int) -> LiveStream:
        over = self.stops_s <= now_s
        sighting = self.sighting(live_id=f"live-{self.number}")
        return LiveStream(
            sighting=replace(sighting, stopped_at=at(self.stops_s)) if over else sighting,
            status=LiveStatus.COMPLETED if over else LiveStatus.RUNNING,
            url=self.url,
        )


@dataclass
class Gateway:
    """What the workflow does with the decisions, on dictionaries."""

    known: dict[StreamId, KnownStream] = field(default_factory=dict)
    buried: dict[str, Sighting] = field(default_factory=dict)

    def on_start(self, truth: Truth, now_s: int) -> None:
        told = truth.sighting(beam_id=f"beam-{truth.number}")
        if told.beam_id in self.buried or self._of_beam(told.beam_id):
            return
        match = claimed(told, self.known.values())
        if match is None:
            self._add(told, now_s)
        else:
            self._put(match, replace(match.sighting, beam_id=told.beam_id))

    def on_stop(self, truth: Truth, now_s: int) -> None:
        told = replace(
            truth.sighting(beam_id=f"beam-{truth.number}"), url_key="", stopped_at=at(truth.stops_s)
        )
        match = self._of_beam(told.beam_id) or claimed(told, self.known.values())
        if match is None:
            self.buried[told.beam_id] = told
        else:
            sighting = replace(match.sighting, beam_id=told.beam_id, stopped_at=told.stopped_at)
            self._put(match, sighting, is_over=True)

    def on_list(self, truths: list[Truth], now_s: int) -> None:
        running = [one.live(now_s) for one in truths if one.starts_s <= now_s < one.stops_s]
        plan = reconcile(
            running,
            known=tuple(self.known.values()),
            buried=tuple(self.buried.values()),
            asked_at=at(now_s),
        )
        for stream_id, live_id in plan.links:
            one = self.known[stream_id]
            self._put(one, replace(one.sighting, live_id=live_id))
        for stream_id in plan.seen:
            self._put(self.known[stream_id], absences=0)
        for stream_id in plan.absent:
            self._put(self.known[stream_id], absences=self.known[stream_id].absences + 1)
        for suspect in plan.suspects:
            everything = [one.live(now_s) for one in truths if one.starts_s <= now_s]
            ending = ending_of(suspect, everything)
            if ending is not None:
                one = self.known[suspect.stream_id]
                sighting = replace(one.sighting, stopped_at=ending.stopped_at or at(now_s))
                self._put(one, sighting, is_over=True)
        for start in plan.starts:
            self._add(start.sighting, now_s)

    def _of_beam(self, beam_id: str) -> KnownStream | None:
        return next((one for one in self.known.values() if one.sighting.beam_id == beam_id), None)

    def _add(self, sighting: Sighting, now_s: int) -> None:
        name = f"str_{len(self.known)}"
        self.known[StreamId(name)] = ours(sighting, name=name, created_at=at(now_s))

    def _put(self, one: KnownStream, sighting: Sighting | None = None, **changes: object) -> None:
        changed: dict = {"sighting": sighting or one.sighting, **changes}
        self.known[one.stream_id] = replace(one, **changed)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Truth], list[tuple[int, str, Truth]]]:
    """Streams of two rooms, one after the other in each, and the webhooks of them: lost, late, in any order."""
    truths: list[Truth] = []
    webhooks: list[tuple[int, str, Truth]] = []
    for room in ("a", "b"):
        now_s, is_static = 0, draw(st.booleans())
        for _ in range(draw(st.integers(0, 3))):
            starts_s = now_s + draw(st.integers(61, 200))
            stops_s = starts_s + draw(st.integers(5, 200))
            url = FIXED if is_static else f"https://cdn/{room}/20260101/{17672688000 + starts_s}/master.m3u8"
            truth = Truth(len(truths), room, url, starts_s, stops_s)
            truths.append(truth)
            now_s = stops_s
            for kind, happened_s in (("start", starts_s), ("stop", stops_s)):
                webhooks += [
                    (happened_s + draw(st.integers(0, 60)), kind, truth)
                    for _ in range(draw(st.integers(0, 2)))
                ]
    return truths, sorted(webhooks, key=lambda each: each[0])


@given(histories(), st.sampled_from([7, 20, 30]))
def test_any_order_of_webhooks_and_lists_gives_each_stream_once(
    history: tuple[list[Truth], list[tuple[int, str, Truth]]], interval_s: int
) -> None:
    truths, webhooks = history
    gateway = Gateway()
    end_s = max([each[0] for each in webhooks] + [one.stops_s for one in truths] + [0])
    pending = list(webhooks)
    for now_s in range(0, end_s + 4 * interval_s, interval_s):
        while pending and pending[0][0] <= now_s:
            told_s, kind, truth = pending.pop(0)
            (gateway.on_start if kind == "start" else gateway.on_stop)(truth, told_s)
        gateway.on_list(truths, now_s)

    numbers = [_numbers(each.sighting) for each in gateway.known.values()]
    assert all(len(each) == 1 for each in numbers), "one of ours is two of theirs"
    found = sorted(number for each in numbers for number in each)
    assert sorted(set(found)) == found, "one of theirs is two of ours"
    for truth in truths:
        listed = any(truth.starts_s <= now_s < truth.stops_s for now_s in range(0, end_s, interval_s))
        if listed:
            assert truth.number in found
    linked = [each for each in gateway.known.values() if each.sighting.live_id]
    assert all(each.is_over for each in linked)


def _numbers(sighting: Sighting) -> set[int]:
    return {int(name.partition("-")[2]) for name in (sighting.beam_id, sighting.live_id) if name}


def test_a_lost_stop_ends_the_stream_within_a_minute_at_the_default_pace() -> None:
    gateway, truth = Gateway(), Truth(0, "a", DATED, 61, 100)
    gateway.on_start(truth, 62)
    ended_s = None
    for now_s in range(80, 240, 20):
        gateway.on_list([truth], now_s)
        if ended_s is None and all(each.is_over for each in gateway.known.values()):
            ended_s = now_s
    assert ended_s is not None
    assert ended_s - truth.stops_s < 60

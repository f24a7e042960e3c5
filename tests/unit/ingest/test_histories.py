"""Generated histories of a stream in two renditions: whatever happens, its media time is the source's.

A segment's place tells all at once: were one told twice, left out without a gap, or a gap of the wrong length,
everything behind it would stand elsewhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.domain.actions import (
    Action,
    CommitSegment,
    Cursor,
    Ended,
    FailureKind,
    FetchFailure,
    Joined,
    Resumed,
    SegmentLost,
    SignalSeen,
    Stalled,
    UseOtherVariant,
)
from ingest.domain.cues import Cue, CueKind
from ingest.domain.playlist import Location, MediaPlaylist, Segment
from ingest.domain.policy import TrackerPolicy
from ingest.domain.tracker import Phase, PlaylistTracker

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SEGMENT_US = 2_000_000
AD_SEGMENTS = 5
POLICY = TrackerPolicy()
NOT_FOUND = FetchFailure(kind=FailureKind.STATUS, status=404)
UNAVAILABLE = FetchFailure(kind=FailureKind.STATUS, status=503)
VARIANTS = ("high", "low")
SHIFTS = {"high": 0, "low": 7_000}


@dataclass
class Origin:
    """Media counted from 0; what is broken, marked as a gap or discontinuous, and where advertising begins."""

    window: int
    is_dated: bool
    newest: int = 4
    broken: set[tuple[str, int]] = field(default_factory=set)
    gaps: set[tuple[str, int]] = field(default_factory=set)
    breaks: set[int] = field(default_factory=set)
    ads: set[int] = field(default_factory=set)
    notes: set[int] = field(default_factory=set)

    def playlist(self, variant: str, *, newest: int, ended: bool = False) -> MediaPlaylist:
        first = max(0, newest - self.window + 1)
        segments = tuple(self._segment(variant, n) for n in range(first, newest + 1))
        return MediaPlaylist(
            url=f"https://cdn.example/{variant}.m3u8",
            target_us=SEGMENT_US,
            media_sequence=first + SHIFTS[variant],
            listed_count=len(segments),
            segments=segments,
            ended=ended,
            variant=variant,
            has_other_variants=True,
            date_ranges=tuple(self._note(n) for n in self.notes if first <= n <= newest),
        )

    def is_ad(self, number: int) -> bool:
        return any(start <= number < start + AD_SEGMENTS for start in self.ads)

    def _segment(self, variant: str, number: int) -> Segment:
        return Segment(
            sequence=number + SHIFTS[variant],
            location=Location(url=f"https://cdn.example/{variant}/{number}.ts"),
            duration_us=SEGMENT_US,
            wall_at=self.wall_at(number) if self.is_dated else None,
            discontinuity=number in self.breaks,
            gap=(variant, number) in self.gaps,
            cues=tuple(self._cues(number)),
        )

    def _cues(self, number: int) -> Iterable[Cue]:
        for start in self.ads:
            if start <= number < start + AD_SEGMENTS:
                kind = CueKind.OUT if number == start else CueKind.CONTINUED
                yield Cue(kind=kind, left_us=(start + AD_SEGMENTS - number) * SEGMENT_US)

    def wall_at(self, number: int) -> datetime:
        return NOON + timedelta(microseconds=number * SEGMENT_US)

    def _note(self, number: int) -> str:
        start = self.wall_at(number) + timedelta(seconds=1)
        return f'ID="n{number}",START-DATE="{start.isoformat()}",X-100MSLIVE-PAYLOAD="note {number}"'


def number_of(segment: Segment) -> int:
    return int(segment.location.url.rpartition("/")[2].partition(".")[0])


class Run:
    """Drives tracker and origin as a follower would, and keeps only what was saved."""

    def __init__(self, origin: Origin, rng: Random) -> None:
        self.origin, self.rng, self.now_s = origin, rng, 0.0
        self.variant = "high"
        self.left: set[str] = set()
        self.tracker = PlaylistTracker(POLICY, now_s=0.0)
        self.saved = Cursor()
        self.facts: list[Action] = []
        self.was_exhausted = False
        self.step("poll", 9)

    def step(self, name: str, amount: int) -> None:
        self.now_s += 0.7
        getattr(self, f"on_{name}")(amount)

    def obey(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, CommitSegment | SegmentLost | Joined | Stalled | Resumed | Ended):
                self.saved = action.cursor
            self.facts.append(action)
            if isinstance(action, UseOtherVariant):
                self.leave()

    def leave(self) -> None:
        others = set(VARIANTS) - self.left - {self.variant}
        if not others:
            self.left.clear()
            self.was_exhausted = True
            self.obey(self.tracker.on_no_other_variant(now_s=self.now_s))
            return
        self.left.add(self.variant)
        self.variant = others.pop()
        self.load(self.origin.newest)

    def load(self, newest: int, *, ended: bool = False) -> None:
        playlist = self.origin.playlist(self.variant, newest=newest, ended=ended)
        self.obey(self.tracker.on_playlist(playlist, now_s=self.now_s))

    def fetch(self, limit: int) -> None:
        fetches = list(self.tracker.next_fetches(limit, now_s=self.now_s))
        self.rng.shuffle(fetches)
        for fetch in fetches:
            key, number = (fetch.epoch, fetch.sequence), number_of(fetch.segment)
            variant = fetch.segment.location.url.split("/")[3]
            if (variant, number) in self.origin.broken:
                failure = self.rng.choice([NOT_FOUND, UNAVAILABLE])
                self.obey(self.tracker.on_segment_failed(*key, failure=failure, now_s=self.now_s))
            else:
                pts_us = 10_000_000 + number * SEGMENT_US
                stored = {"probed_us": SEGMENT_US, "pts_us": pts_us}
                self.obey(self.tracker.on_segment_stored(*key, now_s=self.now_s, **stored))

    def on_advance(self, amount: int) -> None:
        self.origin.newest += amount

    def on_poll(self, limit: int) -> None:
        self.load(self.origin.newest)
        self.fetch(limit)

    def on_stale(self, amount: int) -> None:
        self.load(max(0, self.origin.newest - amount))

    def on_fail(self, _: int) -> None:
        self.obey(self.tracker.on_playlist_failed(UNAVAILABLE, now_s=self.now_s))

    def on_crash(self, _: int) -> None:
        self.tracker = PlaylistTracker(POLICY, now_s=self.now_s, cursor=self.saved)

    def on_swap(self, _: int) -> None:
        """The source goes to another rendition by itself."""
        self.variant = VARIANTS[1 - VARIANTS.index(self.variant)]

    def on_break_one(self, ahead: int) -> None:
        self.origin.broken.add((self.rng.choice(VARIANTS), self.origin.newest + 1 + ahead))

    def on_break_all(self, ahead: int) -> None:
        self.origin.broken |= {(variant, self.origin.newest + 1 + ahead) for variant in VARIANTS}

    def on_gap(self, ahead: int) -> None:
        self.origin.gaps.add((self.rng.choice(VARIANTS), self.origin.newest + 1 + ahead))

    def on_discontinuity(self, ahead: int) -> None:
        self.origin.breaks.add(self.origin.newest + 1 + ahead)

    def on_advertise(self, ahead: int) -> None:
        start = self.origin.newest + 1 + ahead
        if all(abs(start - other) > AD_SEGMENTS for other in self.origin.ads):
            self.origin.ads.add(start)

    def on_note(self, ahead: int) -> None:
        self.origin.notes.add(self.origin.newest + 1 + ahead)

    def finish(self) -> None:
        while self.tracker.phase is not Phase.ENDED:
            self.now_s += 1
            assert self.now_s < 5_000
            self.load(self.origin.newest, ended=True)
            self.fetch(3)

    @property
    def committed(self) -> list[tuple[int, CommitSegment]]:
        return [(number_of(fact.segment), fact) for fact in self.facts if isinstance(fact, CommitSegment)]

    @property
    def lost(self) -> list[SegmentLost]:
        return [fact for fact in self.facts if isinstance(fact, SegmentLost)]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.integers(1, 7)),
        st.tuples(st.just("poll"), st.integers(0, 4)),
        st.tuples(st.just("stale"), st.integers(1, 2)),
        st.tuples(st.sampled_from(["fail", "crash", "swap"]), st.just(0)),
        st.tuples(
            st.sampled_from(["break_one", "break_all", "gap", "discontinuity", "advertise", "note"]),
            st.integers(0, 3),
        ),
    ),
    max_size=50,
)


def assert_true_to_source(run: Run) -> None:
    first = run.committed[0][0]
    offset_us = run.committed[0][1].placed.start_us
    position_us, before = 0, -1
    for fact in run.facts:
        if isinstance(fact, CommitSegment | SegmentLost):
            assert position_us == fact.placed.start_us
            position_us = fact.placed.end_us
    for number, commit in run.committed:
        assert number > before
        assert commit.placed.start_us == offset_us + (number - first) * SEGMENT_US
        assert (commit.excluded is not None) == run.origin.is_ad(number)
        before = number
    last = run.committed[-1][0]
    tail_us = sum(
        gap.estimated_us for gap in run.lost if gap.placed.start_us > run.committed[-1][1].placed.start_us
    )
    assert (run.origin.newest - last) * SEGMENT_US == tail_us
    assert 1 == sum(isinstance(fact, Ended) for fact in run.facts)


@settings(max_examples=120, deadline=None)
@given(st.integers(3, 8), st.booleans(), STEPS, st.randoms(use_true_random=False))
def test_whatever_happens_media_time_is_that_of_the_source(
    window: int, is_dated: bool, steps: list[tuple[str, int]], rng: Random
) -> None:
    run = Run(Origin(window, is_dated), rng)
    for name, amount in steps:
        run.step(name, amount)
    run.finish()
    assert_true_to_source(run)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(["break_one", "gap", "swap", "crash", "stale"]), max_size=12),
    st.randoms(use_true_random=False),
)
def test_what_one_rendition_has_is_not_lost(faults: list[str], rng: Random) -> None:
    """One fault at a time, and time to get over it."""
    run = Run(Origin(30, is_dated=True), rng)
    for name in faults:
        run.step(name, 1)
        for _ in range(8):
            run.step("advance", 1)
            run.step("poll", 4)
            run.step("poll", 4)
    run.finish()
    assert_true_to_source(run)
    assert run.was_exhausted or [] == run.lost


@settings(max_examples=40, deadline=None)
@given(STEPS, st.randoms(use_true_random=False))
def test_each_note_of_the_source_is_told_at_its_media_time(steps: list[tuple[str, int]], rng: Random) -> None:
    run = Run(Origin(8, is_dated=True, notes=set(range(2, 60, 3))), rng)
    for name, amount in steps:
        run.step(name, amount)
    run.finish()
    told = {fact.external_id: fact.at_us for fact in run.facts if isinstance(fact, SignalSeen)}
    for number, commit in run.committed:
        if number in run.origin.notes:
            assert commit.placed.start_us + 1_000_000 == told[f"n{number}"]

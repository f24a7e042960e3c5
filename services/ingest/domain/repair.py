"""How a recording fills a gap: where the gap lies in it, which part is cut, what stands on the timeline then.

A repair does not join new media to old: the recording is cut with a margin on both sides, so that a moment on the
border is seen whole, in one encoding and one epoch.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from ingest.domain.recorder import Followed
from ingest.domain.windows import ArchivedSegment, Window, WindowPlan, plan_windows
from shared.events import Event, Lane, SegmentReady, SegmentRef, SegmentRepaired
from shared.ids import Position, WindowId, event_id, window_id
from shared.repairs import WINDOWS_PER_GAP, repair_index

Outcome = Literal["repaired", "partly", "failed"]

MARGIN_US: Final = 12_000_000
EDGE_US: Final = 500_000  # the clocks of source and recording are not compared more finely than that
LEAST_US: Final = 1_000_000  # less of a gap than this is not worth a repair in part
MOST_US: Final = 3 * 3600 * 1_000_000  # of one cut
MOST_APART_US: Final = 10_000_000
ONLY_ADS_THERE: Final = "All that the recording holds where the gap lies is advertising or a slate."
NOTHING_THERE: Final = "The recording holds no picture where the gap lies."
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A hole on the timeline. `wall_from_at` and `wall_to_at` are the source's clock at its ends, where known.

    `revision` is that of the next attempt.
    """

    index: int
    from_us: int
    to_us: int
    revision: int = 1
    wall_from_at: datetime | None = None
    wall_to_at: datetime | None = None

    @property
    def length_us(self) -> int:
        return self.to_us - self.from_us


def with_clocks(gaps: Sequence[Gap], told: Sequence[tuple[int, datetime]]) -> tuple[Gap, ...]:
    """The gaps with the source's clock at their ends, as the nearest media on each side tells it.

    `told` are media times and clocks of the run's segments, in order.
    """
    return tuple(_with_clock(gap, told) for gap in gaps)


def _with_clock(gap: Gap, told: Sequence[tuple[int, datetime]]) -> Gap:
    at = bisect_left(told, gap.from_us + gap.length_us // 2, key=lambda each: each[0])
    return replace(
        gap,
        wall_from_at=_clock_at(gap.from_us, told[at - 1]) if at > 0 else None,
        wall_to_at=_clock_at(gap.to_us, told[at]) if at < len(told) else None,
    )


def _clock_at(media_us: int, told: tuple[int, datetime]) -> datetime:
    told_us, wall_at = told
    return wall_at + timedelta(microseconds=media_us - told_us)


@dataclass(frozen=True, kw_only=True)
class GapGroup:
    """Gaps so near one another that one cut fills them all, in order of time."""

    gaps: tuple[Gap, ...]

    @property
    def whole(self) -> Gap:
        """All of them as one gap, with the media between."""
        first, last = self.gaps[0], self.gaps[-1]
        return replace(first, to_us=last.to_us, wall_to_at=last.wall_to_at)


def grouped(gaps: Sequence[Gap]) -> tuple[GapGroup, ...]:
    """A lost stretch is told segment by segment; cutting each with its margins would judge the same media often."""
    groups: list[list[Gap]] = []
    for gap in sorted(gaps, key=lambda each: (each.from_us, each.index)):
        if groups and _belongs(groups[-1], gap):
            groups[-1].append(gap)
        else:
            groups.append([gap])
    return tuple(GapGroup(gaps=tuple(group)) for group in groups)


def _belongs(group: list[Gap], gap: Gap) -> bool:
    is_near = gap.from_us - group[-1].to_us <= 2 * MARGIN_US
    return is_near and gap.to_us - group[0].from_us <= MOST_US


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What is told of a recording; `started_at` is aware UTC."""

    recording_id: str
    started_at: datetime
    duration_us: int


@dataclass(frozen=True, kw_only=True)
class CutPlan:
    """Cut `[cut_from_us, cut_to_us)` of the recording; its time plus `shift_us` is media time.

    `[from_us, to_us)` is the part of the gap that this fills, in media time.
    """

    cut_from_us: int
    cut_to_us: int
    shift_us: int
    from_us: int
    to_us: int
    outcome: Outcome
    note: str


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a recording does not fill a gap, in a sentence for the stream's owner."""

    reason: str


def plan_cut(gap: Gap, recording: Recording) -> CutPlan | Refusal:
    """Where in the recording the gap lies, by the wall clock of the media around it."""
    shifts_us = _shifts_us(gap, recording)
    if not shifts_us:
        return Refusal(
            reason="Nothing around the gap tells a wall clock, so its place in the recording is not known."
        )
    apart_us = max(shifts_us) - min(shifts_us)
    if apart_us > max(MOST_APART_US, gap.length_us // 2):
        return Refusal(
            reason=f"The clocks before and after the gap differ by {_s(apart_us)} more than its length: "
            "the stream or its recording paused, and the place in the recording is not certain."
        )
    return _planned(gap, recording, shift_us=shifts_us[0], apart_us=apart_us)


def _shifts_us(gap: Gap, recording: Recording) -> tuple[int, ...]:
    """Media time minus time in the recording, as each end of the gap tells it; that before the gap first."""
    ends = ((gap.from_us, gap.wall_from_at), (gap.to_us, gap.wall_to_at))
    return tuple(
        at_us - (wall_at - recording.started_at) // _MICROSECOND
        for at_us, wall_at in ends
        if wall_at is not None
    )


def _planned(gap: Gap, recording: Recording, *, shift_us: int, apart_us: int) -> CutPlan | Refusal:
    begin_us, end_us = gap.from_us - shift_us, gap.to_us - shift_us
    from_us, to_us = max(begin_us, 0), min(end_us, recording.duration_us, max(begin_us, 0) + MOST_US)
    is_whole = from_us <= begin_us + EDGE_US and to_us >= end_us - EDGE_US
    if to_us - from_us < (1 if is_whole else LEAST_US):
        return Refusal(
            reason=f"The recording of {_s(recording.duration_us)} does not cover the gap, "
            f"which lies at {_s(begin_us)} to {_s(end_us)} of it."
        )
    margin_us = MARGIN_US + apart_us
    return CutPlan(
        cut_from_us=max(0, from_us - margin_us, -shift_us),
        cut_to_us=min(recording.duration_us, to_us + margin_us),
        shift_us=shift_us,
        from_us=gap.from_us if is_whole else from_us + shift_us,
        to_us=gap.to_us if is_whole else to_us + shift_us,
        outcome="repaired" if is_whole else "partly",
        note=_note(gap, apart_us),
    )


def _note(gap: Gap, apart_us: int) -> str:
    if gap.wall_from_at is None or gap.wall_to_at is None:
        return "Placed by the wall clock at one of its ends; the other has none to compare with."
    return f"Placed by the wall clock; its two ends agree to {_s(apart_us)}."


def _s(amount_us: int) -> str:
    return f"{amount_us / 1_000_000:.1f} s"


# -- what was cut ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CutPiece:
    """One archived piece. Media time; the length is what its own clock says."""

    key: str
    sha256: str
    size_bytes: int
    start_us: int
    duration_us: int


def placed(
    pieces: Sequence[CutPiece], *, epoch: int, plan: CutPlan, recording: Recording
) -> tuple[SegmentRef, ...]:
    """The pieces as segments that tile: each ends where the next begins. None stands before the stream's begin."""
    ordered = [piece for piece in sorted(pieces, key=lambda each: each.start_us) if piece.start_us >= 0]
    ends_us = [each.start_us for each in ordered[1:]] + [
        each.start_us + each.duration_us for each in ordered[-1:]
    ]
    return tuple(
        SegmentRef(
            key=piece.key,
            epoch=epoch,
            sequence=number,
            start_us=piece.start_us,
            duration_us=max(1, end_us - piece.start_us),
            size_bytes=piece.size_bytes,
            sha256=piece.sha256,
            discontinuity=number == 0,
            wall_at=recording.started_at + timedelta(microseconds=piece.start_us - plan.shift_us),
        )
        for number, (piece, end_us) in enumerate(zip(ordered, ends_us, strict=True))
    )


@dataclass(frozen=True, kw_only=True)
class Filled:
    """What a cut did for one gap: the part that is filled, in media time; all of it where it failed."""

    gap: Gap
    outcome: Outcome
    from_us: int
    to_us: int


def shares(group: GapGroup, plan: CutPlan) -> tuple[Filled, ...]:
    """What the cut did for each gap of the group."""
    return tuple(_share(gap, plan) for gap in group.gaps)


def _share(gap: Gap, plan: CutPlan) -> Filled:
    from_us, to_us = max(gap.from_us, plan.from_us), min(gap.to_us, plan.to_us)
    if from_us <= gap.from_us + EDGE_US and to_us >= gap.to_us - EDGE_US:
        return Filled(gap=gap, outcome="repaired", from_us=gap.from_us, to_us=gap.to_us)
    if to_us - from_us < LEAST_US:
        return Filled(gap=gap, outcome="failed", from_us=gap.from_us, to_us=gap.to_us)
    return Filled(gap=gap, outcome="partly", from_us=from_us, to_us=to_us)


def filled(plan: CutPlan, segments: Sequence[SegmentRef]) -> CutPlan | Refusal:
    """The plan as it came out: pieces may begin later or end earlier than was told of the recording."""
    if not segments:
        return Refusal(reason=NOTHING_THERE)
    begin_us, end_us = segments[0].start_us, segments[-1].start_us + segments[-1].duration_us
    from_us, to_us = max(plan.from_us, begin_us), min(plan.to_us, end_us)
    if from_us <= plan.from_us + EDGE_US and to_us >= plan.to_us - EDGE_US:
        return plan
    if to_us - from_us < LEAST_US:
        return Refusal(reason=NOTHING_THERE)
    return replace(plan, from_us=from_us, to_us=to_us, outcome="partly")


# -- what is told ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Excluded:
    """A stretch of the run, in media time, that is advertising or a slate."""

    from_us: int
    to_us: int

    def may_show_in(self, ref: SegmentRef) -> bool:
        """The clocks of source and recording are not compared more finely than an edge."""
        end_us = ref.start_us + ref.duration_us
        return ref.start_us < self.to_us + EDGE_US and end_us > self.from_us - EDGE_US


def windows_of(
    segments: Sequence[SegmentRef], plan: WindowPlan, *, excluded: Sequence[Excluded] = ()
) -> tuple[Window, ...]:
    """Analysis windows over the pieces, as for any media: what is no programme stands in none."""
    archived = (
        ArchivedSegment(position=number, start_us=ref.start_us, duration_us=ref.duration_us)
        for number, ref in enumerate(segments)
        if not any(each.may_show_in(ref) for each in excluded)
    )
    return plan_windows(archived, plan=plan, final=True)[:WINDOWS_PER_GAP]


def within(windows: Sequence[Window], segments: Sequence[SegmentRef]) -> tuple[SegmentRef, ...]:
    """The segments that are in a window: of a very long gap, what lies behind the last one is not filled."""
    return tuple(segments[: windows[-1].last_position + 1]) if windows else ()


def ready_events(
    stream: Followed, gap: Gap, segments: Sequence[SegmentRef], windows: Sequence[Window], *, at: datetime
) -> tuple[SegmentReady, ...]:
    """One for each window; they wait behind live work."""
    return tuple(_ready(stream, gap, segments, window, at=at) for window in windows)


def _ready(
    stream: Followed, gap: Gap, segments: Sequence[SegmentRef], window: Window, *, at: datetime
) -> SegmentReady:
    refs = tuple(segments[window.first_position : window.last_position + 1])
    position = _position(stream, gap, window)
    return SegmentReady(
        **_head(stream, SegmentReady.name, position, at=at),
        index=position.index,
        revision=position.revision,
        start_us=window.start_us,
        end_us=window.end_us,
        wall_at=refs[0].wall_at,
        profile_key=stream.profile_key,
        segments=refs,
    )


def window_ids(
    stream: Followed, lead: Filled, windows: Sequence[Window], *, share: Filled
) -> tuple[WindowId, ...]:
    """Names of the windows that a gap is told with.

    They are numbered by the gap that leads, and it names them all. The others name those that hold some of them: a
    lost hour is thousands of gaps, and must not name thousands of windows in each.
    """
    return tuple(
        window_id(stream.stream_id, _position(stream, lead.gap, window))
        for window in windows
        if share is lead or (window.start_us < share.to_us and window.end_us > share.from_us)
    )


def _position(stream: Followed, gap: Gap, window: Window) -> Position:
    return Position(stream.run, repair_index(gap.index, window.index), gap.revision)


def repaired_event(
    stream: Followed, share: Filled, *, reason: str, windows: tuple[WindowId, ...] = (), at: datetime
) -> Event:
    """What became of a gap, with its windows."""
    gap = share.gap
    return SegmentRepaired(
        **_head(stream, SegmentRepaired.name, Position(stream.run, gap.index, gap.revision), at=at),
        gap_index=gap.index,
        revision=gap.revision,
        outcome=share.outcome,
        from_us=share.from_us,
        to_us=share.to_us,
        windows=windows,
        reason=reason,
    )


def _head(stream: Followed, name: str, position: Position, *, at: datetime) -> dict[str, Any]:
    return {
        "event_id": event_id(stream.stream_id, name, position),
        "organization_id": stream.organization_id,
        "stream_id": stream.stream_id,
        "occurred_at": at,
        "lane": Lane.VOD,
        "run": stream.run,
    }

"""Media time: where each stored segment and each gap lies, in microseconds since the stream's first segment.

A fold: a small frozen state in, a placement and the next state out. Nothing here knows playlists or windows.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

_SKEW_FLOOR_US: Final = 500_000
_SKEW_SHARE: Final = 0.2
_TILE_US: Final = 50_000  # the length of a segment's last frame is estimated: wrong by less than a frame
_LONGEST_US: Final = (
    30 * 86_400 * 1_000_000
)  # what a list claims of media that is not there moves nothing beyond
_PTS_WRAP_US: Final = 2**33 * 1_000_000 // 90_000  # a 33-bit clock of 90 kHz, about 26.5 hours


class Break(StrEnum):
    """Why media before and after a border must not be decoded or cut as one."""

    NONE = ""
    TAGGED = "tagged"
    EPOCH = "epoch"
    INIT_SECTION = "init_section"
    SKEW = "skew"
    VARIANT = "variant"


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """State of the fold: media end so far, counts, the last known wall clock, and the clock expected next.

    `clock_end_us` is what the media's clock showed at `clock_position_us`, the end of the last segment that had one;
    unlike the expectation it outlives gaps.
    """

    position_us: int = 0
    segment_count: int = 0
    gap_count: int = 0
    discontinuity_count: int = 0
    wall_at: datetime | None = None
    wall_position_us: int = 0
    expected_pts_us: int | None = None
    clock_end_us: int | None = None
    clock_position_us: int = 0

    @property
    def wall_end_at(self) -> datetime | None:
        """Wall clock at `position_us`, as far as known."""
        if self.wall_at is None:
            return None
        return self.wall_at + timedelta(microseconds=self.position_us - self.wall_position_us)

    def to_json(self) -> dict[str, Any]:
        """Primitives only; `from_json` reads them back."""
        return {
            "position_us": self.position_us,
            "segment_count": self.segment_count,
            "gap_count": self.gap_count,
            "discontinuity_count": self.discontinuity_count,
            "wall_at": self.wall_at.isoformat() if self.wall_at else None,
            "wall_position_us": self.wall_position_us,
            "expected_pts_us": self.expected_pts_us,
            "clock_end_us": self.clock_end_us,
            "clock_position_us": self.clock_position_us,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Timeline":
        """Inverse of `to_json`."""
        wall_at = document["wall_at"]
        return cls(
            **{**document, "wall_at": datetime.fromisoformat(wall_at).astimezone(UTC) if wall_at else None}
        )


@dataclass(frozen=True, kw_only=True)
class MeasuredSegment:
    """A stored segment: EXTINF always; probed duration, first PTS and wall clock where known."""

    listed_us: int
    probed_us: int | None = None
    pts_us: int | None = None
    wall_at: datetime | None = None
    break_before: Break = Break.NONE


@dataclass(frozen=True, kw_only=True)
class PlacedSegment:
    """A segment on the timeline; `position` counts stored segments from 0."""

    position: int
    start_us: int
    duration_us: int
    wall_at: datetime | None
    break_before: Break

    @property
    def end_us(self) -> int:
        """First microsecond after the segment."""
        return self.start_us + self.duration_us


@dataclass(frozen=True, kw_only=True)
class PlacedGap:
    """A hole on the timeline; `index` counts gaps from 0."""

    index: int
    start_us: int
    duration_us: int

    @property
    def end_us(self) -> int:
        """First microsecond after the gap."""
        return self.start_us + self.duration_us


def place_segment(timeline: Timeline, *, segment: MeasuredSegment) -> tuple[PlacedSegment, Timeline]:
    """Put a segment at the end; its probed duration counts, EXTINF only where there is none.

    Where the media's own clock runs on, it decides: segments tile exactly, each ends where the clock says, and so
    neither rounding nor a misjudged last frame adds up. A real hole or overlap (over 50 ms) shows as one.
    """
    duration_us = segment.probed_us or segment.listed_us
    break_before = segment.break_before or _implicit_break(timeline, segment)
    start_us, end_us = _span_us(timeline, segment, duration_us=duration_us, is_broken=bool(break_before))
    placed = PlacedSegment(
        position=timeline.segment_count,
        start_us=start_us,
        duration_us=end_us - start_us,
        wall_at=segment.wall_at or timeline.wall_end_at,
        break_before=break_before,
    )
    clock_end_us = None if segment.pts_us is None else (segment.pts_us + duration_us) % _PTS_WRAP_US
    following = replace(
        timeline,
        position_us=placed.end_us,
        segment_count=timeline.segment_count + 1,
        discontinuity_count=timeline.discontinuity_count + bool(placed.break_before),
        wall_at=placed.wall_at,
        wall_position_us=placed.start_us,
        expected_pts_us=clock_end_us,
        clock_end_us=clock_end_us,
        clock_position_us=placed.end_us,
    )
    return placed, following


def _span_us(
    timeline: Timeline, segment: MeasuredSegment, *, duration_us: int, is_broken: bool
) -> tuple[int, int]:
    """Start and end on the timeline."""
    position_us = timeline.position_us
    if is_broken or segment.pts_us is None or timeline.expected_pts_us is None:
        return position_us, position_us + duration_us
    jump_us = clock_step_us(segment.pts_us, timeline.expected_pts_us)
    clock_us = position_us + jump_us
    start_us = position_us if abs(jump_us) <= _TILE_US else max(0, clock_us)
    return start_us, max(start_us + 1, clock_us + duration_us)


def place_gap(timeline: Timeline, *, estimated_us: int) -> tuple[PlacedGap, Timeline]:
    """Put a gap at the end: media time and, where known, the wall clock move on by the estimate."""
    room_us = max(0, _LONGEST_US - timeline.position_us)
    duration_us = min(max(0, estimated_us), room_us)
    placed = PlacedGap(index=timeline.gap_count, start_us=timeline.position_us, duration_us=duration_us)
    following = replace(
        timeline, position_us=placed.end_us, gap_count=timeline.gap_count + 1, expected_pts_us=None
    )
    return placed, following


def differs(measured_us: int, expected_us: int, *, span_us: int) -> bool:
    """True when two times differ by more than max(0.5 s, 20 % of `span_us`), which no clean stream does."""
    return abs(measured_us - expected_us) > max(_SKEW_FLOOR_US, _SKEW_SHARE * span_us)


def _implicit_break(timeline: Timeline, segment: MeasuredSegment) -> Break:
    """The media's own clock decides where both sides have one; else the probed length against EXTINF."""
    if segment.pts_us is not None and timeline.expected_pts_us is not None:
        jump_us = clock_step_us(segment.pts_us, timeline.expected_pts_us)
        return Break.SKEW if differs(jump_us, 0, span_us=segment.listed_us) else Break.NONE
    if segment.probed_us and differs(segment.probed_us, segment.listed_us, span_us=segment.listed_us):
        return Break.SKEW
    return Break.NONE


def clock_step_us(reading_us: int, expected_us: int) -> int:
    """How far a reading of a clock that wraps is after the expected one; negative before it."""
    half_us = _PTS_WRAP_US // 2
    return (reading_us - expected_us + half_us) % _PTS_WRAP_US - half_us

"""Where another variant of a stream goes on: what of its list comes after the media that we have.

Media sequences need not match between variants (RFC 8216, 6.2.4), so the clocks decide: PROGRAM-DATE-TIME here,
and the media's own clock once a segment is there (`seam_us`).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from ingest.domain.playlist import MICROSECONDS, MediaPlaylist, Segment
from ingest.domain.timeline import Timeline, clock_step_us

_SAME_STREAM_S: Final = 3_600.0  # clocks further apart than this are not of one stream
_PACED_US: Final = 6 * MICROSECONDS  # dates of whole seconds tell no pace over less media
_REAL_TIME: Final = 0.75  # dates that are nearer to real time than this are of a stream in real time
_FASTEST: Final = 1 / 64
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Place:
    """The end of what we have: the wall clock there, as far as the stream tells it, and the next number.

    The last `reckoned_us` of it were taken to pass in real time, from the last date that was told.
    """

    wall_at: datetime | None
    sequence: int
    reckoned_us: int = 0


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """What is to be taken, and how much is missing before it; unless it `is_sure`, the media's clock must agree."""

    fresh: tuple[Segment, ...]
    missing_us: int = 0
    is_sure: bool = False


def align(playlist: MediaPlaylist, *, place: Place) -> Alignment:
    """By PROGRAM-DATE-TIME, else by number where the numbers can match; else all, to be judged one by one."""
    first = next(iter(playlist.segments), None)
    if first is None:
        return Alignment(fresh=())
    if place.wall_at is not None and first.wall_at is not None:
        apart_s = (playlist.segments[-1].wall_at or first.wall_at) - place.wall_at
        if abs(apart_s.total_seconds()) <= _SAME_STREAM_S + _length_s(playlist):
            pace = _clock_pace(playlist.segments)
            end_at = place.wall_at - place.reckoned_us * (1 - pace) * _MICROSECOND
            return _by_clock(playlist.segments, end_at, sequence=place.sequence, pace=pace)
    if playlist.media_sequence <= place.sequence <= playlist.last_sequence + 1:
        return Alignment(fresh=tuple(s for s in playlist.segments if s.sequence >= place.sequence))
    return Alignment(fresh=playlist.segments)


def seam_us(pts_us: int | None, *, timeline: Timeline, duration_us: int) -> int:
    """How much is missing before the first segment of another variant (0: it follows).

    Negative: its place is taken, by media or by a gap that was told. Less than half its length is the play between
    encoders, and more than an hour another clock.
    """
    if pts_us is None or timeline.clock_end_us is None:
        return 0
    step_us = clock_step_us(pts_us, timeline.clock_end_us)
    if abs(step_us) > _SAME_STREAM_S * MICROSECONDS:
        return 0
    missing_us = step_us - (timeline.position_us - timeline.clock_position_us)
    return missing_us if abs(missing_us) >= duration_us // 2 else 0


def _clock_pace(segments: tuple[Segment, ...]) -> float:
    """Wall seconds for a second of media by the dates themselves; 1 unless they are of a source that runs faster.

    Pauses make dates run slower, and are none of the pace.
    """
    wall, media_us = timedelta(), 0
    for before, after in pairwise(segments):
        if before.wall_at is not None and after.wall_at is not None and not after.discontinuity:
            wall, media_us = wall + (after.wall_at - before.wall_at), media_us + before.duration_us
    if media_us < _PACED_US:
        return 1.0
    pace = wall / (media_us * _MICROSECOND)
    return pace if _FASTEST <= pace < _REAL_TIME else 1.0


def _by_clock(segments: tuple[Segment, ...], end_at: datetime, *, sequence: int, pace: float) -> Alignment:
    """A segment is new when its middle is; what is before the first dated one of them is old.

    One that is later, and has the very number that comes next, is no proof of a hole: the encoder paused.
    """
    start = next((n for n, each in enumerate(segments) if _middle(each, pace) > end_at), len(segments))
    fresh = segments[start:]
    if not fresh or fresh[0].wall_at is None:
        return Alignment(fresh=fresh, is_sure=True)
    missing_us = round((fresh[0].wall_at - end_at) / _MICROSECOND / pace)
    is_missing = missing_us > fresh[0].duration_us // 2 and fresh[0].sequence != sequence
    return Alignment(fresh=fresh, missing_us=missing_us if is_missing else 0, is_sure=True)


def _middle(segment: Segment, pace: float) -> datetime:
    """Of a segment without a date, after a discontinuity, nothing is known: it counts as new."""
    if segment.wall_at is None:
        return datetime.max.replace(tzinfo=UTC)
    return segment.wall_at + timedelta(microseconds=round(segment.duration_us // 2 * pace))


def _length_s(playlist: MediaPlaylist) -> float:
    return sum(each.duration_us for each in playlist.segments) / MICROSECONDS

"""Captions beside a stream: which parts of their list are new, and where each text lies in the stream's media time.

Their clock is the media's own (X-TIMESTAMP-MAP) where it fits, else PROGRAM-DATE-TIME, else the place in the list.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from ingest.domain.actions import SignalKind, SignalSeen
from ingest.domain.playlist import MICROSECONDS, MediaPlaylist, Segment
from ingest.domain.timeline import Timeline, clock_step_us
from ingest.domain.webvtt import CaptionCue, CaptionFile

LOOK_AHEAD_US: Final = 300 * MICROSECONDS
_REMEMBERED: Final = 1024
_PLAUSIBLE_US: Final = 2 * LOOK_AHEAD_US
_TOUCHING_US: Final = 50_000


@dataclass(frozen=True, kw_only=True)
class CaptionPart:
    """One listed file of captions; `at_us` is where it lies by its place in the list."""

    segment: Segment
    at_us: int


@dataclass(frozen=True, kw_only=True)
class _Anchor:
    """The media time at which the media's clock showed `pts_us`."""

    pts_us: int
    at_us: int


class CaptionTracker:
    """Remembers what was read and told; both are bounded."""

    def __init__(self) -> None:
        self._newest: int | None = None
        self._told: OrderedDict[str, None] = OrderedDict()
        self._last: tuple[int, str] = (-_TOUCHING_US, "")
        self._anchor: _Anchor | None = None

    def fresh(self, playlist: MediaPlaylist, *, timeline: Timeline) -> tuple[CaptionPart, ...]:
        """Parts that were not read yet, oldest first; of a recording no further ahead than some minutes."""
        if self._newest is not None and playlist.last_sequence < self._newest - playlist.listed_count:
            self._newest = None  # the list began anew
        parts = [part for part in _placed(playlist, timeline) if self._is_new(part.segment)]
        if not playlist.ended:
            return tuple(parts)
        return tuple(part for part in parts if part.at_us <= timeline.position_us + LOOK_AHEAD_US)

    def done(self, part: CaptionPart) -> None:
        """The part was read, or given up."""
        self._newest = part.segment.sequence

    def signals(self, part: CaptionPart, file: CaptionFile, *, timeline: Timeline) -> tuple[SignalSeen, ...]:
        """Each text once, although the parts overlap; one that is only shown on is not told again."""
        self._note_clock(timeline)
        told = (self._signal(part, file, cue, timeline) for cue in file.cues)
        return tuple(signal for signal in told if signal is not None)

    def _is_new(self, segment: Segment) -> bool:
        is_fetchable = not (segment.refusal or segment.gap or segment.key)
        return is_fetchable and (self._newest is None or segment.sequence > self._newest)

    def _note_clock(self, timeline: Timeline) -> None:
        if timeline.expected_pts_us is not None:
            self._anchor = _Anchor(pts_us=timeline.expected_pts_us, at_us=timeline.position_us)

    def _signal(
        self, part: CaptionPart, file: CaptionFile, cue: CaptionCue, timeline: Timeline
    ) -> SignalSeen | None:
        clock_us = self._clock_place_us(file, cue)
        at_us = self._list_place_us(part, file, cue, timeline) if clock_us is None else clock_us
        length_us = cue.end_us - cue.start_us
        end_us, text = self._last
        self._last = (at_us + length_us, cue.text)
        is_shown_on = text == cue.text and abs(at_us - end_us) <= _TOUCHING_US
        name = _name(cue, at_us // MICROSECONDS if clock_us is None else (file.clock_us or 0) + cue.start_us)
        if at_us < 0 or is_shown_on or not self._remember(name):
            return None
        return SignalSeen(
            kind=SignalKind.CAPTION,
            external_id=name,
            text=cue.text,
            at_us=at_us,
            wall_at=_wall_at(timeline, at_us),
            duration_us=length_us,
        )

    def _clock_place_us(self, file: CaptionFile, cue: CaptionCue) -> int | None:
        """None where the file's clock is none, or cannot be that of the media."""
        if file.clock_us is None or self._anchor is None:
            return None
        step_us = clock_step_us(file.clock_us + cue.start_us, self._anchor.pts_us)
        return self._anchor.at_us + step_us if abs(step_us) <= _PLAUSIBLE_US else None

    def _list_place_us(
        self, part: CaptionPart, file: CaptionFile, cue: CaptionCue, timeline: Timeline
    ) -> int:
        first_us = file.cues[0].start_us
        inside_us = cue.start_us - (first_us if first_us > 2 * part.segment.duration_us else 0)
        wall_end_at, wall_at = timeline.wall_end_at, part.segment.wall_at
        if wall_at is None or wall_end_at is None:
            return part.at_us + inside_us
        before_us = round((wall_end_at - wall_at) / timedelta(microseconds=1))
        return timeline.position_us - before_us + inside_us

    def _remember(self, name: str) -> bool:
        if name in self._told:
            return False
        self._told[name] = None
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        return True


def _placed(playlist: MediaPlaylist, timeline: Timeline) -> list[CaptionPart]:
    """A recording's list begins with the stream; a live one ends about where the media does."""
    total_us = sum(segment.duration_us for segment in playlist.segments)
    at_us = 0 if playlist.ended else timeline.position_us - total_us
    parts = []
    for segment in playlist.segments:
        parts.append(CaptionPart(segment=segment, at_us=at_us))
        at_us += segment.duration_us
    return parts


def _name(cue: CaptionCue, clock: int) -> str:
    """The same for the same text at the same time, whoever reads it; to the second, where only the list tells it."""
    return sha256(f"{clock} {cue.text}".encode()).hexdigest()[:32]


def _wall_at(timeline: Timeline, at_us: int) -> datetime | None:
    end_at = timeline.wall_end_at
    return end_at and end_at + timedelta(microseconds=at_us - timeline.position_us)

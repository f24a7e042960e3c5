"""How a reloaded playlist relates to what is known: newer, unchanged, a stale copy, or a reset of the source.

A pure comparison; what follows from it is the tracker's business.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from ingest.domain.playlist import MICROSECONDS, MediaPlaylist, Segment


class Relation(StrEnum):
    """What a reload is, seen from the newest segment known."""

    EMPTY = "empty"
    NEWER = "newer"
    UNCHANGED = "unchanged"
    STALE = "stale"
    SUSPECT = "suspect"
    RESET = "reset"


@dataclass(frozen=True, kw_only=True)
class Known:
    """The newest sequence seen in an epoch, the identities near it, and the wall clock at its end."""

    newest: int
    identities: dict[int, str] = field(default_factory=dict)
    clocks: dict[int, datetime] = field(default_factory=dict)
    date_time_end: datetime | None = None


def remember(segments: Iterable[Segment], *, newest: int, end: datetime | None) -> Known:
    """What to keep of the newest accepted playlist."""
    listed = tuple(segments)
    return Known(
        newest=newest,
        identities={segment.sequence: segment.identity for segment in listed},
        clocks={segment.sequence: segment.wall_at for segment in listed if segment.wall_at},
        date_time_end=date_time_end(listed[-1]) or end if listed else end,
    )


def date_time_end(segment: Segment) -> datetime | None:
    """PROGRAM-DATE-TIME at the end of a segment, where the playlist gives one."""
    return segment.wall_at and segment.wall_at + timedelta(microseconds=segment.duration_us)


def relate(playlist: MediaPlaylist, *, known: Known, longest_gap_s: float) -> Relation:
    """Compare by sequence, by identity (path without query) and by PROGRAM-DATE-TIME.

    A sequence that goes back or names other media is a reset for certain when its clock is later than all
    known, else a suspicion that further reloads confirm. One that goes back less than its own length and names
    the same media is an older copy (another CDN edge).
    """
    if not playlist.segments:
        return Relation.EMPTY
    if _contradicts(playlist, known):
        return Relation.RESET if _is_later(playlist, known) else Relation.SUSPECT
    ahead = playlist.last_sequence - known.newest
    if ahead == 0:
        return Relation.UNCHANGED
    if ahead > 0:
        return Relation.SUSPECT if _is_leap(playlist, known, longest_gap_s) else Relation.NEWER
    if _is_later(playlist, known):
        return Relation.RESET
    return Relation.STALE if -ahead < playlist.listed_count else Relation.SUSPECT


def repeated_count(playlist: MediaPlaylist, *, known: Known) -> int:
    """How many leading segments of a renumbered playlist are the newest known ones under other numbers."""
    recent = [known.identities[sequence] for sequence in sorted(known.identities)]
    listed = [segment.identity for segment in playlist.segments]
    for count in range(len(listed), 0, -1):
        shared = min(count, len(recent))
        if shared and listed[count - shared : count] == recent[-shared:]:
            return count
    return 0


def _contradicts(playlist: MediaPlaylist, known: Known) -> bool:
    return any(
        known.identities.get(segment.sequence, segment.identity) != segment.identity
        and (segment.wall_at is None or known.clocks.get(segment.sequence) != segment.wall_at)
        for segment in playlist.segments
    )


def _is_later(playlist: MediaPlaylist, known: Known) -> bool:
    end = date_time_end(playlist.segments[-1])
    return end is not None and known.date_time_end is not None and end > known.date_time_end


def _is_leap(playlist: MediaPlaylist, known: Known, longest_gap_s: float) -> bool:
    missing = playlist.media_sequence - known.newest - 1
    return missing * playlist.target_us > longest_gap_s * MICROSECONDS

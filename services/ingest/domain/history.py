"""How a reloaded playlist relates to what is known: newer, unchanged, a stale copy, or a reset of the source.

A pure comparison with what is remembered across accepted reloads; what follows is the tracker's business.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeVar

from ingest.domain.playlist import MICROSECONDS, MediaPlaylist, Segment

_REMEMBERED_SEGMENTS: Final = 256
_RESTART_ADVANCES: Final = 2
_T = TypeVar("_T")


class Relation(StrEnum):
    """What a reload is, seen from the newest segment known."""

    EMPTY = "empty"
    NEWER = "newer"
    UNCHANGED = "unchanged"
    STALE = "stale"
    UNKNOWN = "unknown"
    SUSPECT = "suspect"
    RESET = "reset"


@dataclass(frozen=True, kw_only=True)
class Known:
    """An epoch as seen so far: its newest sequence, and the wall clock at its end.

    Identities and clocks reach a few hundred sequences back, with holes where nothing was listed.
    """

    newest: int
    identities: dict[int, str] = field(default_factory=dict)
    clocks: dict[int, datetime] = field(default_factory=dict)
    date_time_end: datetime | None = None

    def learn(self, playlist: MediaPlaylist) -> "Known":
        """With an accepted playlist taken in and the oldest forgotten."""
        recent = playlist.segments[-_REMEMBERED_SEGMENTS:]
        newest = playlist.last_sequence
        oldest = newest - _REMEMBERED_SEGMENTS + 1
        identities = self.identities | {segment.sequence: segment.identity for segment in recent}
        clocks = self.clocks | {segment.sequence: segment.wall_at for segment in recent if segment.wall_at}
        return Known(
            newest=newest,
            identities=_not_before(oldest, identities),
            clocks=_not_before(oldest, clocks),
            date_time_end=(date_time_end(recent[-1]) if recent else None) or self.date_time_end,
        )

    def renumbered(self) -> "Known":
        """What outlives the epoch: the wall clock alone, as its sequences come to mean other media."""
        return Known(newest=self.newest, date_time_end=self.date_time_end)


@dataclass(frozen=True, kw_only=True)
class OlderCopy:
    """A copy that goes back over known media, as long as nothing newer is listed: an edge, or a restart.

    What differs is that an edge catches up: one that lags by n segments lists the newest known one n targets
    later, while a source that began anew moves on by itself and stays behind.
    """

    since_s: float
    newest: int
    catch_up_segments: int
    advances: int = 0

    def seen_again(self, playlist: MediaPlaylist) -> "OlderCopy":
        """After a reload that goes back, too; it advances when it gets further than ever before."""
        if playlist.last_sequence <= self.newest:
            return self
        return replace(self, newest=playlist.last_sequence, advances=self.advances + 1)

    def is_restart(self, *, now_s: float, target_s: float, least_targets: float) -> bool:
        """Whether it moved on twice and had the time to catch up, of `target_s` wall seconds per segment.

        That time is capped by the length of the first such list, so that little leaves a restarted window
        meanwhile. So an edge that lags by more than its window, and is all that answers for so long, passes for
        a restart (media told twice), and a restart within two segments of the newest for an edge.
        """
        patience_s = max(least_targets, self.catch_up_segments) * target_s
        return self.advances >= _RESTART_ADVANCES and now_s - self.since_s > patience_s


def older_copy(playlist: MediaPlaylist, *, known: Known, now_s: float) -> OlderCopy:
    """The first reload that goes back."""
    lag = known.newest - playlist.last_sequence
    catch_up = min(lag + 1, playlist.listed_count)
    return OlderCopy(since_s=now_s, newest=playlist.last_sequence, catch_up_segments=catch_up)


def date_time_end(segment: Segment) -> datetime | None:
    """PROGRAM-DATE-TIME at the end of a segment, where the playlist gives one."""
    return segment.wall_at and segment.wall_at + timedelta(microseconds=segment.duration_us)


def relate(playlist: MediaPlaylist, *, known: Known, longest_gap_s: float) -> Relation:
    """Compare by sequence, by identity (path without query) and by PROGRAM-DATE-TIME.

    A sequence that goes back or names other media is a reset for certain when its clock is later than all
    known, else a suspicion that further reloads confirm. One that goes back and names what is remembered, or
    goes back less than its own length, is an older copy (another CDN edge). One that goes back beyond memory
    (before we joined, or after a failover) may be either.
    """
    if not playlist.segments:
        return Relation.EMPTY
    if _contradicts(playlist, known):
        return Relation.RESET if _is_later(playlist, known) else Relation.SUSPECT
    ahead = playlist.last_sequence - known.newest
    if ahead == 0:
        return Relation.UNCHANGED
    if ahead > 0:
        is_doubtful = _is_leap(playlist, known, longest_gap_s) or _is_renumbered(playlist, known)
        return Relation.SUSPECT if is_doubtful else Relation.NEWER
    return Relation.RESET if _is_later(playlist, known) else _relate_older(playlist, known)


def is_cut_before(playlist: MediaPlaylist, *, known: Known) -> bool:
    """Only its first entries were read, and what is known stands behind them: it may be as new as any."""
    reaches = playlist.media_sequence + playlist.listed_count > known.newest
    return playlist.truncated and playlist.last_sequence < known.newest and reaches


def _relate_older(playlist: MediaPlaylist, known: Known) -> Relation:
    lag = known.newest - playlist.last_sequence
    if lag < playlist.listed_count or _is_remembered(playlist, known):
        return Relation.STALE
    return Relation.SUSPECT if repeated_count(playlist, known=known) else Relation.UNKNOWN


def repeated_count(playlist: MediaPlaylist, *, known: Known) -> int:
    """How many leading segments of a renumbered playlist are the newest known ones under other numbers."""
    recent = _newest_run(known)
    listed = [segment.identity for segment in playlist.segments]
    for count in range(len(listed), 0, -1):
        shared = min(count, len(recent))
        if shared and listed[count - 1] == recent[-1] and listed[count - shared : count] == recent[-shared:]:
            return count
    return 0


def _newest_run(known: Known) -> Sequence[str]:
    """Identities without a hole up to the newest, oldest first."""
    first = known.newest + 1
    while first - 1 in known.identities:
        first -= 1
    return [known.identities[sequence] for sequence in range(first, known.newest + 1)]


def _not_before(oldest: int, by_sequence: dict[int, _T]) -> dict[int, _T]:
    if len(by_sequence) <= _REMEMBERED_SEGMENTS:
        return by_sequence
    return {sequence: value for sequence, value in by_sequence.items() if sequence >= oldest}


def _is_remembered(playlist: MediaPlaylist, known: Known) -> bool:
    return all(segment.sequence in known.identities for segment in playlist.segments)


def _contradicts(playlist: MediaPlaylist, known: Known) -> bool:
    return any(_is_other_media(segment, known) for segment in playlist.segments)


def _is_other_media(segment: Segment, known: Known) -> bool:
    """Under a known number; one of the same date was merely moved."""
    name = known.identities.get(segment.sequence)
    if name is None or name == segment.identity:
        return False
    return segment.wall_at is None or known.clocks.get(segment.sequence) != segment.wall_at


def _is_later(playlist: MediaPlaylist, known: Known) -> bool:
    end = date_time_end(playlist.segments[-1])
    return end is not None and known.date_time_end is not None and end > known.date_time_end


def _is_renumbered(playlist: MediaPlaylist, known: Known) -> bool:
    """Numbers far ahead that begin with what is known already: no hole, but other numbers for the same media.

    Where names do not tell segments apart (one path, told apart by the query) they tell nothing here either.
    """
    if playlist.media_sequence <= known.newest + 1:
        return False
    names = {segment.identity for segment in playlist.segments}
    return len(names) == len(playlist.segments) and repeated_count(playlist, known=known) > 0


def _is_leap(playlist: MediaPlaylist, known: Known, longest_gap_s: float) -> bool:
    """By what is listed where that is longer than the target says: so long would the hole be."""
    missing = playlist.media_sequence - known.newest - 1
    mean_us = sum(segment.duration_us for segment in playlist.segments) // len(playlist.segments)
    return missing * max(playlist.target_us, mean_us) > longest_gap_s * MICROSECONDS

"""Sequences that nobody ever listed to us: which they are, and how long what they held was.

Losses of segments that were listed are told by their slots.
"""

from dataclasses import replace
from datetime import timedelta

from ingest.domain.actions import Cursor, LossCause
from ingest.domain.history import Known
from ingest.domain.playlist import MediaPlaylist
from ingest.domain.queue import Hole, Numbering, Queue


def hole_before(playlist: MediaPlaylist, *, known: Known, number: Numbering) -> tuple[Hole, ...]:
    """What the window passed on to before we saw it; nothing when it follows what is known."""
    first, last = known.newest + 1, playlist.media_sequence - 1
    if last < first:
        return ()
    hole = Hole(
        epoch=number.epoch,
        variant=number.variant,
        from_sequence=first,
        to_sequence=last,
        estimated_us=_estimate_us(playlist, known=known, missing=last - first + 1),
        cause=LossCause.WINDOW_OVERRUN,
    )
    return (hole,)


def hole_to_end(
    endlist_sequence: int, *, known: Known, number: Numbering, target_us: int
) -> tuple[Hole, ...]:
    """What a list that has ended named before a crash, and that is gone with it; nothing when all is known."""
    missing = endlist_sequence - known.newest
    if missing <= 0:
        return ()
    hole = Hole(
        epoch=number.epoch,
        variant=number.variant,
        from_sequence=known.newest + 1,
        to_sequence=endlist_sequence,
        estimated_us=missing * target_us,
        cause=LossCause.SOURCE_UNREACHABLE,
    )
    return (hole,)


def hole_behind(cursor: Cursor, *, missing_us: int, target_us: int, cause: LossCause) -> Hole:
    """Right after what is committed; it takes as many numbers as its length in targets."""
    first = cursor.sequence + 1
    return Hole(
        epoch=cursor.epoch,
        variant=cursor.variant,
        from_sequence=first,
        to_sequence=first + max(1, round(missing_us / target_us)) - 1,
        estimated_us=missing_us,
        cause=cause,
    )


def moved_behind(hole: Hole, *, queue: Queue) -> Hole:
    """The same after all that is queued."""
    last = queue.last
    if last is None:
        return hole
    first, count = last.to_sequence + 1, hole.to_sequence - hole.from_sequence
    return replace(
        hole, epoch=last.epoch, variant=last.variant, from_sequence=first, to_sequence=first + count
    )


def _estimate_us(playlist: MediaPlaylist, *, known: Known, missing: int) -> int:
    """By PROGRAM-DATE-TIME where both sides have a plausible one, else by the mean length of what is listed."""
    durations = [segment.duration_us for segment in playlist.segments]
    by_count_us = missing * sum(durations) // len(durations)
    first = playlist.segments[0]
    if first.wall_at is None or known.date_time_end is None or first.sequence != playlist.media_sequence:
        return by_count_us
    by_clock_us = round((first.wall_at - known.date_time_end) / timedelta(microseconds=1))
    is_plausible = by_count_us // 2 <= by_clock_us <= 2 * by_count_us
    return by_clock_us if is_plausible else by_count_us

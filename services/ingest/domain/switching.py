"""Going on with another rendition: where what we have ends, and what becomes of all that is still open.

Which rendition, and when, is decided in `variants`; what of its list is new in `alignment`.
"""

from datetime import timedelta
from typing import Final

from ingest.domain.actions import Cursor, LossCause, SegmentUnwanted
from ingest.domain.alignment import Alignment, Place
from ingest.domain.holes import hole_behind, moved_behind
from ingest.domain.queue import Item, Progress, Queue, Slot

_ASKED_FOR: Final = (Progress.STORED, Progress.FETCHING)


def place_after(kept: tuple[Item, ...], *, cursor: Cursor) -> Place:
    """The end of what is committed, and of what is settled behind it."""
    timeline = cursor.timeline
    wall_at = timeline.wall_end_at if cursor.date_time_end is not None else None
    sequence, reckoned_us = cursor.sequence, timeline.position_us - timeline.wall_position_us
    for item in kept:
        reckoned_us = item.estimated_us + (0 if item.wall_end_at else reckoned_us)
        estimated_at = wall_at and wall_at + timedelta(microseconds=item.estimated_us)
        wall_at, sequence = item.wall_end_at or estimated_at, item.to_sequence
    return Place(wall_at=wall_at, sequence=sequence + 1, reckoned_us=reckoned_us)


def drop_open(
    queue: Queue, *, kept_count: int, aligned: Alignment, cursor: Cursor, target_us: int
) -> tuple[SegmentUnwanted, ...]:
    """What the other variant has too is not wanted any more; what it lacks stays where it is stored, or is lost."""
    dropped = queue.drop_behind(kept_count)
    missing_us = _settle_missing(dropped, queue=queue, missing_us=aligned.missing_us)
    if missing_us > aligned.fresh[0].duration_us // 2:
        hole = hole_behind(cursor, missing_us=missing_us, target_us=target_us, cause=LossCause.WINDOW_OVERRUN)
        queue.extend((moved_behind(hole, queue=queue),))
    return tuple(
        SegmentUnwanted(epoch=item.epoch, sequence=item.from_sequence)
        for item in dropped
        if item.progress in _ASKED_FOR and queue.slot(item.epoch, item.from_sequence) is not item
    )


def _settle_missing(dropped: list[Item], *, queue: Queue, missing_us: int) -> int:
    """What is stored of it stays, the rest is lost; answers with what none of them accounts for."""
    for item in dropped:
        if missing_us <= item.estimated_us // 2:
            continue
        missing_us -= item.estimated_us
        if isinstance(item, Slot) and item.progress is Progress.STORED:
            queue.enlist(item)
        else:
            queue.extend((_lost_for_good(item),))
    return missing_us


def _lost_for_good(item: Item) -> Item:
    if isinstance(item, Slot):
        item.cause = item.cause if item.attempts or item.segment.gap else LossCause.WINDOW_OVERRUN
        item.progress = Progress.LOST
    return item

"""Each step of the cursor, as the action that is saved together with it: joined, committed, lost, stalled, ended.

Pure: cursor in, action with the next cursor out. Which step comes when is decided in `settling` and by the tracker.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from ingest.domain.actions import (
    NOTHING_YET,
    CommitSegment,
    Cursor,
    EndCause,
    Ended,
    Joined,
    Resumed,
    SegmentLost,
    Stalled,
)
from ingest.domain.ads import Ads
from ingest.domain.history import date_time_end
from ingest.domain.queue import Item, Slot
from ingest.domain.timeline import Break, MeasuredSegment, place_gap, place_segment


def joined(cursor: Cursor, *, before_sequence: int) -> Joined:
    """The stream is followed from behind `before_sequence` on."""
    return Joined(cursor=replace(cursor, joined=True, sequence=before_sequence))


def stalled(cursor: Cursor, *, cause: str) -> Stalled:
    """Stalls are counted from 0."""
    index = cursor.stall_count
    return Stalled(index=index, cause=cause, cursor=replace(cursor, stall_count=index + 1, stalled=True))


def resumed(cursor: Cursor) -> Resumed:
    """The last stall is over."""
    return Resumed(index=cursor.stall_count - 1, cursor=replace(cursor, stalled=False))


def ended(cursor: Cursor, *, cause: EndCause, detail: str, endlist_sequence: int) -> Ended:
    """Nothing follows this step."""
    last = replace(cursor, endlist_sequence=endlist_sequence, stalled=False, ended=str(cause))
    return Ended(cause=cause, detail=detail, cursor=last)


def committed(cursor: Cursor, slot: Slot, *, endlist_sequence: int) -> CommitSegment:
    """A stored segment takes its place on the timeline, inside or outside of a break for advertising."""
    segment = slot.segment
    placed, timeline = place_segment(cursor.timeline, segment=_measured(slot, cursor=cursor))
    ads = cursor.ads.after_cues(segment.cues, start_us=placed.start_us, duration_us=placed.duration_us)
    excluded = ads.exclusion(wall_at=placed.wall_at, duration_us=placed.duration_us)
    following = replace(
        cursor,
        epoch=slot.epoch,
        variant=slot.variant,
        ads=ads.since(placed.wall_at),
        sequence=segment.sequence,
        identity=segment.identity,
        date_time_end=date_time_end(segment) or cursor.date_time_end,
        discontinuity_sequence=slot.discontinuity_sequence,
        init_identity=segment.init.identity if segment.init else "",
        endlist_sequence=endlist_sequence,
        timeline=timeline,
    )
    return CommitSegment(
        epoch=slot.epoch, segment=segment, placed=placed, cursor=following, excluded=excluded
    )


def lost(cursor: Cursor, items: tuple[Item, ...], *, endlist_sequence: int) -> SegmentLost:
    """Neighbours of one epoch and cause become one gap, as long as they are estimated."""
    head, last = items[0], items[-1]
    placed, timeline = place_gap(cursor.timeline, estimated_us=sum(item.estimated_us for item in items))
    following = replace(
        cursor,
        epoch=head.epoch,
        variant=head.variant,
        sequence=last.to_sequence,
        identity="",
        date_time_end=_later(cursor.date_time_end, placed.duration_us),
        ads=_ads_after(cursor.ads, items, start_us=placed.start_us),
        endlist_sequence=endlist_sequence,
        timeline=timeline,
    )
    return SegmentLost(
        epoch=head.epoch,
        from_sequence=head.from_sequence,
        to_sequence=last.to_sequence,
        cause=head.cause,
        placed=placed,
        cursor=following,
    )


def _measured(slot: Slot, *, cursor: Cursor) -> MeasuredSegment:
    is_unanchored = cursor.timeline.wall_at is None or slot.starts_epoch
    return MeasuredSegment(
        listed_us=slot.segment.duration_us,
        probed_us=slot.probed_us,
        pts_us=slot.pts_us,
        wall_at=slot.segment.wall_at or (slot.wall_hint if is_unanchored else None),
        break_before=_break_before(slot, cursor=cursor),
    )


def _break_before(slot: Slot, *, cursor: Cursor) -> Break:
    segment = slot.segment
    if cursor.timeline.segment_count == 0:
        return Break.NONE
    if slot.is_seam:
        return Break.VARIANT
    if slot.starts_epoch:
        return Break.EPOCH
    counts = (cursor.discontinuity_sequence, slot.discontinuity_sequence)
    if segment.discontinuity or (NOTHING_YET not in counts and counts[0] != counts[1]):
        return Break.TAGGED
    init_identity = segment.init.identity if segment.init else ""
    return Break.INIT_SECTION if init_identity != cursor.init_identity else Break.NONE


def _ads_after(ads: Ads, items: tuple[Item, ...], *, start_us: int) -> Ads:
    """Tags of what is lost count too: a break may begin or end there."""
    for item in items:
        if isinstance(item, Slot):
            ads = ads.after_cues(item.segment.cues, start_us=start_us, duration_us=item.estimated_us)
        start_us += item.estimated_us
    return ads


def _later(wall_at: datetime | None, span_us: int) -> datetime | None:
    return wall_at and wall_at + timedelta(microseconds=span_us)

"""What is stored or lost becomes history, strictly in order, and the cursor moves with it.

At the seam to another variant the media's own clock decides what follows: its first segments may repeat what we have
(they are passed over), or begin later (the rest is a gap). Which segments are stored or lost is decided elsewhere.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from ingest.domain.actions import (
    Action,
    CommitSegment,
    Cursor,
    Ended,
    Joined,
    LossCause,
    Resumed,
    SegmentLost,
    SegmentUnwanted,
    SignalSeen,
    Stalled,
)
from ingest.domain.alignment import seam_us
from ingest.domain.cursor_steps import committed, lost
from ingest.domain.holes import hole_behind
from ingest.domain.markers import Markers
from ingest.domain.playlist import MediaPlaylist
from ingest.domain.queue import SETTLED, Hole, Item, Progress, Queue, Slot, leading_losses

_StepT = TypeVar("_StepT", bound=Joined | CommitSegment | SegmentLost | Stalled | Resumed | Ended)


class Settling:
    """The one owner of the cursor; `endlist_sequence` is what the next saved step will say of the list's end."""

    def __init__(self, queue: Queue, *, cursor: Cursor) -> None:
        self.cursor = cursor
        self.endlist_sequence = cursor.endlist_sequence
        self._queue = queue
        self._markers = Markers()
        self._is_at_seam = self._is_seam_unsure = False

    def step(self, action: _StepT) -> _StepT:
        """The cursor moves to where this action leaves it."""
        self.cursor = action.cursor
        return action

    def see_ranges(self, playlist: MediaPlaylist) -> None:
        """Date ranges tell of advertising and of signals, mostly before their media is there."""
        if playlist.date_ranges:
            ads = self._markers.see(playlist.date_ranges, ads=self.cursor.ads)
            self.cursor = replace(self.cursor, ads=ads)

    def open_seam(self, *, is_unsure: bool) -> None:
        """The next segment that is listed is the first of another variant."""
        self._is_at_seam, self._is_seam_unsure = True, is_unsure

    def mark_seam(self, slot: Slot) -> None:
        """Where a seam is open, this one is at it."""
        if self._is_at_seam:
            slot.starts_epoch = slot.is_seam = True
            slot.is_unsure = self._is_seam_unsure
            self._is_at_seam = False

    def release(self, *, target_us: int, is_finishing: bool) -> Iterator[Action]:
        """All that is settled at the head of the queue; the last doubtful loss waits for its successor."""
        while (head := self._queue.head) is not None and head.progress in SETTLED:
            if isinstance(head, Slot) and head.is_unsure and head.progress is Progress.LOST:
                if len(self._queue) == 1 and not is_finishing:
                    return
                yield from self._pass_loss_on(head, target_us=target_us)
            elif not isinstance(head, Slot) or head.progress is Progress.LOST:
                yield self._lose_heads()
            else:
                yield from self._settle_stored(head, target_us=target_us)

    def rest_of_signals(self) -> tuple[SignalSeen, ...]:
        """What still waits for its moment at the end of the stream."""
        timeline = self.cursor.timeline
        return self._markers.rest(wall_end_at=timeline.wall_end_at, end_us=timeline.position_us)

    def _lose_heads(self) -> SegmentLost:
        losses = leading_losses(self._queue)
        self._queue.drop_heads(len(losses))
        return self._lose(losses)

    def _lose(self, items: tuple[Item, ...]) -> SegmentLost:
        return self.step(lost(self.cursor, items, endlist_sequence=self.endlist_sequence))

    def _lose_behind(self, missing_us: int, *, target_us: int, cause: LossCause) -> SegmentLost:
        hole = hole_behind(self.cursor, missing_us=missing_us, target_us=target_us, cause=cause)
        return self._lose((hole,))

    def _settle_stored(self, slot: Slot, *, target_us: int) -> Iterator[Action]:
        missing_us = self._seam_us(slot, slot.pts_us)
        if missing_us < 0:
            yield self._pass_over(slot)
            return
        if missing_us:
            yield self._lose_behind(missing_us, target_us=target_us, cause=slot.lost_cause)
        self._queue.drop_heads(1)
        commit = self.step(committed(self.cursor, slot, endlist_sequence=self.endlist_sequence))
        yield commit
        yield from self._markers.due(commit.placed)

    def _seam_us(self, slot: Slot, pts_us: int | None) -> int:
        if not slot.is_seam:
            return 0
        if pts_us is None or self.cursor.timeline.clock_end_us is None:
            return slot.lost_before_us
        return seam_us(pts_us, timeline=self.cursor.timeline, duration_us=slot.segment.duration_us)

    def _pass_loss_on(self, slot: Slot, *, target_us: int) -> Iterator[SegmentLost]:
        """Whether what could not be had is missing shows when the next one is there, or never."""
        if self._seam_us(slot, slot.pts_hint_us) < 0:
            self._move_seam(slot)
            return
        lost_us = slot.lost_before_us + slot.estimated_us
        following = self._move_seam(slot)
        if following is None:
            yield self._lose_behind(lost_us, target_us=target_us, cause=slot.cause)
        else:
            following.lost_before_us += lost_us
            following.lost_cause = slot.cause

    def _pass_over(self, slot: Slot) -> SegmentUnwanted:
        """The other variant began with media that we have; its next segment is judged in turn."""
        self._move_seam(slot)
        return SegmentUnwanted(epoch=slot.epoch, sequence=slot.segment.sequence)

    def _move_seam(self, slot: Slot) -> Slot | None:
        """The segment behind is the seam now; a hole before it is as unsure as what was dropped."""
        self._queue.drop_heads(1)
        lost_us, cause = self._drop_holes()
        following = self._queue.head
        if not isinstance(following, Slot):
            self._is_at_seam = True
            return None
        following.is_seam = following.starts_epoch = True
        begin_us = slot.pts_us if slot.pts_us is not None else slot.pts_hint_us
        if begin_us is not None and not lost_us:
            following.pts_hint_us = begin_us + slot.estimated_us
        following.is_unsure, following.lost_before_us, following.lost_cause = slot.is_unsure, lost_us, cause
        return following

    def _drop_holes(self) -> tuple[int, LossCause]:
        lost_us, cause = 0, LossCause.WINDOW_OVERRUN
        while isinstance(head := self._queue.head, Hole):
            lost_us, cause = lost_us + head.estimated_us, head.cause
            self._queue.drop_heads(1)
        return lost_us, cause

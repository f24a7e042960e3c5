"""Taking over what a playlist lists: segments become slots, and open slots learn their fresh addresses.

Which of the listed segments are new is decided by the tracker; here nothing is scheduled, fetched or settled.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from ingest.domain.actions import NOTHING_YET, EndCause, LossCause
from ingest.domain.playlist import MediaPlaylist, Segment
from ingest.domain.queue import Numbering, Progress, Queue, Slot
from ingest.domain.reloads import Reload

_NEWEST_SEGMENTS: Final = 2


def listed_slots(
    fresh: Sequence[Segment], reload: Reload, *, number: Numbering, starts_epoch: bool, is_adopted: bool
) -> Iterator[Slot]:
    """The listed segments that are new; an adopted list is dated by when it came, where it has no dates."""
    hints = _wall_hints(fresh, reload) if is_adopted else [None] * len(fresh)
    for index, (segment, hint) in enumerate(zip(fresh, hints, strict=True)):
        slot = _slot(segment, reload.playlist, number)
        slot.starts_epoch, slot.wall_hint = starts_epoch and index == 0, hint
        cause = _unfetchable(segment)
        if cause is not None:
            slot.progress, slot.cause = Progress.LOST, cause
        yield slot


def unusable(playlist: MediaPlaylist) -> tuple[EndCause, str] | None:
    """A playlist in which nothing may be fetched or decrypted will not become better: the end, and why."""
    segments = playlist.segments
    if segments and all(segment.unsupported for segment in segments):
        return EndCause.UNSUPPORTED_ENCRYPTION, segments[-1].unsupported
    if segments and all(segment.refusal for segment in segments):
        return EndCause.SOURCE_REFUSED, segments[-1].refusal
    return None


def refresh(queue: Queue, reload: Reload, *, epoch: int, window_wall_s: float) -> None:
    """Take over fresh tokens, and note which open segments have left the window.

    Those stay for their length and that of the window (RFC 8216, 6.2.2).
    """
    playlist, now_s = reload.playlist, reload.now_s
    for segment in playlist.segments if queue.has_slots else ():
        slot = queue.slot(epoch, segment.sequence)
        if slot is not None and slot.segment.identity == segment.identity:
            _renew(slot, segment, now_s=now_s)
    queue.expire_before(playlist.media_sequence, epoch=epoch, at_s=now_s + window_wall_s)


def _renew(slot: Slot, segment: Segment, *, now_s: float) -> None:
    if slot.asked_master and segment.location != slot.segment.location:
        slot.retry_at_s = min(slot.retry_at_s, now_s)
    slot.segment = replace(slot.segment, location=segment.location, key=segment.key, init=segment.init)


def _slot(segment: Segment, playlist: MediaPlaylist, number: Numbering) -> Slot:
    """The newest may be listed before they can be had."""
    counted = playlist.has_discontinuity_sequence
    return Slot(
        epoch=number.epoch,
        segment=segment,
        discontinuity_sequence=segment.discontinuity_sequence if counted else NOTHING_YET,
        is_newest=not playlist.ended and segment.sequence > playlist.last_sequence - _NEWEST_SEGMENTS,
        variant=number.variant,
    )


def _unfetchable(segment: Segment) -> LossCause | None:
    if segment.gap:
        return LossCause.SOURCE_GAP
    if segment.unsupported:
        return LossCause.UNSUPPORTED_ENCRYPTION
    return LossCause.REFUSED_ADDRESS if segment.refusal else None


def _wall_hints(fresh: Sequence[Segment], reload: Reload) -> list[datetime | None]:
    """Where no PROGRAM-DATE-TIME is: a live list ends now, a finished one is taken to begin now."""
    if reload.wall_at is None:
        return [None] * len(fresh)
    total_us = 0 if reload.playlist.ended else sum(segment.duration_us for segment in fresh)
    hints: list[datetime | None] = []
    for segment in fresh:
        hints.append(reload.wall_at - timedelta(microseconds=total_us))
        total_us -= segment.duration_us
    return hints

"""What the tracker has taken over and not yet settled: listed segments and holes, oldest first.

State alone; when to fetch, try again or give up is decided by the tracker and by `retry`.
"""

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import takewhile
from typing import Final

from ingest.domain.actions import LossCause
from ingest.domain.history import date_time_end
from ingest.domain.playlist import Segment

NEVER: Final = float("inf")


class Progress(StrEnum):
    """PARKED waits for another variant, which may have what this one lacks."""

    WAITING = "waiting"
    FETCHING = "fetching"
    RETRYING = "retrying"
    PARKED = "parked"
    STORED = "stored"
    LOST = "lost"


SETTLED: Final = frozenset({Progress.STORED, Progress.LOST})


@dataclass(kw_only=True)
class Slot:
    """One listed segment until it is committed or lost; `is_seam` marks the first of another variant.

    Where only the media's clock can tell how that one follows, it `is_unsure`, and `lost_before_us` of the same list
    could not be had before it: media that is missing, or that we have from the former variant. `pts_hint_us` is where
    its clock should begin, by the one before.
    """

    epoch: int
    segment: Segment
    discontinuity_sequence: int
    is_newest: bool
    variant: str = ""
    starts_epoch: bool = False
    is_seam: bool = False
    is_unsure: bool = False
    lost_before_us: int = 0
    lost_cause: LossCause = LossCause.WINDOW_OVERRUN
    wall_hint: datetime | None = None
    progress: Progress = Progress.WAITING
    cause: LossCause = LossCause.NOT_FOUND
    attempts: int = 0
    first_try_s: float = 0.0
    retry_at_s: float = 0.0
    expires_s: float = NEVER
    asked_master: bool = False
    asked_variant: bool = False
    probed_us: int | None = None
    pts_us: int | None = None
    pts_hint_us: int | None = None

    @property
    def from_sequence(self) -> int:
        return self.segment.sequence

    @property
    def to_sequence(self) -> int:
        return self.segment.sequence

    @property
    def estimated_us(self) -> int:
        return self.segment.duration_us

    @property
    def wall_end_at(self) -> datetime | None:
        return date_time_end(self.segment)


@dataclass(frozen=True, kw_only=True)
class Hole:
    """Sequences that were never seen; numbered as in `variant`."""

    epoch: int
    variant: str = ""
    from_sequence: int
    to_sequence: int
    estimated_us: int
    cause: LossCause
    progress: Progress = Progress.LOST

    @property
    def wall_end_at(self) -> None:
        return None


Item = Slot | Hole


def is_due(slot: Slot, now_s: float) -> bool:
    if slot.progress in (Progress.RETRYING, Progress.PARKED):
        return slot.retry_at_s <= now_s
    return slot.progress is Progress.WAITING


def leading_losses(queue: deque[Item]) -> tuple[Item, ...]:
    """The losses at the head that are one gap: same epoch, same cause."""
    mark = (Progress.LOST, queue[0].epoch, queue[0].cause)
    return tuple(takewhile(lambda item: (item.progress, item.epoch, item.cause) == mark, queue))


def leading_settled(queue: deque[Item]) -> tuple[Item, ...]:
    """What another variant need not bring any more."""
    return tuple(takewhile(_is_kept, queue))


def _is_kept(item: Item) -> bool:
    return item.progress in SETTLED and not (isinstance(item, Slot) and item.is_unsure)

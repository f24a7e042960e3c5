"""What the tracker has taken over and not yet settled: listed segments and holes, oldest first.

State alone; when to fetch, try again or give up is decided in `fetching`, `retry` and `variants`.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice, takewhile
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


@dataclass(frozen=True, kw_only=True)
class Numbering:
    """What sequences mean: those of another epoch or variant number other media."""

    epoch: int
    variant: str


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


class Queue:
    """Oldest first; a listed segment is found by its epoch and sequence, too, until it leaves."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._slots: dict[tuple[int, int], Slot] = {}

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def head(self) -> Item | None:
        """The oldest; None when all is settled."""
        return self._items[0] if self._items else None

    @property
    def last(self) -> Item | None:
        """The newest; None when all is settled."""
        return self._items[-1] if self._items else None

    @property
    def slots(self) -> Iterable[Slot]:
        """All listed segments that are open, or settled behind one that is."""
        return self._slots.values()

    @property
    def has_slots(self) -> bool:
        """Whether any listed segment has not left yet."""
        return bool(self._slots)

    @property
    def waiting_count(self) -> int:
        """Segments that wait for their first or next attempt."""
        return sum(slot.progress in (Progress.WAITING, Progress.RETRYING) for slot in self.slots)

    @property
    def fetching_count(self) -> int:
        """Segments whose fetch began and has not come to a result."""
        return sum(slot.progress is Progress.FETCHING for slot in self._tried())

    @property
    def retry_at_s(self) -> float:
        """When a failed segment is due again; infinity when there is none."""
        waiting = (Progress.RETRYING, Progress.PARKED)
        retries = (slot.retry_at_s for slot in self._tried() if slot.progress in waiting)
        return min(retries, default=NEVER)

    def slot(self, epoch: int, sequence: int) -> Slot | None:
        """The listed segment of this number, if it has not left."""
        return self._slots.get((epoch, sequence))

    def enlist(self, slot: Slot) -> None:
        """At the end, and to be found by its number."""
        self._items.append(slot)
        self._slots[(slot.epoch, slot.segment.sequence)] = slot

    def extend(self, items: Iterable[Item]) -> None:
        """At the end; nobody will ask for them by their numbers."""
        self._items.extend(items)

    def drop_heads(self, count: int) -> None:
        """The oldest leave."""
        for _ in range(count):
            self._forget(self._items.popleft())

    def drop_behind(self, count: int) -> list[Item]:
        """All but the `count` oldest leave, and are handed back oldest first."""
        dropped = [self._items.pop() for _ in range(len(self._items) - count)][::-1]
        for item in dropped:
            self._forget(item)
        return dropped

    def due(self, limit: int, *, now_s: float, within: int | None) -> Iterator[Slot]:
        """Up to `limit` segments that are due, oldest first, looking at the `within` oldest places only."""
        found = (
            item for item in islice(self._items, within) if isinstance(item, Slot) and is_due(item, now_s)
        )
        return islice(found, max(0, limit))

    def expire_open(self, at_s: float) -> None:
        """Nothing of what is listed can be had for longer."""
        for slot in self.slots:
            slot.expires_s = min(slot.expires_s, at_s)

    def expire_before(self, sequence: int, *, epoch: int, at_s: float) -> None:
        """What is below `sequence` has left the list."""
        current = (item for item in self._items if item.epoch == epoch)
        for item in takewhile(lambda item: item.from_sequence < sequence, current):
            if isinstance(item, Slot):
                item.expires_s = min(item.expires_s, at_s)

    def give_up_parked(self) -> None:
        """No other variant will bring what this one lacks."""
        for slot in self.slots:
            if slot.progress is Progress.PARKED:
                slot.progress = Progress.LOST

    def _tried(self) -> Iterator[Slot]:
        """Slots up to the first that was never tried: those after it were not either."""
        for item in self._items:
            if item.progress is Progress.WAITING:
                return
            if isinstance(item, Slot):
                yield item

    def _forget(self, item: Item) -> None:
        self._slots.pop((item.epoch, item.from_sequence), None)


def is_due(slot: Slot, now_s: float) -> bool:
    if slot.progress in (Progress.RETRYING, Progress.PARKED):
        return slot.retry_at_s <= now_s
    return slot.progress is Progress.WAITING


def leading_losses(queue: Iterable[Item]) -> tuple[Item, ...]:
    """The losses at the head that are one gap: same epoch, same cause."""
    head = next(iter(queue))
    mark = (Progress.LOST, head.epoch, head.cause)
    return tuple(takewhile(lambda item: (item.progress, item.epoch, item.cause) == mark, queue))


def leading_settled(queue: Iterable[Item]) -> tuple[Item, ...]:
    """What another variant need not bring any more."""
    return tuple(takewhile(_is_kept, queue))


def _is_kept(item: Item) -> bool:
    return item.progress in SETTLED and not (isinstance(item, Slot) and item.is_unsure)

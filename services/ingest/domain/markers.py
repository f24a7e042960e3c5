"""What date ranges tell beside the picture: each becomes a signal once, as soon as its moment is archived.

Which ranges are advertising is handed on; where a signal lies in media time follows from the segment around it.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from ingest.domain.actions import SignalKind, SignalSeen
from ingest.domain.ads import Ads
from ingest.domain.date_ranges import DateRange, client_text, parse_date_range, timed_metadata
from ingest.domain.timeline import PlacedSegment

_REMEMBERED: Final = 4096
_WAITING: Final = 512
_MICROSECOND: Final = timedelta(microseconds=1)
_Key = TypeVar("_Key")


@dataclass(frozen=True, kw_only=True)
class _Note:
    found: DateRange
    kind: SignalKind
    text: str


class Markers:
    """Remembers which ranges were told, and which wait for their media; both are bounded."""

    def __init__(self) -> None:
        self._lines: OrderedDict[int, None] = OrderedDict()
        self._told: OrderedDict[tuple[str, datetime], None] = OrderedDict()
        self._waiting: list[_Note] = []

    def see(self, lines: tuple[str, ...], *, ads: Ads) -> Ads:
        """Take in the date ranges of a reload; those that were read before cost nothing."""
        for line in lines:
            if _remember(self._lines, hash(line)):
                found = parse_date_range(line)
                if found is not None:
                    ads = ads.with_range(found)
                    self._note(found)
        return ads

    def due(self, placed: PlacedSegment) -> tuple[SignalSeen, ...]:
        """The signals that lie in or before this segment, or that there is no room to wait for."""
        if not self._waiting or placed.wall_at is None:
            return ()
        end_at = placed.wall_at + timedelta(microseconds=placed.duration_us)
        beyond = len(self._waiting) - _WAITING
        due = [n < beyond or each.found.start_at < end_at for n, each in enumerate(self._waiting)]
        told = [each for each, is_due in zip(self._waiting, due, strict=True) if is_due]
        self._waiting = [each for each, is_due in zip(self._waiting, due, strict=True) if not is_due]
        return tuple(_signal(each, wall_at=placed.wall_at, at_us=placed.start_us) for each in told)

    def rest(self, *, wall_end_at: datetime | None, end_us: int) -> tuple[SignalSeen, ...]:
        """What still waits when a stream ends, placed as if it had gone on."""
        waiting, self._waiting = self._waiting, []
        return tuple(_signal(each, wall_at=wall_end_at, at_us=end_us) for each in waiting)

    def _note(self, found: DateRange) -> None:
        metadata = timed_metadata(found)
        text = client_text(found) if metadata is None else metadata
        if (metadata is None and found.is_ad) or not text or not _remember(self._told, _name(found)):
            return
        kind = SignalKind.CUSTOM if metadata is None else SignalKind.METADATA
        self._waiting.append(_Note(found=found, kind=kind, text=text))


def _signal(note: _Note, *, wall_at: datetime | None, at_us: int) -> SignalSeen:
    """Before the stream's first segment there is no media time, only the wall clock."""
    found = note.found
    place_us = None if wall_at is None else at_us + round((found.start_at - wall_at) / _MICROSECOND)
    return SignalSeen(
        kind=note.kind,
        external_id=found.id,
        text=note.text,
        at_us=None if place_us is None or place_us < 0 else place_us,
        wall_at=found.start_at,
        duration_us=found.length_us or 0,
    )


def _name(found: DateRange) -> tuple[str, datetime]:
    return found.id, found.start_at


def _remember(known: "OrderedDict[_Key, None]", key: _Key) -> bool:
    """Answers whether it is new."""
    if key in known:
        known.move_to_end(key)
        return False
    known[key] = None
    if len(known) > _REMEMBERED:
        known.popitem(last=False)
    return True

"""Which segments are advertising or a slate: a fold over the segments in their order, and over the date ranges seen.

Such segments are archived like all others and stand in no analysis window. Nothing here knows windows or events.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from ingest.domain.cues import Cue, CueKind
from ingest.domain.date_ranges import DateRange

LONGEST_BREAK_US: Final = 600_000_000  # of a break whose length nobody told
_KEPT_RANGES: Final = 16
_DETAIL_LENGTH: Final = 120
_CUE_DETAIL: Final = "cue-out"


class ExclusionKind(StrEnum):
    """What a stretch is instead of programme."""

    AD = "ad"
    SLATE = "slate"


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """Why a segment stands in no window; `detail` names the marker."""

    kind: ExclusionKind
    detail: str


@dataclass(frozen=True, kw_only=True)
class AdRange:
    """A date range that is no programme."""

    id: str
    start_at: datetime
    end_at: datetime
    is_open: bool
    exclusion: Exclusion


@dataclass(frozen=True, kw_only=True)
class Ads:
    """What is known of breaks: the one that cue tags opened, which ends at `cue_end_us`, and the date ranges."""

    cue_end_us: int | None = None
    ranges: tuple[AdRange, ...] = ()

    def with_range(self, found: DateRange) -> "Ads":
        """A range was listed, or listed anew with what it lacked before."""
        if found.is_in and not found.is_out:
            return self._closed(found)
        length_us = found.replaced_us if found.is_interstitial else found.length_us
        if not found.is_ad or length_us == 0 or (found.is_interstitial and length_us is None):
            return self
        others = tuple(each for each in self.ranges if each.id != found.id)
        return replace(self, ranges=(*others, _ad_range(found, length_us))[-_KEPT_RANGES:])

    def after_cues(self, cues: tuple[Cue, ...], *, start_us: int, duration_us: int) -> "Ads":
        """The tags before a segment that begins at `start_us`; a break is over at the latest when its time is."""
        end_us = self.cue_end_us
        for cue in cues:
            end_us = _cue_end_us(cue, end_us, start_us=start_us)
        if end_us is not None and start_us + duration_us // 2 >= end_us:
            end_us = None
        return self if end_us == self.cue_end_us else replace(self, cue_end_us=end_us)

    def exclusion(self, *, wall_at: datetime | None, duration_us: int) -> Exclusion | None:
        """What the segment is, by its middle, after `after_cues` has seen its tags."""
        if self.cue_end_us is not None:
            return Exclusion(kind=ExclusionKind.AD, detail=_CUE_DETAIL)
        if wall_at is None or not self.ranges:
            return None
        middle = wall_at + timedelta(microseconds=duration_us // 2)
        return next((each.exclusion for each in self.ranges if each.start_at <= middle < each.end_at), None)

    def since(self, wall_at: datetime | None) -> "Ads":
        """Without the ranges that are over for good."""
        if wall_at is None or all(each.end_at > wall_at for each in self.ranges):
            return self
        return replace(self, ranges=tuple(each for each in self.ranges if each.end_at > wall_at))

    def _closed(self, found: DateRange) -> "Ads":
        """The way back: it ends the range of its id, else the open ones."""
        ids = {each.id for each in self.ranges if each.id == found.id} or {
            each.id for each in self.ranges if each.is_open
        }
        end_at = found.end_at or found.start_at
        closed = tuple(
            replace(each, end_at=min(each.end_at, end_at), is_open=False) if each.id in ids else each
            for each in self.ranges
        )
        return replace(self, ranges=closed)

    def to_json(self) -> dict[str, Any]:
        """Primitives only; `from_json` reads them back."""
        return {"cue_end_us": self.cue_end_us, "ranges": [_row(each) for each in self.ranges]}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Ads":
        """Inverse of `to_json`."""
        return cls(cue_end_us=document["cue_end_us"], ranges=tuple(map(_range, document["ranges"])))


def _cue_end_us(cue: Cue, end_us: int | None, *, start_us: int) -> int | None:
    if cue.kind is CueKind.IN:
        return None
    if cue.left_us is not None:
        return start_us + cue.left_us
    if cue.kind is CueKind.CONTINUED and end_us is not None:
        return end_us
    return start_us + LONGEST_BREAK_US


def _ad_range(found: DateRange, length_us: int | None) -> AdRange:
    name = f"{found.class_name} {found.id}".strip() if found.class_name else found.id
    kind = ExclusionKind.SLATE if "slate" in name.lower() else ExclusionKind.AD
    length = timedelta(microseconds=LONGEST_BREAK_US if length_us is None else length_us)
    return AdRange(
        id=found.id,
        start_at=found.start_at,
        end_at=found.start_at + length,
        is_open=length_us is None,
        exclusion=Exclusion(kind=kind, detail=name[:_DETAIL_LENGTH]),
    )


def _row(each: AdRange) -> list[Any]:
    dates = [each.start_at.isoformat(), each.end_at.isoformat()]
    return [each.id, *dates, each.is_open, str(each.exclusion.kind), each.exclusion.detail]


def _range(row: list[Any]) -> AdRange:
    name, start, end, is_open, kind, detail = row
    return AdRange(
        id=name,
        start_at=datetime.fromisoformat(start),
        end_at=datetime.fromisoformat(end),
        is_open=is_open,
        exclusion=Exclusion(kind=ExclusionKind(kind), detail=detail),
    )

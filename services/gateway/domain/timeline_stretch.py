"""Archived media as stretches that play without a break, read off the segments of analysis windows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from shared.events import SegmentRef

TILE_US: Final = (
    50_000  # segments are placed by presentation times: less than two pictures between them is no hole
)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Media in `[from_us, to_us)` of one epoch. `breaks`: timestamps or encoding change right before it.

    `wall_at` and `wall_end_at` are the source's own clock at its two ends, where the source tells it.
    """

    from_us: int
    to_us: int
    epoch: int
    breaks: bool = False
    wall_at: datetime | None = None
    wall_end_at: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """Primitives only; `from_json` reads them back."""
        return {
            "from_us": self.from_us,
            "to_us": self.to_us,
            "epoch": self.epoch,
            "breaks": self.breaks,
            "wall_at": self.wall_at.isoformat() if self.wall_at else None,
            "wall_end_at": self.wall_end_at.isoformat() if self.wall_end_at else None,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Stretch":
        """Inverse of `to_json`."""
        walls = {name: stored.get(name) for name in ("wall_at", "wall_end_at")}
        return cls(
            from_us=stored["from_us"],
            to_us=stored["to_us"],
            epoch=stored["epoch"],
            breaks=stored["breaks"],
            **{name: datetime.fromisoformat(at) if at else None for name, at in walls.items()},
        )


def stretches_of(segments: Iterable[SegmentRef]) -> tuple[Stretch, ...]:
    """The stretches that the segments of one window make, in order of time."""
    ordered = sorted(segments, key=lambda segment: (segment.start_us, segment.epoch, segment.sequence))
    return joined(map(_of_segment, ordered))


def joined(stretches: Iterable[Stretch]) -> tuple[Stretch, ...]:
    """Stretches that overlap or touch without a break, as one each; overlapping windows bring the same media twice."""
    found: dict[int, list[Stretch]] = {}
    for stretch in sorted(stretches, key=lambda each: (each.from_us, each.epoch)):
        of_epoch = found.setdefault(stretch.epoch, [])
        if of_epoch and _continues(of_epoch[-1], stretch):
            of_epoch[-1] = _longer(of_epoch[-1], stretch)
        else:
            of_epoch.append(stretch)
    every = (stretch for of_epoch in found.values() for stretch in of_epoch)
    return tuple(sorted(every, key=lambda each: (each.from_us, each.epoch)))


def _of_segment(segment: SegmentRef) -> Stretch:
    length = timedelta(microseconds=segment.duration_us)
    return Stretch(
        from_us=segment.start_us,
        to_us=segment.start_us + segment.duration_us,
        epoch=segment.epoch,
        breaks=segment.discontinuity,
        wall_at=segment.wall_at,
        wall_end_at=segment.wall_at + length if segment.wall_at else None,
    )


def _continues(before: Stretch, after: Stretch) -> bool:
    """The same break seen again, at the start of the same stretch, is none in its middle."""
    is_new_break = after.breaks and after.from_us > before.from_us
    return after.from_us <= before.to_us + TILE_US and not is_new_break


def _longer(before: Stretch, after: Stretch) -> Stretch:
    if after.to_us <= before.to_us:
        return before
    return replace(before, to_us=after.to_us, wall_end_at=after.wall_end_at)

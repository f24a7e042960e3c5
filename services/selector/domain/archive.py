"""The archived media that the selector still has to know: segment references, snap points, unbroken stretches.

Holes are read off the segments themselves, so that they do not depend on when a gap was reported.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from shared.events import Part, SegmentRef


@dataclass(frozen=True)
class Stretch:
    """Media without a hole or a discontinuity. `open_ended`: it is the newest and may still grow."""

    start_us: int
    end_us: int
    open_ended: bool


ROUNDING_US = (
    50_000  # segments are placed by presentation times; less than two pictures between them is no hole
)


class Archive(Part):
    """Segments by start time, each once, and snap points by time."""

    segments: tuple[SegmentRef, ...] = ()
    snap_points_us: tuple[int, ...] = ()

    def with_segments(self, segments: tuple[SegmentRef, ...]) -> "Archive":
        """Overlapping windows bring the same segment twice; (epoch, sequence) tells."""
        known = {(segment.epoch, segment.sequence): segment for segment in (*segments, *self.segments)}
        ordered = sorted(known.values(), key=lambda each: (each.start_us, each.epoch, each.sequence))
        return self.model_copy(update={"segments": tuple(ordered)})

    def with_snap_points(self, points_us: tuple[int, ...]) -> "Archive":
        return self.model_copy(update={"snap_points_us": tuple(sorted({*self.snap_points_us, *points_us}))})

    def without_before(self, horizon_us: int) -> "Archive":
        """Forget what ended before the horizon."""
        return Archive(
            segments=tuple(each for each in self.segments if _end_us(each) > horizon_us),
            snap_points_us=tuple(point for point in self.snap_points_us if point >= horizon_us),
        )

    def stretch_of(self, *, start_us: int, end_us: int, peak_us: int) -> Stretch | None:
        """The stretch that holds the peak; on a border the one that holds more of the span. None in a hole."""
        holding = [each for each in self.stretches() if each.start_us <= peak_us <= each.end_us]
        return max(
            holding,
            key=lambda each: min(each.end_us, end_us) - max(each.start_us, start_us),
            default=None,
        )

    def stretches(self) -> tuple[Stretch, ...]:
        """Unbroken stretches in order of time."""
        bounds = tuple(self._bounds())
        return tuple(
            Stretch(start_us, end_us, open_ended=position == len(bounds) - 1)
            for position, (start_us, end_us) in enumerate(bounds)
        )

    def covering(self, start_us: int, end_us: int) -> tuple[SegmentRef, ...]:
        """The segments that share media with [start, end)."""
        return tuple(each for each in self.segments if each.start_us < end_us and _end_us(each) > start_us)

    def _bounds(self) -> Iterator[tuple[int, int]]:
        start_us = end_us = -1
        epoch = -1
        for segment in self.segments:
            broken = (
                segment.discontinuity or segment.epoch != epoch or segment.start_us > end_us + ROUNDING_US
            )
            if broken and end_us >= 0:
                yield start_us, end_us
            if broken:
                start_us, end_us, epoch = segment.start_us, segment.start_us, segment.epoch
            end_us = max(end_us, _end_us(segment))
        if end_us >= 0:
            yield start_us, end_us


def _end_us(segment: SegmentRef) -> int:
    return segment.start_us + segment.duration_us

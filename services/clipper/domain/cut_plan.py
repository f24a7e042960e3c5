"""Which archived segments a clip needs, and which part of each unbroken run of them it shows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from shared.errors import PermanentError
from shared.events import SegmentRef

CONTIGUITY_TOLERANCE_US = 250_000
"""Playlists round durations; a larger step between two segments is a hole."""


class NothingToCut(PermanentError):
    """The archive holds no media between the highlight's edges."""

    code: ClassVar[str] = "clip_without_media"


@dataclass(frozen=True, slots=True)
class Run:
    """Segments that decode as one when joined byte by byte, and the span [from_us, to_us) shown of them.

    `from_us` and `to_us` are on the stream's clock. The first segment may be there only to start decoding early:
    pictures at the start of a segment may refer to the one before (open GOP).
    """

    segments: tuple[SegmentRef, ...]
    from_us: int
    to_us: int

    @property
    def origin_us(self) -> int:
        """Where the joined file begins on the stream's clock."""
        return self.segments[0].start_us


def plan_cut(segments: Sequence[SegmentRef], *, start_us: int, end_us: int) -> tuple[Run, ...]:
    """The runs that make up [start_us, end_us), in order; holes between them are left out.

    Raises NothingToCut when no segment lies there.
    """
    ordered = sorted(set(segments), key=lambda segment: (segment.start_us, segment.epoch, segment.sequence))
    runs = tuple(
        run
        for group in split_contiguous(ordered)
        if (run := _run_within(group, start_us, end_us)) is not None
    )
    if not runs:
        raise NothingToCut(f"no segment between {start_us} us and {end_us} us")
    return runs


def split_contiguous(segments: Sequence[SegmentRef]) -> Iterator[tuple[SegmentRef, ...]]:
    """Groups of neighbours without a discontinuity, a change of epoch or format, or a hole between them."""
    group: list[SegmentRef] = []
    for segment in segments:
        if group and not _continues(group[-1], segment):
            yield tuple(group)
            group = []
        group.append(segment)
    if group:
        yield tuple(group)


def _continues(before: SegmentRef, after: SegmentRef) -> bool:
    same_format = (before.container, before.init_key) == (after.container, after.init_key)
    step_us = after.start_us - (before.start_us + before.duration_us)
    return (
        same_format
        and not after.discontinuity
        and before.epoch == after.epoch
        and abs(step_us) <= CONTIGUITY_TOLERANCE_US
    )


def _run_within(group: tuple[SegmentRef, ...], start_us: int, end_us: int) -> Run | None:
    needed = [at for at, segment in enumerate(group) if _overlaps(segment, start_us, end_us)]
    if not needed:
        return None
    first, last = max(0, needed[0] - 1), needed[-1]
    return Run(
        segments=group[first : last + 1],
        from_us=max(start_us, group[needed[0]].start_us),
        to_us=min(end_us, group[last].start_us + group[last].duration_us),
    )


def _overlaps(segment: SegmentRef, start_us: int, end_us: int) -> bool:
    return segment.start_us < end_us and segment.start_us + segment.duration_us > start_us

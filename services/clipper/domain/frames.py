"""Which frames of a run belong to a clip, by the presentation times that stand in the media itself."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from shared.errors import PermanentError

US_PER_S = 1_000_000
TOLERANCE_US = 1_000
"""Times pass through ticks of 1/90000 s and playlists of milliseconds: a frame this little early is on time."""


class NoFrames(PermanentError):
    """The run has no picture between the edges."""

    code: ClassVar[str] = "clip_without_frames"


@dataclass(frozen=True, slots=True)
class FrameTable:
    """Presentation times of a run's pictures in ticks of `tick_s` seconds, as decoders will see them.

    `first_pts` is the earliest in the file, also of a picture that cannot be decoded (open GOP): the run's origin on
    the stream's clock belongs to it. `pts` ascends. `last_duration` is how long the last picture stands.
    """

    tick_s: Fraction
    first_pts: int
    pts: tuple[int, ...]
    last_duration: int

    def media_us(self, pts: int, *, origin_us: int) -> int:
        """The tick on the stream's clock."""
        return origin_us + round((pts - self.first_pts) * self.tick_s * US_PER_S)

    def seconds(self, pts: int) -> Fraction:
        """The tick in seconds of the file's own clock."""
        return pts * self.tick_s


@dataclass(frozen=True, slots=True)
class FrameSpan:
    """The pictures of one run that a clip shows: ticks [start_pts, end_pts), and their times on two clocks.

    `start_us` is the first picture's time on the stream's clock, `offsets_us` each picture's time from the first,
    `length_us` how long all of them stand.
    """

    start_pts: int
    end_pts: int
    start_us: int
    length_us: int
    offsets_us: tuple[int, ...]


def select_frames(table: FrameTable, *, origin_us: int, from_us: int, to_us: int) -> FrameSpan:
    """The pictures whose times lie in [from_us, to_us): the first at or after the one, the last before the other.

    Raises NoFrames when there is none.
    """
    times_us = [table.media_us(pts, origin_us=origin_us) for pts in table.pts]
    first = bisect_left(times_us, from_us - TOLERANCE_US)
    after = bisect_left(times_us, to_us - TOLERANCE_US)
    if first >= after:
        raise NoFrames(f"no picture between {from_us} us and {to_us} us")
    end_pts = table.pts[after] if after < len(table.pts) else table.pts[-1] + table.last_duration
    return FrameSpan(
        start_pts=table.pts[first],
        end_pts=end_pts,
        start_us=times_us[first],
        length_us=table.media_us(end_pts, origin_us=origin_us) - times_us[first],
        offsets_us=tuple(time_us - times_us[first] for time_us in times_us[first:after]),
    )


def frame_shown_at(spans: Sequence[FrameSpan], at_us: int) -> int:
    """Time in the clip (us) of the picture that stands at `at_us` of the stream; the nearest when none does."""
    clip_us = nearest_us = 0
    for span in spans:
        if at_us < span.start_us:
            break
        shown = bisect_right(span.offsets_us, at_us - span.start_us + TOLERANCE_US) - 1
        nearest_us = clip_us + span.offsets_us[shown]
        clip_us += span.length_us
    return nearest_us

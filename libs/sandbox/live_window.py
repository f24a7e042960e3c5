"""What a live HLS playlist shows at a moment: a pure function of the media time that has elapsed.

No clock, no files and no HTTP live here: `sandbox.origin` brings those.
"""

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

US_PER_S = 1_000_000


@dataclass(frozen=True)
class LiveSegment:
    """One media segment of the source: its name, where it starts in the media and how long it lasts."""

    uri: str
    start_us: int
    duration_us: int

    @property
    def end_us(self) -> int:
        """Media time at which the segment is complete."""
        return self.start_us + self.duration_us


@dataclass(frozen=True)
class LiveWindow:
    """A sliding window over `segments` (contiguous, starting at 0) that advances `speed` times real time.

    `window` counts segments at real time; above it the window grows with `speed`, so that it covers the
    same wall time. `head_start_us` of the media is already published at the moment of going live.
    `init_uri` is the init section of fMP4, and empty for MPEG-TS.
    """

    segments: tuple[LiveSegment, ...]
    speed: float = 1.0
    window: int = 5
    head_start_us: int = 0
    endlist: bool = True
    program_date_time: bool = True
    init_uri: str = ""

    def __post_init__(self) -> None:
        if not self.segments:
            raise ValueError("a live window needs at least one segment")
        if self.speed <= 0 or self.window < 1 or self.head_start_us < 0:
            raise ValueError("speed must be above 0, window at least 1, the head start not negative")

    @property
    def size(self) -> int:
        """Number of segments listed at once."""
        return max(self.window, math.ceil(self.window * self.speed))

    @property
    def target_duration_s(self) -> int:
        """EXT-X-TARGETDURATION: the longest segment, rounded to whole seconds (RFC 8216 section 4.3.3.1)."""
        longest_us = max(segment.duration_us for segment in self.segments)
        return max(1, math.floor(longest_us / US_PER_S + 0.5))

    @property
    def length_s(self) -> float:
        """Wall seconds from going live until the last segment is complete."""
        return max(0, self.segments[-1].end_us - self.head_start_us) / US_PER_S / self.speed

    def complete(self, elapsed_s: float) -> int:
        """Return how many segments are complete `elapsed_s` wall seconds after going live."""
        media_us = self.head_start_us + round(max(0.0, elapsed_s) * self.speed * US_PER_S)
        return sum(1 for segment in self.segments if segment.end_us <= media_us)

    def listed(self, elapsed_s: float) -> range:
        """Return the indexes (= media sequence numbers) of the segments in the playlist."""
        complete = self.complete(elapsed_s)
        return range(max(0, complete - self.size), complete)

    def fetchable(self, index: int, *, elapsed_s: float) -> bool:
        """Tell whether a segment can be fetched: while it is listed and one window longer."""
        complete = self.complete(elapsed_s)
        return max(0, complete - 2 * self.size) <= index < complete

    def ended(self, elapsed_s: float) -> bool:
        """Tell whether the last segment is complete."""
        return self.complete(elapsed_s) == len(self.segments)

    def cut(self, elapsed_s: float) -> "LiveWindow":
        """Return this window ended now: what is not complete yet will never come.

        Raises ValueError if nothing is complete yet.
        """
        return replace(self, segments=self.segments[: self.complete(elapsed_s)])

    def date_of(self, media_us: int, *, went_live_at: datetime) -> datetime:
        """Return the wall clock at which `media_us` is captured, as EXT-X-PROGRAM-DATE-TIME tells it."""
        return went_live_at + timedelta(microseconds=round((media_us - self.head_start_us) / self.speed))

    def playlist(self, elapsed_s: float, *, went_live_at: datetime) -> str:
        """Return the media playlist (M3U8 text); without any segment yet it lists none."""
        listed = self.listed(elapsed_s)
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:6",
            "#EXT-X-INDEPENDENT-SEGMENTS",
            f"#EXT-X-TARGETDURATION:{self.target_duration_s}",
            f"#EXT-X-MEDIA-SEQUENCE:{listed.start}",
        ]
        if self.init_uri:
            lines.append(f'#EXT-X-MAP:URI="{self.init_uri}"')
        for index in listed:
            lines += self._entry(self.segments[index], went_live_at=went_live_at)
        if self.endlist and self.ended(elapsed_s):
            lines.append("#EXT-X-ENDLIST")
        return "\n".join(lines) + "\n"

    def _entry(self, segment: LiveSegment, *, went_live_at: datetime) -> list[str]:
        lines = [f"#EXTINF:{segment.duration_us / US_PER_S:.6f},", segment.uri]
        if not self.program_date_time:
            return lines
        date = self.date_of(segment.start_us, went_live_at=went_live_at)
        return [f"#EXT-X-PROGRAM-DATE-TIME:{date.isoformat(timespec='milliseconds')}", *lines]


@dataclass(frozen=True)
class Variant:
    """One rendition as a master playlist names it, with bit rates in bits per second."""

    uri: str
    width: int
    height: int
    frame_rate: float
    peak_bps: int
    average_bps: int


def master_playlist(variants: tuple[Variant, ...]) -> str:
    """Return the master playlist (M3U8 text) over `variants`, best first, in the form that 100ms uses."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:6", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for variant in variants:
        lines.append(
            f"#EXT-X-STREAM-INF:RESOLUTION={variant.width}x{variant.height},BANDWIDTH={variant.peak_bps},"
            f"AVERAGE-BANDWIDTH={variant.average_bps},FRAME-RATE={variant.frame_rate:.3f}"
        )
        lines.append(variant.uri)
    return "\n".join(lines) + "\n"

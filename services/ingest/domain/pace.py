"""When to look for the next segment: learned from when the last ones appeared, not from TARGETDURATION alone.

Between two polls we know an interval in which a segment appeared; polling in its middle halves it each time.
So the lag shrinks to a tenth of a segment at one to two polls per segment, whatever the speed of the source.
"""

from dataclasses import dataclass, replace
from typing import Final

from ingest.domain.policy import TrackerPolicy

_KEPT_ARRIVALS: Final = 12
_SLOWEST: Final = 1.0  # wall seconds per media second: never slower than the playlist itself promises
_FASTEST: Final = 1 / 64
_FIRST_STEP: Final = 0.1
_DRIFT: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What was observed: `arrivals` (poll before, wall time, media seconds so far), and when the newest appeared.

    It appeared between `low_s` and `high_s`; `polled_s` is the last time that nothing newer was listed.
    """

    arrivals: tuple[tuple[float, float, float], ...] = ()
    segment_s: float = 0.0
    low_s: float = 0.0
    high_s: float = 0.0
    polled_s: float = 0.0
    misses: int = 0

    @property
    def wall_per_media(self) -> float:
        """Wall seconds in which the source brings one second of media, at most 1; and 1 unless that cannot be."""
        if len(self.arrivals) < 2:
            return _SLOWEST
        before_first_s, first_s, first_media_s = self.arrivals[0]
        _, last_s, last_media_s = self.arrivals[-1]
        media_s = max(last_media_s - first_media_s, 1e-6)
        if last_s - before_first_s >= _SLOWEST * media_s:
            return _SLOWEST
        return min(_SLOWEST, max(_FASTEST, (last_s - first_s) / media_s))

    @property
    def interval_s(self) -> float:
        """Wall seconds from one segment to the next."""
        return self.segment_s * self.wall_per_media


def advance(pace: Pace, *, media_s: float, segment_s: float, now_s: float) -> Pace:
    """New segments of `media_s` in all were listed at `now_s`; `segment_s` is their mean length."""
    if not pace.arrivals:
        start = segment_s * _SLOWEST
        return Pace(
            arrivals=((now_s - start, now_s, 0.0),),
            segment_s=segment_s,
            low_s=now_s - start,
            high_s=now_s,
            polled_s=now_s,
        )
    arrivals = (*pace.arrivals, (pace.polled_s, now_s, pace.arrivals[-1][2] + media_s))[-_KEPT_ARRIVALS:]
    learned = replace(pace, arrivals=arrivals, segment_s=segment_s)
    step_s, slack_s = media_s * learned.wall_per_media, _DRIFT * learned.interval_s
    low_s = max(pace.polled_s, pace.low_s + step_s - slack_s)
    high_s = min(now_s, pace.high_s + step_s + slack_s)
    if low_s >= high_s:
        low_s, high_s = min(pace.polled_s, now_s), now_s
    return replace(learned, low_s=low_s, high_s=high_s, polled_s=now_s, misses=0)


def miss(pace: Pace, *, now_s: float) -> Pace:
    """Nothing new was listed at `now_s`."""
    return replace(pace, polled_s=now_s, misses=pace.misses + 1)


def next_poll_s(pace: Pace, *, policy: TrackerPolicy, now_s: float) -> float:
    """Wall time of the next poll: at the expected appearance, after that in growing steps."""
    interval_s = pace.interval_s
    due_s = _expected_s(pace, interval_s=interval_s, floor_s=policy.reload_floor_s)
    if due_s < now_s + policy.reload_floor_s:
        due_s = now_s + _step_s(pace.misses, interval_s=interval_s, policy=policy)
    return min(due_s, now_s + policy.reload_ceiling_s)


def _expected_s(pace: Pace, *, interval_s: float, floor_s: float) -> float:
    width_s = pace.high_s - pace.low_s
    is_known = width_s <= max(_FIRST_STEP * interval_s, floor_s)
    return pace.high_s + interval_s - (0.0 if is_known or pace.misses else width_s / 2)


def _step_s(misses: int, *, interval_s: float, policy: TrackerPolicy) -> float:
    """A tenth of the interval, doubling up to half of it (RFC 8216, 6.3.4: half when unchanged)."""
    longest_s = max(interval_s / 2, 5 * policy.reload_floor_s)
    return min(longest_s, max(policy.reload_floor_s, _FIRST_STEP * interval_s) * 2.0 ** min(misses - 1, 10))

"""The times and limits by which the tracker decides, in one frozen place. No decisions live here."""

from dataclasses import dataclass, replace
from typing import Final

_WALL_TIMES: Final = (
    "reload_floor_s",
    "reload_ceiling_s",
    "failure_first_s",
    "failure_ceiling_s",
    "start_patience_s",
    "stall_floor_s",
    "dead_after_s",
    "drain_floor_s",
    "master_interval_s",
    "retry_first_s",
    "retry_ceiling_s",
    "segment_budget_s",
    "variant_patience_s",
    "variant_interval_s",
    "variant_rest_s",
)


@dataclass(frozen=True, kw_only=True)
class TrackerPolicy:
    """All times are wall seconds; `*_targets` are multiples of the playlist's target duration."""

    reload_floor_s: float = 0.1
    reload_ceiling_s: float = 5.0
    failure_first_s: float = 0.5
    failure_ceiling_s: float = 4.0
    start_patience_s: float = 60.0
    stall_floor_s: float = 10.0
    stall_targets: float = 3.0
    dead_after_s: float = 600.0
    drain_floor_s: float = 15.0
    drain_targets: float = 3.0
    stale_targets: float = 3.0
    reset_reloads: int = 2
    longest_gap_s: float = (
        43_200.0  # media seconds: a session lasts 12 h at most, so a longer jump is a reset
    )
    master_interval_s: float = 2.0
    retry_first_s: float = 0.25
    retry_ceiling_s: float = 4.0
    segment_budget_s: float = 60.0
    not_found_targets: float = 2.0
    settled_attempts: int = 2
    overlap_segments: int = 8
    variant_attempts: int = 3
    variant_playlist_failures: int = 3
    variant_patience_s: float = 8.0
    variant_interval_s: float = 3.0
    variant_rest_s: float = 30.0

    def waiting(self, start_s: float) -> "TrackerPolicy":
        """The same, for a source that may not be there for so long from now on."""
        return replace(self, start_patience_s=max(self.start_patience_s, start_s))

    def scaled(self, *, speed: float) -> "TrackerPolicy":
        """The same patience for a source that runs `speed` times as fast as real time."""
        return replace(self, **{name: getattr(self, name) / speed for name in _WALL_TIMES})

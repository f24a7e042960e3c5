"""When to load the playlist again: by its learned pace where there is one, else by its target duration.

Pure: each method answers with the schedule that follows. How a pace is learned stands in `pace`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ingest.domain.pace import Pace, advance, miss, next_poll_s
from ingest.domain.playlist import MICROSECONDS, MediaPlaylist, Segment
from ingest.domain.policy import TrackerPolicy
from ingest.domain.reloads import Reload

_PACED_SEGMENTS: Final = 5
_FIRST_TARGET_US: Final = 2 * MICROSECONDS


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The next poll at `poll_at_s`, and what it is derived from."""

    poll_at_s: float
    pace: Pace = field(default_factory=Pace)
    target_us: int = _FIRST_TARGET_US

    @property
    def target_s(self) -> float:
        """Media seconds."""
        return self.target_us / MICROSECONDS

    @property
    def target_wall_s(self) -> float:
        """Wall seconds in which the source brings one target duration of media."""
        return self.target_s * self.pace.wall_per_media

    def window_wall_s(self, playlist: MediaPlaylist) -> float:
        """Wall seconds in which all that is listed leaves the window."""
        return (playlist.listed_count + 1) * self.target_wall_s

    def anew(self) -> "Schedule":
        """What is read from now on is another list: its pace is learned afresh."""
        return replace(self, pace=Pace())

    def with_target(self, playlist: MediaPlaylist) -> "Schedule":
        """By the target duration that this playlist states."""
        return self if playlist.target_us == self.target_us else replace(self, target_us=playlist.target_us)

    def with_news(self, fresh: Sequence[Segment], reload: Reload, *, known: Pace) -> "Schedule":
        """Segments appeared, and tell the pace beside what is `known` of it; those of a cut list tell nothing."""
        recent = reload.playlist.segments[-_PACED_SEGMENTS:]
        if not recent or reload.playlist.truncated:
            return self
        pace = advance(
            known,
            media_s=sum(segment.duration_us for segment in fresh) / MICROSECONDS,
            segment_s=sum(segment.duration_us for segment in recent) / len(recent) / MICROSECONDS,
            now_s=reload.now_s,
        )
        return replace(self, pace=pace)

    def without_news(self, reload: Reload) -> "Schedule":
        """The list was unchanged."""
        return replace(self, pace=miss(self.pace, now_s=reload.now_s))

    def after(self, reload: Reload, *, policy: TrackerPolicy) -> "Schedule":
        """The poll after an accepted playlist; a server that blocks until there is news is asked at once."""
        if reload.playlist.blocks_reload:
            return self.at_once(policy=policy, now_s=reload.now_s)
        if reload.playlist.truncated or not self.pace.arrivals:
            return self.soon(policy=policy, now_s=reload.now_s)
        return replace(self, poll_at_s=next_poll_s(self.pace, policy=policy, now_s=reload.now_s))

    def at_once(self, *, policy: TrackerPolicy, now_s: float) -> "Schedule":
        """As soon as is polite."""
        return replace(self, poll_at_s=now_s + policy.reload_floor_s)

    def soon(self, *, policy: TrackerPolicy, now_s: float) -> "Schedule":
        """Half a target, as after an unchanged playlist: what was read says nothing about the pace."""
        pause_s = max(policy.reload_floor_s, self.target_wall_s / 2)
        return replace(self, poll_at_s=now_s + min(policy.reload_ceiling_s, pause_s))

    def after_failures(self, count: int, *, policy: TrackerPolicy, now_s: float) -> "Schedule":
        """In growing steps."""
        pause_s = policy.failure_first_s * 2.0 ** min(count - 1, 10)
        return replace(self, poll_at_s=now_s + min(policy.failure_ceiling_s, pause_s))

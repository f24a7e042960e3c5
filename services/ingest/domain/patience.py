"""How long a silent source is waited for: at the start, in a stall, until it counts as dead, and while it drains.

Pure: what happened in, the verdict of the moment out.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from ingest.domain.actions import Cursor, EndCause
from ingest.domain.policy import TrackerPolicy
from ingest.domain.queue import NEVER


class Phase(StrEnum):
    """Where the tracker stands; FINISHING reads no more playlists and settles what is open."""

    JOINING = "joining"
    FOLLOWING = "following"
    STALLED = "stalled"
    FINISHING = "finishing"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True)
class Stall:
    """Nothing new for long; it is still waited for."""

    cause: str


@dataclass(frozen=True, kw_only=True)
class Finish:
    """Patience is over; where `is_end_gone`, what the list named before a crash cannot be had any more."""

    cause: EndCause
    detail: str = ""
    is_end_gone: bool = False


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Since when, and through how many failures in a row, the source has been silent."""

    started_s: float
    news_s: float
    was_reached: bool = False
    failures: int = 0
    last_failure: str = ""
    drain_until_s: float = NEVER

    def reached(self) -> "Patience":
        """A playlist was read, whatever it says."""
        if self.was_reached and not self.failures:
            return self
        return replace(self, was_reached=True, failures=0, last_failure="")

    def failed(self, label: str) -> "Patience":
        """The playlist could not be read."""
        return replace(self, failures=self.failures + 1, last_failure=label)

    def with_news(self, now_s: float) -> "Patience":
        """New media was listed."""
        return replace(self, news_s=now_s)

    def draining(self, *, target_s: float, policy: TrackerPolicy, now_s: float) -> "Patience":
        """The source says that it stopped; saying it twice changes nothing."""
        if self.drain_until_s < NEVER:
            return self
        return replace(self, drain_until_s=now_s + max(policy.drain_floor_s, policy.drain_targets * target_s))

    def verdict(
        self, phase: Phase, *, knows_end: bool, target_s: float, policy: TrackerPolicy, now_s: float
    ) -> Stall | Finish | None:
        """None: it is waited on. `knows_end`: ENDLIST was seen, maybe before a crash."""
        if now_s >= self.drain_until_s:
            return Finish(cause=EndCause.STOPPED)
        if phase is Phase.JOINING:
            return self._at_start(policy, now_s)
        if knows_end and not self.was_reached:
            return self._at_lost_end(policy, now_s)
        silent_s = now_s - self.news_s
        if phase is Phase.STALLED and silent_s >= policy.dead_after_s:
            return Finish(cause=EndCause.SOURCE_DEAD, detail=self.last_failure)
        if phase is Phase.FOLLOWING and silent_s >= max(
            policy.stall_floor_s, policy.stall_targets * target_s
        ):
            return Stall(cause=self.last_failure or "unchanged")
        return None

    def _at_start(self, policy: TrackerPolicy, now_s: float) -> Finish | None:
        """A playlist that was never there is given up soon, one that lists nothing like a dead source."""
        waited_s = now_s - self.started_s
        if self.was_reached and waited_s >= policy.dead_after_s:
            return Finish(cause=EndCause.SOURCE_DEAD, detail=self.last_failure or "empty playlist")
        if not self.was_reached and waited_s >= policy.start_patience_s:
            return Finish(cause=EndCause.SOURCE_UNREACHABLE, detail=self.last_failure)
        return None

    def _at_lost_end(self, policy: TrackerPolicy, now_s: float) -> Finish | None:
        """The source had ended before a crash and may be gone: what was listed and not stored is then lost."""
        if now_s - self.started_s < policy.start_patience_s:
            return None
        return Finish(cause=EndCause.ENDLIST, detail=self.last_failure, is_end_gone=True)


def first_phase(cursor: Cursor) -> Phase:
    """Where a former owner stood."""
    if cursor.ended:
        return Phase.ENDED
    if not cursor.joined:
        return Phase.JOINING
    return Phase.STALLED if cursor.stalled else Phase.FOLLOWING

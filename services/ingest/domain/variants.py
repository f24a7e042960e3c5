"""Which rendition is followed, and when the next best one is asked for.

What is taken over from another rendition is decided in `switching`; whether there is one is known to the caller.
"""

from typing import Final

from ingest.domain.actions import LossCause, UseOtherVariant
from ingest.domain.history import Known
from ingest.domain.playlist import MediaPlaylist
from ingest.domain.policy import TrackerPolicy
from ingest.domain.queue import NEVER, Progress, Slot
from ingest.domain.retry import GiveUp, Verdict

# What another rendition may have although this one has not; a silent network is no matter of the rendition.
_OF_THE_VARIANT: Final = frozenset(
    {
        LossCause.NOT_FOUND,
        LossCause.DENIED,
        LossCause.SERVER_ERROR,
        LossCause.CORRUPT,
        LossCause.REJECTED,
        LossCause.SOURCE_GAP,
    }
)


class Variants:
    """The rendition in use by its `name` ("" where there is only one), and the pauses between two questions."""

    def __init__(self, policy: TrackerPolicy, *, name: str) -> None:
        self.name = name
        self.is_between = False
        self.read_from = 0
        self._policy = policy
        self._is_seen = self._has_others = False
        self._asked_s = self._rest_until_s = -NEVER

    def see(self, playlist: MediaPlaylist) -> None:
        """Before the first playlist was read there may be others."""
        self._is_seen, self._has_others = True, playlist.has_other_variants

    def is_other(self, playlist: MediaPlaylist, *, known: Known, is_joining: bool) -> bool:
        """Told by its name, unless the list is the very same: some servers change what they say of a variant."""
        is_named = "" not in (self.name, playlist.variant) and self.name != playlist.variant
        if is_joining or not is_named or (self._asked_s == -NEVER and _is_same_list(playlist, known)):
            self.name = playlist.variant or self.name
            self.is_between, self.read_from = False, 0
            return False
        self.is_between = True
        return True

    def switched_to(self, name: str) -> None:
        """The other rendition is the one in use; away from it may be asked at once."""
        self.name, self.is_between, self._asked_s = name, False, -NEVER
        self.read_from = 0

    def read_on(self, playlist: MediaPlaylist) -> None:
        """Where what was read of its list is old: behind it, if there is more."""
        if playlist.truncated:
            self.read_from = playlist.last_sequence + 1

    def none_left(self, *, now_s: float) -> None:
        """All were tried: no more questions for a while."""
        self._has_others = False
        self._rest_until_s = now_s + self._policy.variant_rest_s

    def ask(self, reason: str, *, now_s: float) -> tuple[UseOtherVariant, ...]:
        """For another rendition, unless there is none or one was asked for just now."""
        is_asked = now_s - self._asked_s < self._policy.variant_interval_s
        if is_asked or not self._may_ask(now_s):
            return ()
        self._asked_s = now_s
        return (UseOtherVariant(reason=reason),)

    def consider(self, slot: Slot, verdict: Verdict, *, now_s: float) -> tuple[UseOtherVariant, ...]:
        """What this variant does not give may be had of another one, and is not lost before that is known."""
        is_hopeless = isinstance(verdict, GiveUp)
        is_broken = slot.attempts >= self._policy.variant_attempts and slot.cause is not LossCause.NOT_FOUND
        is_of_variant = slot.cause in _OF_THE_VARIANT and (is_hopeless or is_broken)
        may_ask = is_of_variant and not slot.asked_variant and self._may_ask(now_s)
        if is_hopeless:
            slot.progress = Progress.PARKED if may_ask else Progress.LOST
            slot.retry_at_s = now_s + self._policy.variant_patience_s
        if not may_ask:
            return ()
        slot.asked_variant = True
        return self.ask(str(slot.cause), now_s=now_s)

    def _may_ask(self, now_s: float) -> bool:
        return (self._has_others or not self._is_seen) and now_s >= self._rest_until_s


def _is_same_list(playlist: MediaPlaylist, known: Known) -> bool:
    shared = [each for each in playlist.segments if each.sequence in known.identities]
    return bool(shared) and all(known.identities[each.sequence] == each.identity for each in shared)

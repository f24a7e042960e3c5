"""The state machine of one followed playlist: reloads, results and time in; fetches and facts in order out.

It never fetches, never sleeps and knows no clock: the caller passes `now_s` (monotonic) and obeys.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice, takewhile
from typing import Final

from ingest.domain.actions import (
    NOTHING_YET,
    Action,
    CommitSegment,
    Cursor,
    EndCause,
    Ended,
    FailureKind,
    FetchFailure,
    FetchSegment,
    Joined,
    LossCause,
    PollAgain,
    ReloadMaster,
    ReloadWithoutDelta,
    Resumed,
    SegmentLost,
    SegmentUnwanted,
    SignalSeen,
    Stalled,
    UseOtherVariant,
)
from ingest.domain.ads import Ads
from ingest.domain.alignment import Alignment, Place, align, seam_us
from ingest.domain.history import (
    Known,
    OlderCopy,
    Relation,
    date_time_end,
    older_copy,
    relate,
    repeated_count,
)
from ingest.domain.markers import Markers
from ingest.domain.pace import Pace, advance, miss, next_poll_s
from ingest.domain.playlist import MICROSECONDS, MediaPlaylist, Segment
from ingest.domain.policy import TrackerPolicy
from ingest.domain.queue import (
    NEVER,
    SETTLED,
    Hole,
    Item,
    Progress,
    Slot,
    is_due,
    leading_losses,
    leading_settled,
)
from ingest.domain.retry import AskMaster, Attempts, GiveUp, Verdict, judge, loss_cause
from ingest.domain.timeline import Break, MeasuredSegment, place_gap, place_segment

_NEWEST_SEGMENTS: Final = 2
_PACED_SEGMENTS: Final = 5
_FIRST_TARGET_US: Final = 2 * MICROSECONDS
_LOST_ADDRESS: Final = frozenset({401, 403, 404, 410})
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
_NO_SEQUENCE: Final = 2**63  # above all that a playlist can state


class Phase(StrEnum):
    """Where the tracker stands; FINISHING reads no more playlists and settles what is open."""

    JOINING = "joining"
    FOLLOWING = "following"
    STALLED = "stalled"
    FINISHING = "finishing"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True)
class _Reload:
    """One playlist with the time and wall clock at which it came."""

    playlist: MediaPlaylist
    now_s: float
    wall_at: datetime | None


class PlaylistTracker:
    """Follows one media playlist from `cursor` on; see the module for what it does not do.

    Every call returns the actions that follow from it, in the order in which they must be committed.
    """

    def __init__(self, policy: TrackerPolicy, *, now_s: float, cursor: Cursor | None = None) -> None:
        self._policy = policy
        self._cursor = cursor or Cursor()
        self._phase = _first_phase(self._cursor)
        self._epoch = self._cursor.epoch
        self._known = _known_at(self._cursor)
        self._endlist_sequence = self._cursor.endlist_sequence
        self._queue: deque[Item] = deque()
        self._slots: dict[tuple[int, int], Slot] = {}
        self._pace = Pace()
        self._target_us = _FIRST_TARGET_US
        self._started_s = self._news_s = self._poll_at_s = now_s
        self._was_reached = False
        self._drain_until_s = NEVER
        self._is_offline = False
        self._suspicions = 0
        self._suspect_newest = _NO_SEQUENCE
        self._older_copy: OlderCopy | None = None
        self._failures = 0
        self._last_failure = ""
        self._master_asked_s = -NEVER
        self._end: tuple[EndCause, str] = (EndCause.ENDLIST, "")
        self._markers = Markers()
        self._variant = self._cursor.variant
        self._has_others = False
        self._variant_asked_s = self._variant_rest_until_s = -NEVER
        self._is_at_seam = self._is_seam_unsure = self._is_between_variants = False
        self._wishes: list[Action] = []

    @property
    def phase(self) -> Phase:
        """Where the tracker stands."""
        return self._phase

    @property
    def cursor(self) -> Cursor:
        """The place after the last action handed out; each action that must be saved carries its own."""
        return self._cursor

    @property
    def poll_at_s(self) -> float:
        """When to load the playlist; infinity when it is not needed any more."""
        return NEVER if self._phase in (Phase.FINISHING, Phase.ENDED) else self._poll_at_s

    @property
    def retry_at_s(self) -> float:
        """When a failed segment is due again; infinity when there is none."""
        waiting = (Progress.RETRYING, Progress.PARKED)
        retries = (slot.retry_at_s for slot in self._tried() if slot.progress in waiting)
        return min(retries, default=NEVER)

    @property
    def wake_at_s(self) -> float:
        """When there is something to do again: a poll, or a retry for `next_fetches`."""
        return min(self.poll_at_s, self.retry_at_s)

    @property
    def waiting_count(self) -> int:
        """Segments that wait for their first or next attempt."""
        return sum(slot.progress in (Progress.WAITING, Progress.RETRYING) for slot in self._slots.values())

    @property
    def fetching_count(self) -> int:
        """Segments handed out by `next_fetches` whose result is not known yet."""
        return sum(slot.progress is Progress.FETCHING for slot in self._tried())

    @property
    def wall_per_media(self) -> float:
        """Observed wall seconds per second of media, at most 1."""
        return self._pace.wall_per_media

    @property
    def parse_from_sequence(self) -> int:
        """What `parse_playlist` needs of the next reload; all of it unless the source is known and calm."""
        is_calm = not self._suspicions and self._older_copy is None and not self._is_between_variants
        if self._phase is Phase.JOINING or not is_calm:
            return 0
        pending = (item.from_sequence for item in self._queue if item.epoch == self._epoch)
        newest_needed = self._known.newest - self._policy.overlap_segments + 1
        return max(0, min(next(pending, newest_needed), newest_needed))

    def on_playlist(
        self, playlist: MediaPlaylist, *, now_s: float, wall_at: datetime | None = None
    ) -> tuple[Action, ...]:
        """A media playlist was read at `now_s`; `wall_at` anchors streams without PROGRAM-DATE-TIME."""
        if self._phase is Phase.ENDED:
            return ()
        if playlist.skipped:
            self._poll_at_s = now_s + self._policy.reload_floor_s
            return (ReloadWithoutDelta(), *self._conclude(now_s))
        self._failures, self._last_failure, self._was_reached = 0, "", True
        self._has_others = playlist.has_other_variants
        self._see_ranges(playlist)
        reload = _Reload(playlist=playlist, now_s=now_s, wall_at=wall_at)
        if self._is_other_variant(playlist):
            return (*self._switch(reload), *self._conclude(now_s))
        self._refresh_addresses(playlist, now_s=now_s)
        if self._phase is Phase.FINISHING:
            return self._conclude(now_s)
        self._target_us = playlist.target_us
        actions = _ON_RELATION[self._relation(playlist)](self, reload)
        return (*actions, *self._conclude(now_s))

    def on_playlist_failed(self, failure: FetchFailure, *, now_s: float) -> tuple[Action, ...]:
        """The playlist could not be read: status, time-out, no playlist, or refused for good."""
        if self._phase in (Phase.FINISHING, Phase.ENDED):
            self._give_up_parked()
            return self._conclude(now_s)
        self._failures += 1
        self._last_failure = failure.label
        if failure.kind is FailureKind.REFUSED:
            self._finish(EndCause.SOURCE_REFUSED, failure.detail or failure.label, now_s=now_s)
            return self._conclude(now_s)
        pause_s = self._policy.failure_first_s * 2.0 ** min(self._failures - 1, 10)
        self._poll_at_s = now_s + min(self._policy.failure_ceiling_s, pause_s)
        asked = self._ask_master(failure, now_s=now_s) if failure.status in _LOST_ADDRESS else ()
        if self._failures >= self._policy.variant_playlist_failures and (
            self._has_others or not self._was_reached
        ):
            self._ask_variant(failure.label, now_s=now_s)
        return (*asked, *self._conclude(now_s))

    def on_no_other_variant(self, *, now_s: float) -> tuple[Action, ...]:
        """No rendition is left that was not tried: what this one cannot give is lost."""
        self._has_others = False
        self._variant_rest_until_s = now_s + self._policy.variant_rest_s
        self._give_up_parked()
        return self._conclude(now_s)

    def on_offline(self, *, now_s: float) -> tuple[Action, ...]:
        """The source says that it stopped: drain, then end. A second call changes nothing."""
        if not self._is_offline:
            target_s = self._target_us / MICROSECONDS
            self._is_offline = True
            self._drain_until_s = now_s + max(
                self._policy.drain_floor_s, self._policy.drain_targets * target_s
            )
        return self._conclude(now_s)

    def next_fetches(
        self, limit: int, *, now_s: float, within: int | None = None
    ) -> tuple[FetchSegment, ...]:
        """Up to `limit` fetches that are due, oldest first; each must be reported stored or failed.

        `within` looks no further than so many unsettled places, so that one slow segment does not let the rest
        of a long recording pile up behind it.
        """
        due: list[FetchSegment] = []
        for item in islice(self._queue, within):
            if len(due) >= limit:
                break
            if isinstance(item, Slot) and is_due(item, now_s):
                due.append(self._begin_fetch(item, now_s=now_s))
        return tuple(due)

    def on_segment_stored(
        self,
        epoch: int,
        sequence: int,
        *,
        now_s: float,
        probed_us: int | None = None,
        pts_us: int | None = None,
    ) -> tuple[Action, ...]:
        """A segment is stored; its length and first PTS as probed, where known. Told twice does no harm."""
        slot = self._slots.get((epoch, sequence))
        if slot is not None and slot.progress not in SETTLED:
            slot.progress = Progress.STORED
            slot.probed_us, slot.pts_us = probed_us, pts_us
        if slot is None:
            self._wishes.append(SegmentUnwanted(epoch=epoch, sequence=sequence))
        return self._conclude(now_s)

    def on_segment_failed(
        self, epoch: int, sequence: int, *, failure: FetchFailure, now_s: float
    ) -> tuple[Action, ...]:
        """A segment could not be fetched: it is tried again as the policy says, or becomes a gap."""
        slot = self._slots.get((epoch, sequence))
        if slot is None or slot.progress is not Progress.FETCHING:
            return ()
        slot.cause = LossCause.SOURCE_GAP if slot.segment.gap else loss_cause(failure)
        verdict = judge(failure, attempts=self._attempts(slot), policy=self._policy, now_s=now_s)
        self._consider_variant(slot, verdict, now_s=now_s)
        if isinstance(verdict, GiveUp):
            return self._conclude(now_s)
        slot.progress, slot.retry_at_s = Progress.RETRYING, verdict.at_s
        if self._wishes:
            return self._conclude(now_s)
        if not isinstance(verdict, AskMaster):
            return ()
        slot.asked_master = True
        return self._ask_master(failure, now_s=now_s)

    # -- other variants --------------------------------------------------------------------------------

    def _is_other_variant(self, playlist: MediaPlaylist) -> bool:
        """Told by its name, unless the list is the very same: some servers change what they say of a variant."""
        is_named = "" not in (self._variant, playlist.variant) and self._variant != playlist.variant
        is_renamed = self._variant_asked_s == -NEVER and self._is_same_list(playlist)
        if self._phase is Phase.JOINING or not is_named or is_renamed:
            self._variant = playlist.variant or self._variant
            self._is_between_variants = False
            return False
        self._is_between_variants = True
        return True

    def _is_same_list(self, playlist: MediaPlaylist) -> bool:
        known = self._known.identities
        shared = [each for each in playlist.segments if each.sequence in known]
        return bool(shared) and all(known[each.sequence] == each.identity for each in shared)

    def _consider_variant(self, slot: Slot, verdict: Verdict, *, now_s: float) -> None:
        """What this variant does not give may be had of another one, and is not lost before that is known."""
        is_hopeless = isinstance(verdict, GiveUp)
        is_broken = slot.attempts >= self._policy.variant_attempts and slot.cause is not LossCause.NOT_FOUND
        is_of_variant = slot.cause in _OF_THE_VARIANT and (is_hopeless or is_broken)
        may_ask = is_of_variant and not slot.asked_variant and self._may_ask_variant(now_s)
        if may_ask:
            slot.asked_variant = True
            self._ask_variant(str(slot.cause), now_s=now_s)
        if is_hopeless:
            slot.progress = Progress.PARKED if may_ask else Progress.LOST
            slot.retry_at_s = now_s + self._policy.variant_patience_s

    def _may_ask_variant(self, now_s: float) -> bool:
        return (self._has_others or not self._was_reached) and now_s >= self._variant_rest_until_s

    def _ask_variant(self, reason: str, *, now_s: float) -> None:
        is_asked = now_s - self._variant_asked_s < self._policy.variant_interval_s
        if self._may_ask_variant(now_s) and not is_asked:
            self._variant_asked_s = now_s
            self._wishes.append(UseOtherVariant(reason=reason))

    def _give_up_parked(self) -> None:
        for slot in self._slots.values():
            if slot.progress is Progress.PARKED:
                slot.progress = Progress.LOST

    def _switch(self, reload: _Reload) -> tuple[Action, ...]:
        """Go on with another rendition: all that is not stored comes from there, as far as it has it."""
        playlist = reload.playlist
        kept = leading_settled(self._queue)
        aligned = align(playlist, place=self._place_after(kept))
        if not aligned.fresh:
            return self._wait_for_variant(reload)
        unwanted = self._drop_open(len(kept), aligned)
        self._calm_down()
        self._variant, self._variant_asked_s = playlist.variant, -NEVER
        self._known = self._known.renumbered()
        self._epoch += 1
        self._pace = Pace()
        self._target_us = playlist.target_us
        if self._phase is Phase.FINISHING and (playlist.truncated or not playlist.ended):
            self._phase = Phase.FOLLOWING
        self._is_at_seam, self._is_between_variants = True, False
        self._is_seam_unsure = not aligned.is_sure
        return (*unwanted, *self._take(list(aligned.fresh), reload, starts_epoch=True, is_adopted=False))

    def _wait_for_variant(self, reload: _Reload) -> tuple[Action, ...]:
        """It has nothing new yet; where it never will, what is open is lost."""
        if reload.playlist.ended:
            self._variant = reload.playlist.variant
            self._give_up_parked()
            self._note_endlist(reload)
        self._schedule_soon(reload.now_s)
        return ()

    def _place_after(self, kept: tuple[Item, ...]) -> Place:
        timeline = self._cursor.timeline
        wall_at = timeline.wall_end_at if self._cursor.date_time_end is not None else None
        sequence = self._cursor.sequence
        for item in kept:
            estimated_at = wall_at and wall_at + timedelta(microseconds=item.estimated_us)
            wall_at, sequence = item.wall_end_at or estimated_at, item.to_sequence
        return Place(wall_at=wall_at, sequence=sequence + 1)

    def _drop_open(self, kept_count: int, aligned: Alignment) -> tuple[SegmentUnwanted, ...]:
        """What the other variant has too is not wanted any more; what it lacks is lost, with its own cause."""
        dropped = [self._queue.pop() for _ in range(len(self._queue) - kept_count)][::-1]
        missing_us = aligned.missing_us
        for item in dropped:
            self._slots.pop((item.epoch, item.from_sequence), None)
            if missing_us > item.estimated_us // 2 and item.progress is not Progress.STORED:
                missing_us -= item.estimated_us
                self._queue.append(_lost_for_good(item))
        if missing_us > aligned.fresh[0].duration_us // 2:
            self._queue.append(self._hole_at_end(missing_us, cause=LossCause.WINDOW_OVERRUN))
        stored = (Progress.STORED, Progress.FETCHING)
        return tuple(
            SegmentUnwanted(epoch=item.epoch, sequence=item.from_sequence)
            for item in dropped
            if item.progress in stored
        )

    def _hole_at_end(self, missing_us: int, *, cause: LossCause) -> Hole:
        """After all that is queued."""
        hole = self._hole_behind_cursor(missing_us, cause=cause)
        if not self._queue:
            return hole
        last, count = self._queue[-1], hole.to_sequence - hole.from_sequence
        first = last.to_sequence + 1
        return replace(
            hole,
            epoch=last.epoch,
            variant=last.variant,
            from_sequence=first,
            to_sequence=first + count,
        )

    def _hole_behind_cursor(self, missing_us: int, *, cause: LossCause) -> Hole:
        first = self._cursor.sequence + 1
        return Hole(
            epoch=self._cursor.epoch,
            variant=self._cursor.variant,
            from_sequence=first,
            to_sequence=first + max(1, round(missing_us / self._target_us)) - 1,
            estimated_us=missing_us,
            cause=cause,
        )

    # -- what a reload means ---------------------------------------------------------------------------

    def _relation(self, playlist: MediaPlaylist) -> Relation:
        if self._phase is Phase.JOINING:
            return Relation.NEWER if playlist.segments else Relation.EMPTY
        return relate(playlist, known=self._known, longest_gap_s=self._policy.longest_gap_s)

    def _on_newer(self, reload: _Reload) -> tuple[Action, ...]:
        self._calm_down()
        joined = self._join(reload.playlist) if self._phase is Phase.JOINING else ()
        self._add_hole(reload.playlist)
        fresh = [s for s in reload.playlist.segments if s.sequence > self._known.newest]
        return (*joined, *self._take(fresh, reload, starts_epoch=False, is_adopted=bool(joined)))

    def _on_unchanged(self, reload: _Reload) -> tuple[Action, ...]:
        self._calm_down()
        if reload.playlist.segments[0].sequence not in self._known.identities:
            self._known = self._known.learn(reload.playlist)
        self._pace = miss(self._pace, now_s=reload.now_s)
        self._schedule(reload)
        if reload.playlist.truncated:
            self._news_s = reload.now_s
        self._note_endlist(reload)
        return ()

    def _on_empty(self, reload: _Reload) -> tuple[Action, ...]:
        self._schedule_soon(reload.now_s)
        self._note_endlist(reload)
        return ()

    def _on_stale(self, reload: _Reload) -> tuple[Action, ...]:
        """An older copy is ignored, unless it turns out to be a restart under the old names."""
        if self._older_copy is None:
            self._older_copy = older_copy(reload.playlist, known=self._known, now_s=reload.now_s)
        self._older_copy = self._older_copy.seen_again(reload.playlist)
        if self._older_copy.is_restart(
            now_s=reload.now_s, target_s=self._target_wall_s, least_targets=self._policy.stale_targets
        ):
            return self._reset(reload)
        self._schedule_soon(reload.now_s)
        return ()

    def _on_unknown(self, reload: _Reload) -> tuple[Action, ...]:
        """Beyond memory an edge and a reset look alike until the reset moves on, or is over.

        An edge that moves on is mostly near enough by then to be told by what it lists; one that is not passes
        for a reset. A reset that never moves on is left alone.
        """
        newest = reload.playlist.last_sequence
        if newest > self._suspect_newest or reload.playlist.ended:
            return self._on_suspect(reload)
        self._suspicions, self._suspect_newest = max(self._suspicions, 1), newest
        self._schedule_soon(reload.now_s)
        return ()

    def _on_suspect(self, reload: _Reload) -> tuple[Action, ...]:
        self._suspicions += 1
        self._suspect_newest = min(self._suspect_newest, reload.playlist.last_sequence)
        if self._suspicions >= self._policy.reset_reloads:
            return self._reset(reload)
        self._schedule_soon(reload.now_s)
        return ()

    def _on_reset(self, reload: _Reload) -> tuple[Action, ...]:
        self._suspicions = self._policy.reset_reloads
        return self._reset(reload)

    def _reset(self, reload: _Reload) -> tuple[Action, ...]:
        """Begin a new epoch with all that is listed and was not known under other numbers."""
        playlist = reload.playlist
        if playlist.segments[0].sequence != playlist.media_sequence:
            self._schedule_soon(reload.now_s)
            return ()
        fresh = playlist.segments[repeated_count(playlist, known=self._known) :]
        self._expire_open(reload.now_s, self._window_wall_s(playlist))
        self._calm_down()
        self._known = self._known.renumbered()
        self._epoch += 1
        self._pace = Pace()
        return self._take(list(fresh), reload, starts_epoch=True, is_adopted=True)

    def _join(self, playlist: MediaPlaylist) -> tuple[Action, ...]:
        before = playlist.segments[0].sequence - 1
        self._phase = Phase.FOLLOWING
        self._known = Known(newest=before)
        self._cursor = replace(self._cursor, joined=True, sequence=before)
        return (Joined(cursor=self._cursor),)

    def _calm_down(self) -> None:
        self._suspicions, self._suspect_newest, self._older_copy = 0, _NO_SEQUENCE, None

    # -- taking over what is listed --------------------------------------------------------------------

    def _add_hole(self, playlist: MediaPlaylist) -> None:
        first, last = self._known.newest + 1, playlist.media_sequence - 1
        if last < first:
            return
        hole = Hole(
            epoch=self._epoch,
            variant=self._variant,
            from_sequence=first,
            to_sequence=last,
            estimated_us=_estimate_us(playlist, known=self._known, missing=last - first + 1),
            cause=LossCause.WINDOW_OVERRUN,
        )
        self._queue.append(hole)

    def _take(
        self, fresh: list[Segment], reload: _Reload, *, starts_epoch: bool, is_adopted: bool
    ) -> tuple[Action, ...]:
        playlist = reload.playlist
        hints = _wall_hints(fresh, reload) if is_adopted else [None] * len(fresh)
        for index, (segment, hint) in enumerate(zip(fresh, hints, strict=True)):
            self._add_slot(segment, reload, starts_epoch=starts_epoch and index == 0, wall_hint=hint)
        self._known = self._known.learn(playlist)
        self._note_progress(fresh, reload)
        self._schedule(reload)
        self._note_endlist(reload)
        self._note_unusable(reload)
        return self._resume()

    def _see_ranges(self, playlist: MediaPlaylist) -> None:
        if playlist.date_ranges:
            ads = self._markers.see(playlist.date_ranges, ads=self._cursor.ads)
            self._cursor = replace(self._cursor, ads=ads)

    def _add_slot(
        self, segment: Segment, reload: _Reload, *, starts_epoch: bool, wall_hint: datetime | None
    ) -> None:
        playlist = reload.playlist
        counted = playlist.has_discontinuity_sequence
        slot = Slot(
            epoch=self._epoch,
            segment=segment,
            discontinuity_sequence=segment.discontinuity_sequence if counted else NOTHING_YET,
            is_newest=not playlist.ended and segment.sequence > playlist.last_sequence - _NEWEST_SEGMENTS,
            variant=self._variant,
            starts_epoch=starts_epoch or self._is_at_seam,
            is_seam=self._is_at_seam,
            is_unsure=self._is_at_seam and self._is_seam_unsure,
            wall_hint=wall_hint,
        )
        self._is_at_seam = False
        self._queue.append(slot)
        self._slots[(slot.epoch, segment.sequence)] = slot
        self._judge_listed(slot, now_s=reload.now_s)

    def _judge_listed(self, slot: Slot, *, now_s: float) -> None:
        """A marked gap may be none in another variant."""
        cause = _unfetchable(slot.segment)
        if cause is None:
            return
        slot.progress, slot.cause = Progress.LOST, cause
        if cause is LossCause.SOURCE_GAP:
            self._consider_variant(slot, GiveUp(cause=cause), now_s=now_s)

    def _note_progress(self, fresh: list[Segment], reload: _Reload) -> None:
        self._news_s = reload.now_s
        recent = reload.playlist.segments[-_PACED_SEGMENTS:]
        if not recent or reload.playlist.truncated:
            return
        self._pace = advance(
            Pace() if self._phase is Phase.STALLED else self._pace,
            media_s=sum(segment.duration_us for segment in fresh) / MICROSECONDS,
            segment_s=sum(segment.duration_us for segment in recent) / len(recent) / MICROSECONDS,
            now_s=reload.now_s,
        )

    def _note_endlist(self, reload: _Reload) -> None:
        if reload.playlist.ended:
            self._endlist_sequence = self._known.newest
            self._finish(EndCause.ENDLIST, "", now_s=reload.now_s)

    def _note_unusable(self, reload: _Reload) -> None:
        """A playlist in which nothing may be fetched or decrypted will not become better: end, and say why."""
        segments = reload.playlist.segments
        if segments and all(segment.unsupported for segment in segments):
            detail = segments[-1].unsupported
            self._finish(EndCause.UNSUPPORTED_ENCRYPTION, detail, now_s=reload.now_s)
        elif segments and all(segment.refusal for segment in segments):
            self._finish(EndCause.SOURCE_REFUSED, segments[-1].refusal, now_s=reload.now_s)

    def _refresh_addresses(self, playlist: MediaPlaylist, *, now_s: float) -> None:
        """Take over fresh tokens, and note which open segments have left the window."""
        for segment in playlist.segments if self._slots else ():
            slot = self._slots.get((self._epoch, segment.sequence))
            if slot is None or slot.segment.identity != segment.identity:
                continue
            if slot.asked_master and segment.location != slot.segment.location:
                slot.retry_at_s = min(slot.retry_at_s, now_s)
            slot.segment = replace(
                slot.segment, location=segment.location, key=segment.key, init=segment.init
            )
        self._expire_left(playlist, now_s=now_s)

    def _expire_left(self, playlist: MediaPlaylist, *, now_s: float) -> None:
        """A segment that left the window stays for its length and that of the window (RFC 8216, 6.2.2)."""
        expires_s = now_s + self._window_wall_s(playlist)
        current = (item for item in self._queue if item.epoch == self._epoch)
        for item in takewhile(lambda item: item.from_sequence < playlist.media_sequence, current):
            if isinstance(item, Slot):
                item.expires_s = min(item.expires_s, expires_s)

    def _expire_open(self, now_s: float, grace_s: float) -> None:
        for slot in self._slots.values():
            slot.expires_s = min(slot.expires_s, now_s + grace_s)

    # -- fetching --------------------------------------------------------------------------------------

    def _tried(self) -> Iterator[Slot]:
        """Slots up to the first that was never tried: those after it were not either."""
        for item in self._queue:
            if item.progress is Progress.WAITING:
                return
            if isinstance(item, Slot):
                yield item

    def _begin_fetch(self, slot: Slot, *, now_s: float) -> FetchSegment:
        slot.attempts += 1
        if slot.attempts == 1:
            slot.first_try_s = now_s
        slot.progress = Progress.FETCHING
        return FetchSegment(
            epoch=slot.epoch, segment=slot.segment, attempt=slot.attempts, deadline_s=self._deadline_s(slot)
        )

    def _deadline_s(self, slot: Slot) -> float:
        return min(slot.expires_s, slot.first_try_s + self._policy.segment_budget_s)

    def _attempts(self, slot: Slot) -> Attempts:
        return Attempts(
            count=slot.attempts,
            first_s=slot.first_try_s,
            deadline_s=self._deadline_s(slot),
            is_newest=slot.is_newest,
            has_fresh_url=slot.asked_master,
            target_s=self._target_us / MICROSECONDS,
        )

    def _ask_master(self, failure: FetchFailure, *, now_s: float) -> tuple[Action, ...]:
        if now_s - self._master_asked_s < self._policy.master_interval_s:
            return ()
        self._master_asked_s = now_s
        return (ReloadMaster(reason=failure.label),)

    # -- time ------------------------------------------------------------------------------------------

    @property
    def _target_wall_s(self) -> float:
        return self._target_us / MICROSECONDS * self._pace.wall_per_media

    def _window_wall_s(self, playlist: MediaPlaylist) -> float:
        return (playlist.listed_count + 1) * self._target_wall_s

    def _schedule(self, reload: _Reload) -> None:
        if reload.playlist.blocks_reload:
            self._poll_at_s = reload.now_s + self._policy.reload_floor_s
            return
        if reload.playlist.truncated or not self._pace.arrivals:
            self._schedule_soon(reload.now_s)
            return
        self._poll_at_s = next_poll_s(self._pace, policy=self._policy, now_s=reload.now_s)

    def _schedule_soon(self, now_s: float) -> None:
        """Half a target, as after an unchanged playlist: what was read says nothing about the pace."""
        pause_s = max(self._policy.reload_floor_s, self._target_wall_s / 2)
        self._poll_at_s = now_s + min(self._policy.reload_ceiling_s, pause_s)

    def _watch_patience(self, now_s: float) -> tuple[Action, ...]:
        if now_s >= self._drain_until_s:
            self._finish(EndCause.STOPPED, "", now_s=now_s)
        elif self._phase is Phase.JOINING:
            self._watch_start(now_s)
        elif not self._was_reached and self._endlist_sequence != NOTHING_YET:
            self._watch_lost_end(now_s)
        elif self._phase is Phase.STALLED and now_s - self._news_s >= self._policy.dead_after_s:
            self._finish(EndCause.SOURCE_DEAD, self._last_failure, now_s=now_s)
        elif self._phase is Phase.FOLLOWING and now_s - self._news_s >= self._stall_after_s:
            return self._stall()
        return ()

    @property
    def _stall_after_s(self) -> float:
        target_s = self._target_us / MICROSECONDS
        return max(self._policy.stall_floor_s, self._policy.stall_targets * target_s)

    def _watch_start(self, now_s: float) -> None:
        """A playlist that was never there is given up soon, one that lists nothing like a dead source."""
        waited_s = now_s - self._started_s
        if self._was_reached and waited_s >= self._policy.dead_after_s:
            self._finish(EndCause.SOURCE_DEAD, self._last_failure or "empty playlist", now_s=now_s)
        elif not self._was_reached and waited_s >= self._policy.start_patience_s:
            self._finish(EndCause.SOURCE_UNREACHABLE, self._last_failure, now_s=now_s)

    def _watch_lost_end(self, now_s: float) -> None:
        """The source had ended before a crash and may be gone: what was listed and not stored is then lost."""
        if now_s - self._started_s < self._policy.start_patience_s:
            return
        missing = self._endlist_sequence - self._known.newest
        if missing > 0:
            hole = Hole(
                epoch=self._epoch,
                variant=self._variant,
                from_sequence=self._known.newest + 1,
                to_sequence=self._endlist_sequence,
                estimated_us=missing * self._target_us,
                cause=LossCause.SOURCE_UNREACHABLE,
            )
            self._queue.append(hole)
        self._finish(EndCause.ENDLIST, self._last_failure, now_s=now_s)

    def _stall(self) -> tuple[Action, ...]:
        self._phase = Phase.STALLED
        index = self._cursor.stall_count
        self._cursor = replace(self._cursor, stall_count=index + 1, stalled=True)
        return (Stalled(index=index, cause=self._last_failure or "unchanged", cursor=self._cursor),)

    def _resume(self) -> tuple[Action, ...]:
        if self._phase is Phase.STALLED:
            self._phase = Phase.FOLLOWING
        if not self._cursor.stalled:
            return ()
        self._cursor = replace(self._cursor, stalled=False)
        return (Resumed(index=self._cursor.stall_count - 1, cursor=self._cursor),)

    # -- settling in order -----------------------------------------------------------------------------

    def _finish(self, cause: EndCause, detail: str, *, now_s: float) -> None:
        if self._phase in (Phase.FINISHING, Phase.ENDED):
            return
        self._phase = Phase.FINISHING
        self._end = (cause, detail)
        if cause is not EndCause.ENDLIST:
            self._expire_open(now_s, self._policy.drain_floor_s)

    def _conclude(self, now_s: float) -> tuple[Action, ...]:
        """What every call ends with: patience, what is settled in order, and what comes next."""
        watched = self._watch_patience(now_s) if self._phase not in (Phase.FINISHING, Phase.ENDED) else ()
        settled = tuple(self._release())
        if self._phase is Phase.FINISHING and not self._queue:
            self._phase = Phase.ENDED
            cause, detail = self._end
            settled = (*settled, *self._rest_of_signals())
            self._cursor = replace(
                self._cursor, endlist_sequence=self._endlist_sequence, stalled=False, ended=str(cause)
            )
            return (*watched, *settled, Ended(cause=cause, detail=detail, cursor=self._cursor))
        following = (PollAgain(at_s=self.poll_at_s),) if self.poll_at_s < NEVER else ()
        wishes, self._wishes = tuple(self._wishes), []
        return (*watched, *settled, *following, *wishes)

    def _rest_of_signals(self) -> tuple[SignalSeen, ...]:
        timeline = self._cursor.timeline
        return self._markers.rest(wall_end_at=timeline.wall_end_at, end_us=timeline.position_us)

    def _release(self) -> Iterator[Action]:
        while self._queue and self._queue[0].progress in SETTLED:
            head = self._queue[0]
            if isinstance(head, Slot) and head.is_unsure and head.progress is Progress.LOST:
                if len(self._queue) == 1 and self._phase is not Phase.FINISHING:
                    return
                yield from self._pass_loss_on(head)
            elif not isinstance(head, Slot) or head.progress is Progress.LOST:
                losses = leading_losses(self._queue)
                self._drop_heads(len(losses))
                yield self._lose(losses)
            elif (step_us := self._seam_us(head, head.pts_us)) < 0:
                yield self._pass_over(head)
            else:
                yield from self._close_seam(head, step_us)
                self._drop_heads(1)
                commit = self._commit(head)
                yield commit
                yield from self._markers.due(commit.placed)

    def _seam_us(self, slot: Slot, pts_us: int | None) -> int:
        if not slot.is_seam:
            return 0
        if pts_us is None or self._cursor.timeline.clock_end_us is None:
            return slot.lost_before_us
        return seam_us(pts_us, timeline=self._cursor.timeline, duration_us=slot.segment.duration_us)

    def _pass_loss_on(self, slot: Slot) -> Iterator[SegmentLost]:
        """Whether what could not be had is missing shows when the next one is there, or never."""
        if self._seam_us(slot, slot.pts_hint_us) < 0:
            self._move_seam(slot)
            return
        lost_us = slot.lost_before_us + slot.estimated_us
        following = self._move_seam(slot)
        if following is None:
            yield self._lose((self._hole_behind_cursor(lost_us, cause=slot.cause),))
        else:
            following.lost_before_us += lost_us
            following.lost_cause = slot.cause

    def _pass_over(self, slot: Slot) -> SegmentUnwanted:
        """The other variant began with media that we have; its next segment is judged in turn."""
        self._move_seam(slot)
        return SegmentUnwanted(epoch=slot.epoch, sequence=slot.segment.sequence)

    def _move_seam(self, slot: Slot) -> Slot | None:
        """The segment behind is the seam now; a hole before it is as unsure as what was dropped."""
        self._drop_heads(1)
        lost_us, cause = 0, LossCause.WINDOW_OVERRUN
        while self._queue and isinstance(self._queue[0], Hole):
            lost_us, cause = lost_us + self._queue[0].estimated_us, self._queue[0].cause
            self._drop_heads(1)
        following = next(iter(self._queue), None)
        if not isinstance(following, Slot):
            self._is_at_seam = True
            return None
        following.is_seam = following.starts_epoch = True
        begin_us = slot.pts_us if slot.pts_us is not None else slot.pts_hint_us
        if begin_us is not None and not lost_us:
            following.pts_hint_us = begin_us + slot.estimated_us
        following.is_unsure, following.lost_before_us, following.lost_cause = slot.is_unsure, lost_us, cause
        return following

    def _close_seam(self, slot: Slot, missing_us: int) -> Iterator[SegmentLost]:
        if missing_us:
            yield self._lose((self._hole_behind_cursor(missing_us, cause=slot.lost_cause),))

    def _commit(self, slot: Slot) -> CommitSegment:
        segment = slot.segment
        is_unanchored = self._cursor.timeline.wall_at is None or slot.starts_epoch
        measured = MeasuredSegment(
            listed_us=segment.duration_us,
            probed_us=slot.probed_us,
            pts_us=slot.pts_us,
            wall_at=segment.wall_at or (slot.wall_hint if is_unanchored else None),
            break_before=self._break_before(slot),
        )
        placed, timeline = place_segment(self._cursor.timeline, segment=measured)
        ads = self._cursor.ads.after_cues(
            segment.cues, start_us=placed.start_us, duration_us=placed.duration_us
        )
        excluded = ads.exclusion(wall_at=placed.wall_at, duration_us=placed.duration_us)
        self._cursor = replace(
            self._cursor,
            epoch=slot.epoch,
            variant=slot.variant,
            ads=ads.since(placed.wall_at),
            sequence=segment.sequence,
            identity=segment.identity,
            date_time_end=date_time_end(segment) or self._cursor.date_time_end,
            discontinuity_sequence=slot.discontinuity_sequence,
            init_identity=segment.init.identity if segment.init else "",
            endlist_sequence=self._endlist_sequence,
            timeline=timeline,
        )
        return CommitSegment(
            epoch=slot.epoch, segment=segment, placed=placed, cursor=self._cursor, excluded=excluded
        )

    def _break_before(self, slot: Slot) -> Break:
        before, segment = self._cursor, slot.segment
        if before.timeline.segment_count == 0:
            return Break.NONE
        if slot.is_seam:
            return Break.VARIANT
        if slot.starts_epoch:
            return Break.EPOCH
        counts = (before.discontinuity_sequence, slot.discontinuity_sequence)
        if segment.discontinuity or (NOTHING_YET not in counts and counts[0] != counts[1]):
            return Break.TAGGED
        init_identity = segment.init.identity if segment.init else ""
        return Break.INIT_SECTION if init_identity != before.init_identity else Break.NONE

    def _lose(self, items: tuple[Item, ...]) -> SegmentLost:
        head, last = items[0], items[-1]
        placed, timeline = place_gap(
            self._cursor.timeline, estimated_us=sum(item.estimated_us for item in items)
        )
        self._cursor = replace(
            self._cursor,
            epoch=head.epoch,
            variant=head.variant,
            sequence=last.to_sequence,
            identity="",
            date_time_end=_later(self._cursor.date_time_end, placed.duration_us),
            ads=_ads_after(self._cursor.ads, items, start_us=placed.start_us),
            endlist_sequence=self._endlist_sequence,
            timeline=timeline,
        )
        return SegmentLost(
            epoch=head.epoch,
            from_sequence=head.from_sequence,
            to_sequence=last.to_sequence,
            cause=head.cause,
            placed=placed,
            cursor=self._cursor,
        )

    def _drop_heads(self, count: int) -> None:
        for _ in range(count):
            head = self._queue.popleft()
            self._slots.pop((head.epoch, head.from_sequence), None)


_ON_RELATION: Final[dict[Relation, Callable[[PlaylistTracker, _Reload], tuple[Action, ...]]]] = {
    Relation.EMPTY: PlaylistTracker._on_empty,
    Relation.NEWER: PlaylistTracker._on_newer,
    Relation.UNCHANGED: PlaylistTracker._on_unchanged,
    Relation.STALE: PlaylistTracker._on_stale,
    Relation.UNKNOWN: PlaylistTracker._on_unknown,
    Relation.SUSPECT: PlaylistTracker._on_suspect,
    Relation.RESET: PlaylistTracker._on_reset,
}


def _first_phase(cursor: Cursor) -> Phase:
    if cursor.ended:
        return Phase.ENDED
    if not cursor.joined:
        return Phase.JOINING
    return Phase.STALLED if cursor.stalled else Phase.FOLLOWING


def _known_at(cursor: Cursor) -> Known:
    identities = {cursor.sequence: cursor.identity} if cursor.identity else {}
    return Known(newest=cursor.sequence, identities=identities, date_time_end=cursor.date_time_end)


def _lost_for_good(item: Item) -> Item:
    if isinstance(item, Slot):
        item.cause = item.cause if item.attempts or item.segment.gap else LossCause.WINDOW_OVERRUN
        item.progress = Progress.LOST
    return item


def _ads_after(ads: Ads, items: tuple[Item, ...], *, start_us: int) -> Ads:
    """Tags of what is lost count too: a break may begin or end there."""
    for item in items:
        if isinstance(item, Slot):
            ads = ads.after_cues(item.segment.cues, start_us=start_us, duration_us=item.estimated_us)
        start_us += item.estimated_us
    return ads


def _later(wall_at: datetime | None, span_us: int) -> datetime | None:
    return wall_at and wall_at + timedelta(microseconds=span_us)


def _unfetchable(segment: Segment) -> LossCause | None:
    if segment.gap:
        return LossCause.SOURCE_GAP
    if segment.unsupported:
        return LossCause.UNSUPPORTED_ENCRYPTION
    return LossCause.REFUSED_ADDRESS if segment.refusal else None


def _wall_hints(fresh: list[Segment], reload: _Reload) -> list[datetime | None]:
    """Where no PROGRAM-DATE-TIME is: a live list ends now, a finished one is taken to begin now."""
    if reload.wall_at is None:
        return [None] * len(fresh)
    total_us = 0 if reload.playlist.ended else sum(segment.duration_us for segment in fresh)
    hints: list[datetime | None] = []
    for segment in fresh:
        hints.append(reload.wall_at - timedelta(microseconds=total_us))
        total_us -= segment.duration_us
    return hints


def _estimate_us(playlist: MediaPlaylist, *, known: Known, missing: int) -> int:
    """By PROGRAM-DATE-TIME where both sides have a plausible one, else by the mean length of what is listed."""
    durations = [segment.duration_us for segment in playlist.segments]
    by_count_us = missing * sum(durations) // len(durations)
    first = playlist.segments[0]
    if first.wall_at is None or known.date_time_end is None or first.sequence != playlist.media_sequence:
        return by_count_us
    by_clock_us = round((first.wall_at - known.date_time_end) / timedelta(microseconds=1))
    is_plausible = by_count_us // 2 <= by_clock_us <= 2 * by_count_us
    return by_clock_us if is_plausible else by_count_us

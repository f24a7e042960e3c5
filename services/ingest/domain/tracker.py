"""The state machine of one followed playlist: reloads, results and time in; fetches and facts in order out.

It never fetches, never sleeps and knows no clock: the caller passes `now_s` (monotonic) and obeys. Here the parts meet,
none of which knows this module:

| a playlist was read | `reloads` what it means (`history` compares), `listing` and `holes` what is taken over |
| a segment | `queue` until it is settled, `fetching` and `retry` its attempts, `settling` its place in order |
| another rendition | `variants` when to ask for it, `switching` and `alignment` what is taken from it |
| time | `schedule` and `pace` the next poll, `patience` stalls, death and draining |
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from ingest.domain.actions import (
    NOTHING_YET,
    Action,
    Cursor,
    EndCause,
    Ended,
    FailureKind,
    FetchFailure,
    FetchSegment,
    PollAgain,
    ReloadMaster,
    ReloadWithoutDelta,
    SegmentUnwanted,
)
from ingest.domain.alignment import align
from ingest.domain.cursor_steps import ended, joined, resumed, stalled
from ingest.domain.fetching import begin_fetch, judge_attempt
from ingest.domain.history import Known, is_cut_before, repeated_count
from ingest.domain.holes import hole_before, hole_to_end
from ingest.domain.listing import listed_slots, refresh, unusable
from ingest.domain.pace import Pace
from ingest.domain.patience import Finish, Patience, Phase, Stall, first_phase
from ingest.domain.playlist import MediaPlaylist, Segment
from ingest.domain.policy import TrackerPolicy
from ingest.domain.queue import NEVER, SETTLED, Numbering, Progress, Queue, leading_settled
from ingest.domain.reloads import CALM, Meaning, Reload, weigh
from ingest.domain.retry import AskMaster, GiveUp
from ingest.domain.schedule import Schedule
from ingest.domain.settling import Settling
from ingest.domain.switching import drop_open, place_after
from ingest.domain.variants import Variants

__all__ = ["Phase", "PlaylistTracker"]

_LOST_ADDRESS: Final = frozenset({401, 403, 404, 410})
_MOST_OPEN: Final = 20_000  # twice what one reading of a list can bring
_NOT_FOLLOWED: Final = frozenset({Phase.FINISHING, Phase.ENDED})


class PlaylistTracker:
    """Follows one media playlist from `cursor` on; see the module for what it does not do.

    Every call returns the actions that follow from it, in the order in which they must be committed.
    """

    def __init__(self, policy: TrackerPolicy, *, now_s: float, cursor: Cursor | None = None) -> None:
        start = cursor or Cursor()
        self._policy = policy
        self._phase = first_phase(start)
        self._epoch = start.epoch
        self._known = _known_at(start)
        self._doubt = CALM
        self._schedule = Schedule(poll_at_s=now_s)
        self._patience = Patience(started_s=now_s, news_s=now_s)
        self._variants = Variants(policy, name=start.variant)
        self._queue = Queue()
        self._settling = Settling(self._queue, cursor=start)
        self._master_asked_s = -NEVER
        self._end: tuple[EndCause, str] = (EndCause.ENDLIST, "")
        self._wishes: list[Action] = []

    @property
    def phase(self) -> Phase:
        """Where the tracker stands."""
        return self._phase

    @property
    def cursor(self) -> Cursor:
        """The place after the last action handed out; each action that must be saved carries its own."""
        return self._settling.cursor

    @property
    def poll_at_s(self) -> float:
        """When to load the playlist; infinity when it is not needed any more."""
        return NEVER if self._phase in _NOT_FOLLOWED else self._schedule.poll_at_s

    @property
    def retry_at_s(self) -> float:
        """When a failed segment is due again; infinity when there is none."""
        return self._queue.retry_at_s

    @property
    def wake_at_s(self) -> float:
        """When there is something to do again: a poll, or a retry for `next_fetches`."""
        return min(self.poll_at_s, self.retry_at_s)

    @property
    def waiting_count(self) -> int:
        """Segments that wait for their first or next attempt."""
        return self._queue.waiting_count

    @property
    def fetching_count(self) -> int:
        """Segments handed out by `next_fetches` whose result is not known yet."""
        return self._queue.fetching_count

    @property
    def wall_per_media(self) -> float:
        """Observed wall seconds per second of media, at most 1."""
        return self._schedule.pace.wall_per_media

    @property
    def parse_from_sequence(self) -> int:
        """What `parse_playlist` needs of the next reload; all of it unless the source is known and calm."""
        if self._variants.is_between:
            return self._variants.read_from
        if self._phase is Phase.JOINING or not self._doubt.is_calm:
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
            self._schedule = self._schedule.at_once(policy=self._policy, now_s=now_s)
            return (ReloadWithoutDelta(), *self._conclude(now_s))
        self._patience = self._patience.reached()
        self._variants.see(playlist)
        self._settling.see_ranges(playlist)
        reload = Reload(playlist=playlist, now_s=now_s, wall_at=wall_at)
        is_joining = self._phase is Phase.JOINING
        if self._variants.is_other(playlist, known=self._known, is_joining=is_joining):
            return (*self._switch(reload), *self._conclude(now_s))
        window_wall_s = self._schedule.window_wall_s(playlist)
        refresh(self._queue, reload, epoch=self._epoch, window_wall_s=window_wall_s)
        if self._phase is Phase.FINISHING:
            return self._conclude(now_s)
        self._schedule = self._schedule.with_target(playlist)
        return (*_ON_MEANING[self._weigh(reload)](self, reload), *self._conclude(now_s))

    def on_playlist_failed(self, failure: FetchFailure, *, now_s: float) -> tuple[Action, ...]:
        """The playlist could not be read: status, time-out, no playlist, or refused for good."""
        if self._phase in _NOT_FOLLOWED:
            self._queue.give_up_parked()
            return self._conclude(now_s)
        self._patience = self._patience.failed(failure.label)
        if failure.kind is FailureKind.REFUSED:
            self._finish(EndCause.SOURCE_REFUSED, failure.detail or failure.label, now_s=now_s)
            return self._conclude(now_s)
        failures = self._patience.failures
        self._schedule = self._schedule.after_failures(failures, policy=self._policy, now_s=now_s)
        asked = self._ask_master(failure, now_s=now_s) if failure.status in _LOST_ADDRESS else ()
        if failures >= self._policy.variant_playlist_failures:
            self._wishes += self._variants.ask(failure.label, now_s=now_s)
        return (*asked, *self._conclude(now_s))

    def on_no_other_variant(self, *, now_s: float) -> tuple[Action, ...]:
        """No rendition is left that was not tried: what this one cannot give is lost."""
        self._variants.none_left(now_s=now_s)
        self._queue.give_up_parked()
        return self._conclude(now_s)

    def on_offline(self, *, now_s: float) -> tuple[Action, ...]:
        """The source says that it stopped: drain, then end. A second call changes nothing."""
        self._patience = self._patience.draining(
            target_s=self._schedule.target_s, policy=self._policy, now_s=now_s
        )
        return self._conclude(now_s)

    def next_fetches(
        self, limit: int, *, now_s: float, within: int | None = None
    ) -> tuple[FetchSegment, ...]:
        """Up to `limit` fetches that are due, oldest first; each must be reported stored or failed.

        `within` looks no further than so many unsettled places, so that one slow segment does not let the rest
        of a long recording pile up behind it.
        """
        due = self._queue.due(limit, now_s=now_s, within=within)
        return tuple(begin_fetch(slot, policy=self._policy, now_s=now_s) for slot in due)

    def on_fetch_delayed(self, epoch: int, sequence: int, *, delay_s: float) -> None:
        """A fetch waited here for its turn: no fault of the source, so it costs the segment none of its time."""
        slot = self._queue.slot(epoch, sequence)
        if slot is not None:
            slot.first_try_s += delay_s

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
        slot = self._queue.slot(epoch, sequence)
        if slot is None:
            self._wishes.append(SegmentUnwanted(epoch=epoch, sequence=sequence))
        elif slot.progress not in SETTLED:
            slot.progress = Progress.STORED
            slot.probed_us, slot.pts_us = probed_us, pts_us
        return self._conclude(now_s)

    def on_segment_failed(
        self, epoch: int, sequence: int, *, failure: FetchFailure, now_s: float
    ) -> tuple[Action, ...]:
        """A segment could not be fetched: it is tried again as the policy says, or becomes a gap."""
        slot = self._queue.slot(epoch, sequence)
        if slot is None or slot.progress is not Progress.FETCHING:
            return ()
        verdict = judge_attempt(
            slot, failure, policy=self._policy, target_s=self._schedule.target_s, now_s=now_s
        )
        self._wishes += self._variants.consider(slot, verdict, now_s=now_s)
        if isinstance(verdict, GiveUp):
            return self._conclude(now_s)
        slot.progress, slot.retry_at_s = Progress.RETRYING, verdict.at_s
        if self._wishes:
            return self._conclude(now_s)
        if not isinstance(verdict, AskMaster):
            return ()
        slot.asked_master = True
        return self._ask_master(failure, now_s=now_s)

    # -- what a reload means ---------------------------------------------------------------------------

    def _weigh(self, reload: Reload) -> Meaning:
        if self._phase is Phase.JOINING:
            return Meaning.NEWER if reload.playlist.segments else Meaning.EMPTY
        if len(self._queue) >= _MOST_OPEN:  # what passes by until there is room is told as a hole
            return Meaning.DOUBTFUL
        if is_cut_before(reload.playlist, known=self._known):
            self._doubt = CALM
            return Meaning.DOUBTFUL
        meaning, self._doubt = weigh(
            reload,
            known=self._known,
            doubt=self._doubt,
            policy=self._policy,
            target_wall_s=self._schedule.target_wall_s,
        )
        return meaning

    def _on_empty(self, reload: Reload) -> tuple[Action, ...]:
        self._poll_soon(reload)
        self._note_endlist(reload)
        return ()

    def _on_newer(self, reload: Reload) -> tuple[Action, ...]:
        is_first = self._phase is Phase.JOINING
        told = self._join(reload.playlist) if is_first else ()
        self._queue.extend(hole_before(reload.playlist, known=self._known, number=self._number))
        fresh = [each for each in reload.playlist.segments if each.sequence > self._known.newest]
        return (*told, *self._take(fresh, reload, starts_epoch=False, is_adopted=is_first))

    def _on_unchanged(self, reload: Reload) -> tuple[Action, ...]:
        if reload.playlist.segments[0].sequence not in self._known.identities:
            self._known = self._known.learn(reload.playlist)
        self._schedule = self._schedule.without_news(reload).after(reload, policy=self._policy)
        if reload.playlist.truncated:
            self._patience = self._patience.with_news(reload.now_s)
        self._note_endlist(reload)
        return ()

    def _on_doubtful(self, reload: Reload) -> tuple[Action, ...]:
        self._poll_soon(reload)
        return ()

    def _on_reset(self, reload: Reload) -> tuple[Action, ...]:
        """Begin a new epoch with all that is listed and was not known under other numbers."""
        playlist = reload.playlist
        if playlist.segments[0].sequence != playlist.media_sequence:
            self._poll_soon(reload)
            return ()
        fresh = playlist.segments[repeated_count(playlist, known=self._known) :]
        self._queue.expire_open(reload.now_s + self._schedule.window_wall_s(playlist))
        self._begin_epoch()
        return self._take(fresh, reload, starts_epoch=True, is_adopted=True)

    def _join(self, playlist: MediaPlaylist) -> tuple[Action, ...]:
        before = playlist.segments[0].sequence - 1
        self._phase = Phase.FOLLOWING
        self._known = Known(newest=before)
        return (self._settling.step(joined(self.cursor, before_sequence=before)),)

    @property
    def _number(self) -> Numbering:
        return Numbering(epoch=self._epoch, variant=self._variants.name)

    def _begin_epoch(self) -> None:
        """Numbers mean other media from now on."""
        self._doubt = CALM
        self._known = self._known.renumbered()
        self._epoch += 1
        self._schedule = self._schedule.anew()

    # -- other variants --------------------------------------------------------------------------------

    def _switch(self, reload: Reload) -> tuple[Action, ...]:
        """Go on with another rendition: all that is not stored comes from there, as far as it has it."""
        playlist = reload.playlist
        kept = leading_settled(self._queue)
        aligned = align(playlist, place=place_after(kept, cursor=self.cursor))
        if not aligned.fresh:
            return self._wait_for_variant(reload)
        target_us = self._schedule.target_us
        unwanted = drop_open(
            self._queue, kept_count=len(kept), aligned=aligned, cursor=self.cursor, target_us=target_us
        )
        self._begin_epoch()
        self._variants.switched_to(playlist.variant)
        self._schedule = self._schedule.with_target(playlist)
        if self._phase is Phase.FINISHING and (playlist.truncated or not playlist.ended):
            self._phase = Phase.FOLLOWING
        self._settling.open_seam(is_unsure=not aligned.is_sure)
        return (*unwanted, *self._take(aligned.fresh, reload, starts_epoch=True, is_adopted=False))

    def _wait_for_variant(self, reload: Reload) -> tuple[Action, ...]:
        """It has nothing new yet; where it never will, what is open is lost."""
        if reload.playlist.ended:
            self._variants.name = reload.playlist.variant
            self._queue.give_up_parked()
            self._note_endlist(reload)
        self._variants.read_on(reload.playlist)
        self._poll_soon(reload)
        return ()

    # -- taking over what is listed --------------------------------------------------------------------

    def _take(
        self, fresh: Sequence[Segment], reload: Reload, *, starts_epoch: bool, is_adopted: bool
    ) -> tuple[Action, ...]:
        for slot in listed_slots(
            fresh, reload, number=self._number, starts_epoch=starts_epoch, is_adopted=is_adopted
        ):
            self._settling.mark_seam(slot)
            self._queue.enlist(slot)
            if slot.segment.gap:  # it may be none in another variant
                self._wishes += self._variants.consider(slot, GiveUp(cause=slot.cause), now_s=reload.now_s)
        self._known = self._known.learn(reload.playlist)
        self._note_news(fresh, reload)
        self._note_endlist(reload)
        end = unusable(reload.playlist)
        if end is not None:
            self._finish(*end, now_s=reload.now_s)
        return self._resume()

    def _note_news(self, fresh: Sequence[Segment], reload: Reload) -> None:
        self._patience = self._patience.with_news(reload.now_s)
        known = Pace() if self._phase is Phase.STALLED else self._schedule.pace
        learned = self._schedule.with_news(fresh, reload, known=known)
        self._schedule = learned.after(reload, policy=self._policy)

    def _note_endlist(self, reload: Reload) -> None:
        if reload.playlist.ended:
            self._settling.endlist_sequence = self._known.newest
            self._finish(EndCause.ENDLIST, "", now_s=reload.now_s)

    def _poll_soon(self, reload: Reload) -> None:
        self._schedule = self._schedule.soon(policy=self._policy, now_s=reload.now_s)

    def _ask_master(self, failure: FetchFailure, *, now_s: float) -> tuple[Action, ...]:
        if now_s - self._master_asked_s < self._policy.master_interval_s:
            return ()
        self._master_asked_s = now_s
        return (ReloadMaster(reason=failure.label),)

    # -- time and the end ------------------------------------------------------------------------------

    def _watch(self, now_s: float) -> tuple[Action, ...]:
        if self._phase in _NOT_FOLLOWED:
            return ()
        verdict = self._patience.verdict(
            self._phase,
            knows_end=self._settling.endlist_sequence != NOTHING_YET,
            target_s=self._schedule.target_s,
            policy=self._policy,
            now_s=now_s,
        )
        if isinstance(verdict, Stall):
            self._phase = Phase.STALLED
            return (self._settling.step(stalled(self.cursor, cause=verdict.cause)),)
        if verdict is not None:
            self._lose_patience(verdict, now_s=now_s)
        return ()

    def _lose_patience(self, verdict: Finish, *, now_s: float) -> None:
        if verdict.is_end_gone:
            newest, target_us = self._settling.endlist_sequence, self._schedule.target_us
            self._queue.extend(
                hole_to_end(newest, known=self._known, number=self._number, target_us=target_us)
            )
        self._finish(verdict.cause, verdict.detail, now_s=now_s)

    def _resume(self) -> tuple[Action, ...]:
        if self._phase is Phase.STALLED:
            self._phase = Phase.FOLLOWING
        return (self._settling.step(resumed(self.cursor)),) if self.cursor.stalled else ()

    def _finish(self, cause: EndCause, detail: str, *, now_s: float) -> None:
        if self._phase in _NOT_FOLLOWED:
            return
        self._phase = Phase.FINISHING
        self._end = (cause, detail)
        if cause is not EndCause.ENDLIST:
            self._queue.expire_open(now_s + self._policy.drain_floor_s)

    def _conclude(self, now_s: float) -> tuple[Action, ...]:
        """What every call ends with: patience, what is settled in order, and what comes next."""
        watched = self._watch(now_s)
        is_finishing = self._phase is Phase.FINISHING
        settled = tuple(self._settling.release(target_us=self._schedule.target_us, is_finishing=is_finishing))
        if is_finishing and not self._queue:
            rest = self._settling.rest_of_signals()
            return (*watched, *settled, *rest, self._ended())
        following = (PollAgain(at_s=self.poll_at_s),) if self.poll_at_s < NEVER else ()
        wishes, self._wishes = tuple(self._wishes), []
        return (*watched, *settled, *following, *wishes)

    def _ended(self) -> Ended:
        self._phase = Phase.ENDED
        cause, detail = self._end
        endlist_sequence = self._settling.endlist_sequence
        return self._settling.step(
            ended(self.cursor, cause=cause, detail=detail, endlist_sequence=endlist_sequence)
        )


_ON_MEANING: Final[dict[Meaning, Callable[[PlaylistTracker, Reload], tuple[Action, ...]]]] = {
    Meaning.EMPTY: PlaylistTracker._on_empty,
    Meaning.NEWER: PlaylistTracker._on_newer,
    Meaning.UNCHANGED: PlaylistTracker._on_unchanged,
    Meaning.DOUBTFUL: PlaylistTracker._on_doubtful,
    Meaning.RESET: PlaylistTracker._on_reset,
}


def _known_at(cursor: Cursor) -> Known:
    identities = {cursor.sequence: cursor.identity} if cursor.identity else {}
    return Known(newest=cursor.sequence, identities=identities, date_time_end=cursor.date_time_end)

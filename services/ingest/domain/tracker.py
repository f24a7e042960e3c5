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
    Stalled,
)
from ingest.domain.history import (
    Known,
    OlderCopy,
    Relation,
    date_time_end,
    older_copy,
    relate,
    repeated_count,
)
from ingest.domain.pace import Pace, advance, miss, next_poll_s
from ingest.domain.playlist import MICROSECONDS, MediaPlaylist, Segment
from ingest.domain.policy import TrackerPolicy
from ingest.domain.retry import AskMaster, Attempts, GiveUp, judge
from ingest.domain.timeline import Break, MeasuredSegment, place_gap, place_segment

_NEWEST_SEGMENTS: Final = 2
_PACED_SEGMENTS: Final = 5
_FIRST_TARGET_US: Final = 2 * MICROSECONDS
_LOST_ADDRESS: Final = frozenset({401, 403, 404, 410})
_NEVER: Final = float("inf")
_NO_SEQUENCE: Final = 2**63  # above all that a playlist can state


class Phase(StrEnum):
    """Where the tracker stands; FINISHING reads no more playlists and settles what is open."""

    JOINING = "joining"
    FOLLOWING = "following"
    STALLED = "stalled"
    FINISHING = "finishing"
    ENDED = "ended"


class _Progress(StrEnum):
    WAITING = "waiting"
    FETCHING = "fetching"
    RETRYING = "retrying"
    STORED = "stored"
    LOST = "lost"


_SETTLED: Final = frozenset({_Progress.STORED, _Progress.LOST})


@dataclass(kw_only=True)
class _Slot:
    """One listed segment until it is committed or lost."""

    epoch: int
    segment: Segment
    discontinuity_sequence: int
    is_newest: bool
    starts_epoch: bool
    wall_hint: datetime | None
    progress: _Progress = _Progress.WAITING
    cause: LossCause = LossCause.NOT_FOUND
    attempts: int = 0
    first_try_s: float = 0.0
    retry_at_s: float = 0.0
    expires_s: float = _NEVER
    asked_master: bool = False
    probed_us: int | None = None
    pts_us: int | None = None

    @property
    def from_sequence(self) -> int:
        return self.segment.sequence

    @property
    def to_sequence(self) -> int:
        return self.segment.sequence

    @property
    def estimated_us(self) -> int:
        return self.segment.duration_us


@dataclass(frozen=True, kw_only=True)
class _Hole:
    """Sequences that were never seen."""

    epoch: int
    from_sequence: int
    to_sequence: int
    estimated_us: int
    cause: LossCause
    progress: _Progress = _Progress.LOST


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
        self._queue: deque[_Slot | _Hole] = deque()
        self._slots: dict[tuple[int, int], _Slot] = {}
        self._pace = Pace()
        self._target_us = _FIRST_TARGET_US
        self._started_s = self._news_s = self._poll_at_s = now_s
        self._was_reached = False
        self._drain_until_s = _NEVER
        self._is_offline = False
        self._suspicions = 0
        self._suspect_newest = _NO_SEQUENCE
        self._older_copy: OlderCopy | None = None
        self._failures = 0
        self._last_failure = ""
        self._master_asked_s = -_NEVER
        self._end: tuple[EndCause, str] = (EndCause.ENDLIST, "")

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
        return _NEVER if self._phase in (Phase.FINISHING, Phase.ENDED) else self._poll_at_s

    @property
    def retry_at_s(self) -> float:
        """When a failed segment is due again; infinity when there is none."""
        retries = (slot.retry_at_s for slot in self._tried() if slot.progress is _Progress.RETRYING)
        return min(retries, default=_NEVER)

    @property
    def wake_at_s(self) -> float:
        """When there is something to do again: a poll, or a retry for `next_fetches`."""
        return min(self.poll_at_s, self.retry_at_s)

    @property
    def waiting_count(self) -> int:
        """Segments that wait for their first or next attempt."""
        return sum(slot.progress in (_Progress.WAITING, _Progress.RETRYING) for slot in self._slots.values())

    @property
    def fetching_count(self) -> int:
        """Segments handed out by `next_fetches` whose result is not known yet."""
        return sum(slot.progress is _Progress.FETCHING for slot in self._tried())

    @property
    def wall_per_media(self) -> float:
        """Observed wall seconds per second of media, at most 1."""
        return self._pace.wall_per_media

    @property
    def parse_from_sequence(self) -> int:
        """What `parse_playlist` needs of the next reload; all of it unless the source is known and calm."""
        if self._phase is Phase.JOINING or self._suspicions or self._older_copy is not None:
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
        self._refresh_addresses(playlist, now_s=now_s)
        if self._phase is Phase.FINISHING:
            return self._conclude(now_s)
        self._target_us = playlist.target_us
        reload = _Reload(playlist=playlist, now_s=now_s, wall_at=wall_at)
        actions = _ON_RELATION[self._relation(playlist)](self, reload)
        return (*actions, *self._conclude(now_s))

    def on_playlist_failed(self, failure: FetchFailure, *, now_s: float) -> tuple[Action, ...]:
        """The playlist could not be read: status, time-out, no playlist, or refused for good."""
        if self._phase in (Phase.FINISHING, Phase.ENDED):
            return self._conclude(now_s)
        self._failures += 1
        self._last_failure = failure.label
        if failure.kind is FailureKind.REFUSED:
            self._finish(EndCause.SOURCE_REFUSED, failure.detail or failure.label, now_s=now_s)
            return self._conclude(now_s)
        pause_s = self._policy.failure_first_s * 2.0 ** min(self._failures - 1, 10)
        self._poll_at_s = now_s + min(self._policy.failure_ceiling_s, pause_s)
        asked = self._ask_master(failure, now_s=now_s) if failure.status in _LOST_ADDRESS else ()
        return (*asked, *self._conclude(now_s))

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
            if isinstance(item, _Slot) and _is_due(item, now_s):
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
        if slot is not None and slot.progress not in _SETTLED:
            slot.progress = _Progress.STORED
            slot.probed_us, slot.pts_us = probed_us, pts_us
        return self._conclude(now_s)

    def on_segment_failed(
        self, epoch: int, sequence: int, *, failure: FetchFailure, now_s: float
    ) -> tuple[Action, ...]:
        """A segment could not be fetched: it is tried again as the policy says, or becomes a gap."""
        slot = self._slots.get((epoch, sequence))
        if slot is None or slot.progress is not _Progress.FETCHING:
            return ()
        verdict = judge(failure, attempts=self._attempts(slot), policy=self._policy, now_s=now_s)
        if isinstance(verdict, GiveUp):
            slot.progress, slot.cause = _Progress.LOST, verdict.cause
            return self._conclude(now_s)
        slot.progress, slot.retry_at_s = _Progress.RETRYING, verdict.at_s
        if not isinstance(verdict, AskMaster):
            return ()
        slot.asked_master = True
        return self._ask_master(failure, now_s=now_s)

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
        hole = _Hole(
            epoch=self._epoch,
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
            self._add_slot(segment, playlist, starts_epoch=starts_epoch and index == 0, wall_hint=hint)
        self._known = self._known.learn(playlist)
        self._note_progress(fresh, reload)
        self._schedule(reload)
        self._note_endlist(reload)
        self._note_unusable(reload)
        return self._resume()

    def _add_slot(
        self, segment: Segment, playlist: MediaPlaylist, *, starts_epoch: bool, wall_hint: datetime | None
    ) -> None:
        counted = playlist.has_discontinuity_sequence
        slot = _Slot(
            epoch=self._epoch,
            segment=segment,
            discontinuity_sequence=segment.discontinuity_sequence if counted else NOTHING_YET,
            is_newest=not playlist.ended and segment.sequence > playlist.last_sequence - _NEWEST_SEGMENTS,
            starts_epoch=starts_epoch,
            wall_hint=wall_hint,
        )
        cause = _unfetchable(segment)
        if cause is not None:
            slot.progress, slot.cause = _Progress.LOST, cause
        self._queue.append(slot)
        self._slots[(slot.epoch, segment.sequence)] = slot

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
            if isinstance(item, _Slot):
                item.expires_s = min(item.expires_s, expires_s)

    def _expire_open(self, now_s: float, grace_s: float) -> None:
        for slot in self._slots.values():
            slot.expires_s = min(slot.expires_s, now_s + grace_s)

    # -- fetching --------------------------------------------------------------------------------------

    def _tried(self) -> Iterator[_Slot]:
        """Slots up to the first that was never tried: those after it were not either."""
        for item in self._queue:
            if item.progress is _Progress.WAITING:
                return
            if isinstance(item, _Slot):
                yield item

    def _begin_fetch(self, slot: _Slot, *, now_s: float) -> FetchSegment:
        slot.attempts += 1
        if slot.attempts == 1:
            slot.first_try_s = now_s
        slot.progress = _Progress.FETCHING
        return FetchSegment(
            epoch=slot.epoch, segment=slot.segment, attempt=slot.attempts, deadline_s=self._deadline_s(slot)
        )

    def _deadline_s(self, slot: _Slot) -> float:
        return min(slot.expires_s, slot.first_try_s + self._policy.segment_budget_s)

    def _attempts(self, slot: _Slot) -> Attempts:
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
            hole = _Hole(
                epoch=self._epoch,
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
            self._cursor = replace(
                self._cursor, endlist_sequence=self._endlist_sequence, stalled=False, ended=str(cause)
            )
            return (*watched, *settled, Ended(cause=cause, detail=detail, cursor=self._cursor))
        following = (PollAgain(at_s=self.poll_at_s),) if self.poll_at_s < _NEVER else ()
        return (*watched, *settled, *following)

    def _release(self) -> Iterator[Action]:
        while self._queue and self._queue[0].progress in _SETTLED:
            head = self._queue[0]
            if isinstance(head, _Slot) and head.progress is _Progress.STORED:
                yield self._commit(head)
            else:
                yield self._lose(_leading_losses(self._queue))

    def _commit(self, slot: _Slot) -> CommitSegment:
        self._drop_head()
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
        self._cursor = replace(
            self._cursor,
            epoch=slot.epoch,
            sequence=segment.sequence,
            identity=segment.identity,
            date_time_end=date_time_end(segment) or self._cursor.date_time_end,
            discontinuity_sequence=slot.discontinuity_sequence,
            init_identity=segment.init.identity if segment.init else "",
            endlist_sequence=self._endlist_sequence,
            timeline=timeline,
        )
        return CommitSegment(epoch=slot.epoch, segment=segment, placed=placed, cursor=self._cursor)

    def _break_before(self, slot: _Slot) -> Break:
        before, segment = self._cursor, slot.segment
        if before.timeline.segment_count == 0:
            return Break.NONE
        if slot.starts_epoch:
            return Break.EPOCH
        counts = (before.discontinuity_sequence, slot.discontinuity_sequence)
        if segment.discontinuity or (NOTHING_YET not in counts and counts[0] != counts[1]):
            return Break.TAGGED
        init_identity = segment.init.identity if segment.init else ""
        return Break.INIT_SECTION if init_identity != before.init_identity else Break.NONE

    def _lose(self, items: tuple[_Slot | _Hole, ...]) -> SegmentLost:
        for _ in items:
            self._drop_head()
        head, last = items[0], items[-1]
        placed, timeline = place_gap(
            self._cursor.timeline, estimated_us=sum(item.estimated_us for item in items)
        )
        self._cursor = replace(
            self._cursor,
            epoch=head.epoch,
            sequence=last.to_sequence,
            identity="",
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

    def _drop_head(self) -> None:
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


def _is_due(slot: _Slot, now_s: float) -> bool:
    if slot.progress is _Progress.RETRYING:
        return slot.retry_at_s <= now_s
    return slot.progress is _Progress.WAITING


def _leading_losses(queue: deque[_Slot | _Hole]) -> tuple[_Slot | _Hole, ...]:
    """The losses at the head that are one gap: same epoch, same cause."""
    mark = (_Progress.LOST, queue[0].epoch, queue[0].cause)
    return tuple(takewhile(lambda item: (item.progress, item.epoch, item.cause) == mark, queue))


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

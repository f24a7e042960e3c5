"""Follows one stream: obeys the tracker, fetches and archives, and commits in order under the lease's fence.

Fetching never waits for the database: what is archived waits in a bounded queue for its commit. What is lost
when the queue is full becomes a gap, and is told as one.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Final

import structlog

from ingest.domain.actions import (
    Action,
    CommitSegment,
    Cursor,
    Ended,
    FailureKind,
    FetchFailure,
    FetchSegment,
    Joined,
    ReloadMaster,
    ReloadWithoutDelta,
    Resumed,
    SegmentLost,
    SegmentUnwanted,
    SignalSeen,
    Stalled,
    UseOtherVariant,
)
from ingest.domain.playlist import MediaPlaylist
from ingest.domain.policy import TrackerPolicy
from ingest.domain.recorder import Entry, Progress, Recorder
from ingest.domain.tracker import Phase, PlaylistTracker
from ingest.domain.windows import WindowPlan
from ingest.workflow.archive import Archive, Kept, Waiting
from ingest.workflow.captions import CaptionReader, OffersCaptions
from ingest.workflow.ports import (
    FetchedSegment,
    FetchFailed,
    Journal,
    Lease,
    LeaseLost,
    MediaSource,
    OffersVariants,
    Opened,
    SpoolFull,
)
from shared import metrics, trace
from shared.clock import Clock
from shared.database import DatabaseUnavailable
from shared.events import Lane
from shared.object_store import StoreUnavailable

log = structlog.get_logger()

BATCH: Final = 64
COMMIT_RETRY_S: Final = 0.25
LONGEST_SLEEP_S: Final = 5.0
LOOK_AHEAD: Final = 64  # segments fetched beyond one that is still tried


@dataclass(frozen=True, kw_only=True)
class FollowerPolicy:
    """`pending_entries` bounds what waits for its commit; `windows_ahead` how far a recording is fetched
    before it is analysed; `last_commit_s` how long a stopping follower tries its last commit."""

    tracker: TrackerPolicy = field(default_factory=TrackerPolicy)
    plan: WindowPlan = field(default_factory=WindowPlan)
    parallel_fetches: int = 3
    windows_ahead: int = 8
    pending_entries: int = 300
    last_commit_s: float = 5.0


@dataclass(frozen=True, kw_only=True)
class _Pending:
    entry: Entry
    waiting: tuple[Waiting, ...] = ()
    archived_s: float | None = None


class Follower:
    """One run of one stream under one lease."""

    def __init__(
        self,
        opened: Opened,
        lease: Lease,
        *,
        source: MediaSource,
        archive: Archive,
        journal: Journal,
        policy: FollowerPolicy,
        clock: Clock,
        gate: contextlib.AbstractAsyncContextManager[object] | None = None,
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        """`gate` is passed with each segment: it bounds what followers of recordings fetch at once."""
        self._gate = gate or contextlib.nullcontext()
        self._stream = opened.stream
        self._lease = lease
        self._traceparent = opened.traceparent
        self._chapters = trace.Chapters(opened.traceparent)
        self._source = source
        self._archive = archive
        self._journal = journal
        self._policy = policy
        self._clock = clock
        self._now_s = now_s
        self._tracker = PlaylistTracker(policy.tracker, now_s=now_s(), cursor=_cursor(opened.progress))
        self._recorder = Recorder(
            opened.stream, plan=policy.plan, progress=opened.progress, open_segments=opened.open_segments
        )
        self._kept: dict[tuple[int, int], Kept] = {}
        self._listed_s: dict[tuple[int, int], float] = {}
        self._pending: deque[_Pending] = deque()
        self._fetching: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._polling: asyncio.Task[None] | None = None
        self._captions: asyncio.Task[None] | None = None
        self._analysed_windows = lease.analysed_windows
        self._is_finished_list = opened.progress.is_finished_list
        self._is_stopping = False
        self._is_lost = False
        self._wants_addresses = False
        self._reading: set[tuple[int, int]] = set()
        self._unwanted: list[Waiting] = []
        self._news = asyncio.Event()
        self._to_commit = asyncio.Event()
        self._commit_time: asyncio.Timeout | None = None

    @property
    def pending_count(self) -> int:
        """Entries that wait for their commit."""
        return len(self._pending)

    @property
    def awaited_windows(self) -> int:
        """How many windows of a recording shall be analysed before fetching goes on; 0 while it does."""
        if not self._is_far_ahead or self._fetching or self._pending:
            return 0
        return self._recorder.progress.planner.next_index - self._policy.windows_ahead // 2

    # -- what the loop over the leases tells -------------------------------------------------------------

    def learn(self, lease: Lease) -> None:
        """What the lease row says by now: offline, and how many windows are analysed."""
        self._analysed_windows = lease.analysed_windows
        if lease.is_offline:
            self._apply(self._tracker.on_offline(now_s=self._now_s()))
        self._news.set()

    def refuse(self, detail: str) -> None:
        """The source cannot even be opened: end the run with this reason."""
        failure = FetchFailure(kind=FailureKind.REFUSED, detail=detail)
        self._apply(self._tracker.on_playlist_failed(failure, now_s=self._now_s()))

    def stop(self) -> None:
        """Finish the commit in hand and return; the run goes on elsewhere."""
        if not self._is_stopping:
            self._is_stopping = True
            self._hurry()
        self._news.set()
        self._to_commit.set()

    # -- the run -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Return at the end of the run or after `stop`. Raises LeaseLost; nothing is written after that."""
        if self._lease.is_offline:
            self.learn(self._lease)
        try:
            with trace.continued(self._traceparent):
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._commit_all())
                    await self._follow(group)
        finally:
            await self._source.close()
            await self._archive.discard(self._waiting)
        if self._is_lost:
            raise LeaseLost(f"{self._stream.stream_id}: the lease with fence {self._lease.fence} is lost")

    @property
    def _waiting(self) -> tuple[Waiting, ...]:
        """Bodies that only this process has; a successor fetches them anew."""
        fetched = [each for kept in self._kept.values() for each in kept.waiting]
        return (*fetched, *self._unwanted, *(each for pending in self._pending for each in pending.waiting))

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        while not self._is_over:
            self._news.clear()
            self._start_due(group)
            await _wait(self._news, self._sleep_s())
        for task in (*self._fetching.values(), self._polling, self._captions):
            if task is not None:
                task.cancel()
        self._to_commit.set()

    @property
    def _is_over(self) -> bool:
        return self._is_stopping or self._is_lost or self._tracker.phase is Phase.ENDED

    def _start_due(self, group: asyncio.TaskGroup) -> None:
        now_s = self._now_s()
        if now_s >= self._poll_at_s:
            self._start_poll(group)
        slots = self._free_slots()
        for fetch in self._tracker.next_fetches(slots, now_s=now_s, within=LOOK_AHEAD):
            key = (fetch.epoch, fetch.sequence)
            self._fetching[key] = group.create_task(self._fetch(fetch))
            self._fetching[key].add_done_callback(partial(self._fetched, key))

    @property
    def _poll_at_s(self) -> float:
        """At once for fresh addresses, also when the tracker reads no more playlists for their segments."""
        if self._polling is not None:
            return float("inf")
        return -float("inf") if self._wants_addresses else self._tracker.poll_at_s

    def _start_poll(self, group: asyncio.TaskGroup) -> None:
        self._wants_addresses = False
        if self._captions is None:
            self._start_captions(group)
        self._polling = group.create_task(self._poll())
        self._polling.add_done_callback(self._polled)

    def _start_captions(self, group: asyncio.TaskGroup) -> None:
        """As soon as some media is there, which tells where in time they lie."""
        has_media = self._tracker.cursor.timeline.segment_count > 0
        if has_media and isinstance(self._source, OffersCaptions) and self._source.captions_url:
            reader = CaptionReader(
                self._source, timeline=lambda: self._tracker.cursor.timeline, tell=self._tell_caption
            )
            self._captions = group.create_task(reader.run())

    def _tell_caption(self, signal: SignalSeen) -> None:
        if not self._is_over:
            self._record_signal(signal)

    def _polled(self, _: "asyncio.Task[None]") -> None:
        self._polling = None
        self._news.set()

    def _fetched(self, key: tuple[int, int], _: "asyncio.Task[None]") -> None:
        self._fetching.pop(key, None)
        self._news.set()

    def _free_slots(self) -> int:
        has_room = len(self._pending) < self._policy.pending_entries
        if not has_room or self._is_far_ahead:
            return 0
        return self._policy.parallel_fetches - len(self._fetching)

    @property
    def _is_far_ahead(self) -> bool:
        """A recording waits for its analysis; what is live is never held back."""
        planned = self._recorder.progress.planner.next_index
        return self._is_finished_list and planned - self._analysed_windows >= self._policy.windows_ahead

    def _sleep_s(self) -> float:
        until_s = self._poll_at_s
        if self._free_slots() > 0:
            until_s = min(until_s, self._tracker.retry_at_s)
        return min(LONGEST_SLEEP_S, max(0.0, until_s - self._now_s()))

    # -- requests ----------------------------------------------------------------------------------------

    async def _poll(self) -> None:
        try:
            playlist = await self._source.playlist(from_sequence=self._tracker.parse_from_sequence)
        except FetchFailed as failed:
            if not self._is_over:
                self._apply(self._tracker.on_playlist_failed(failed.failure, now_s=self._now_s()))
            return
        self._take(playlist)

    def _take(self, playlist: MediaPlaylist) -> None:
        if self._is_over:
            return
        if self._tracker.phase is Phase.JOINING:
            self._is_finished_list = self._is_recording(playlist)
        self._apply(self._tracker.on_playlist(playlist, now_s=self._now_s(), wall_at=self._clock()))

    def _is_recording(self, playlist: MediaPlaylist) -> bool:
        """A list that was whole when we joined it, as far as one can tell of a very long one."""
        is_long = playlist.truncated and self._stream.lane is Lane.VOD
        return playlist.ended or playlist.kind == "VOD" or is_long

    async def _fetch(self, fetch: FetchSegment) -> None:
        key, asked_s = (fetch.epoch, fetch.sequence), self._now_s()
        left_s = fetch.deadline_s - asked_s
        self._listed_s.setdefault(key, asked_s)
        try:
            async with self._gate:
                self._tracker.on_fetch_delayed(*key, delay_s=self._now_s() - asked_s)
                fetched = await self._read(fetch, left_s=left_s)
                kept = await self._archive.keep(
                    self._stream, epoch=fetch.epoch, sequence=fetch.sequence, fetched=fetched
                )
        except FetchFailed as failed:
            self._fail(fetch, failed.failure)
        except SpoolFull as full:
            self._fail(fetch, FetchFailure(kind=FailureKind.NETWORK, detail=str(full)))
        else:
            self._kept[key] = kept
            self._apply(
                self._tracker.on_segment_stored(
                    *key,
                    now_s=self._now_s(),
                    probed_us=fetched.media.duration_us,
                    pts_us=fetched.media.pts_us,
                )
            )

    async def _read(self, fetch: FetchSegment, *, left_s: float) -> FetchedSegment:
        key = (fetch.epoch, fetch.sequence)
        self._reading.add(key)
        try:
            return await self._source.segment(fetch.segment, epoch=fetch.epoch, left_s=left_s)
        finally:
            self._reading.discard(key)

    def _fail(self, fetch: FetchSegment, failure: FetchFailure) -> None:
        metrics.ingest_segments.labels("failed").inc()
        log.info("segment_failed", sequence=fetch.sequence, attempt=fetch.attempt, failure=failure.label)
        self._apply(
            self._tracker.on_segment_failed(fetch.epoch, fetch.sequence, failure=failure, now_s=self._now_s())
        )

    # -- what follows --------------------------------------------------------------------------------------

    def _apply(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case ReloadMaster():
                    self._source.forget_variant()
                    self._wants_addresses = True
                case ReloadWithoutDelta():
                    self._source.refuse_delta()
                case CommitSegment():
                    self._record_segment(action)
                case SegmentUnwanted():
                    self._forget(action)
                case SignalSeen():
                    self._record_signal(action)
                case UseOtherVariant():
                    self._leave_variant(action.reason)
                case _:
                    self._record(action)
        self._news.set()

    def _leave_variant(self, reason: str) -> None:
        """The next load brings another rendition, or there is none."""
        is_left = isinstance(self._source, OffersVariants) and self._source.leave_variant()
        if is_left:
            metrics.ingest_variants_left.labels(reason).inc()
            log.warning("variant_left", reason=reason)
            self._wants_addresses = True
        else:
            self._apply(self._tracker.on_no_other_variant(now_s=self._now_s()))

    def _forget(self, action: SegmentUnwanted) -> None:
        """Another variant brings it: stop reading it, or put away what is here of it."""
        key = (action.epoch, action.sequence)
        self._listed_s.pop(key, None)
        kept, task = self._kept.pop(key, None), self._fetching.get(key)
        if kept is not None:
            self._unwanted.extend(kept.waiting)
            self._to_commit.set()
        if task is not None and key in self._reading:
            task.cancel()

    def _record_segment(self, action: CommitSegment) -> None:
        key = (action.epoch, action.sequence)
        kept = self._kept.pop(key)
        entry = self._recorder.segment(action, stored=kept.segment, at=self._clock())
        self._append(_Pending(entry=entry, waiting=kept.waiting, archived_s=self._listed_s.pop(key, None)))

    def _record_signal(self, action: SignalSeen) -> None:
        metrics.ingest_signals.labels(str(action.kind)).inc()
        self._append(_Pending(entry=self._recorder.signal(action, at=self._clock())))

    def _record(self, action: Action) -> None:
        entry = self._entry(action)
        if entry is not None:
            self._append(_Pending(entry=entry))

    def _entry(self, action: Action) -> Entry | None:
        recorder, at = self._recorder, self._clock()
        match action:
            case Joined():
                return recorder.joined(action, is_finished_list=self._is_finished_list)
            case SegmentLost():
                metrics.ingest_gaps.labels(str(action.cause)).inc()
                log.warning(
                    "gap", cause=str(action.cause), sequences=[action.from_sequence, action.to_sequence]
                )
                return recorder.lost(action, at=at)
            case Stalled():
                return recorder.stalled(action, at=at)
            case Resumed():
                return recorder.resumed(action, at=at)
            case Ended():
                return recorder.ended(action, at=at)
        return None

    def _append(self, pending: _Pending) -> None:
        self._pending.append(pending)
        self._to_commit.set()

    # -- commits -------------------------------------------------------------------------------------------

    async def _commit_all(self) -> None:
        try:
            while not await self._commit_round():
                pass
        except LeaseLost as lost:
            log.warning("lease_lost", reason=str(lost))
            self._is_lost = True
            self._news.set()

    async def _commit_round(self) -> bool:
        """Answers whether it was the last."""
        await self._to_commit.wait()
        self._to_commit.clear()
        is_last = self._is_over
        await self._archive.discard(self._take_unwanted())
        return not await self._commit_in_time() or (is_last and (self._is_stopping or not self._pending))

    def _take_unwanted(self) -> tuple[Waiting, ...]:
        unwanted, self._unwanted = tuple(self._unwanted), []
        return unwanted

    async def _commit_in_time(self) -> bool:
        """Only whoever stops has no time to wait, also when the commit in hand began before that."""
        try:
            async with asyncio.timeout(None) as self._commit_time:
                if self._is_stopping:
                    self._hurry()
                await self._commit_pending()
        except TimeoutError:
            if not self._is_stopping:
                raise
            log.warning("left_to_successor", entries=len(self._pending))
            return False
        finally:
            self._commit_time = None
        return True

    def _hurry(self) -> None:
        if self._commit_time is not None:
            self._commit_time.reschedule(asyncio.get_running_loop().time() + self._policy.last_commit_s)

    async def _commit_pending(self) -> None:
        """In order, oldest first; waits for as long as the store or the database is away."""
        while self._pending:
            batch = [self._pending[n] for n in range(min(BATCH, len(self._pending)))]
            try:
                await self._commit(batch)
            except (DatabaseUnavailable, StoreUnavailable) as error:
                log.warning("commit_waits", entries=len(self._pending), reason=str(error))
                await asyncio.sleep(COMMIT_RETRY_S)

    async def _commit(self, batch: list[_Pending]) -> None:
        await self._archive.deliver([each for pending in batch for each in pending.waiting])
        entries = [pending.entry for pending in batch]
        with self._traced(entries):
            await self._journal.commit(self._lease, entries)
        for pending in batch:
            self._pending.popleft()
            self._note(pending)
        self._news.set()

    def _traced(self, entries: Iterable[Entry]) -> contextlib.AbstractContextManager[None]:
        """A span for what others hear of. Most commits only add a segment, and are not worth one."""
        events = [event.name for entry in entries for event in entry.events]
        if not events:
            return contextlib.nullcontext()
        described: dict[str, trace.Value] = {
            "tldr.organization_id": self._stream.organization_id,
            "tldr.stream_id": self._stream.stream_id,
            "tldr.event": ",".join(sorted(set(events))),
        }
        return self._chapters.span("archive", attributes=described)

    def _note(self, pending: _Pending) -> None:
        if pending.entry.segment is not None:
            metrics.ingest_segments.labels("archived").inc()
        if pending.archived_s is not None:
            metrics.ingest_lag_s.labels(self._stream.lane.value).observe(self._now_s() - pending.archived_s)


def _cursor(progress: Progress) -> Cursor | None:
    return progress.cursor if progress.cursor.joined else None


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    """Until the event is set, by a timer at the latest: a follower waits some times for each segment."""
    timer = asyncio.get_running_loop().call_later(timeout_s, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()

"""What runs by itself in ingest: the loop over the leases, which starts, tells and stops the followers.

While the database is away the followers go on: only a lease that is known to be lost stops one.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic

import structlog

from ingest.domain.recorder import Followed
from ingest.domain.sharing import Census, HeldRecording, SharingPolicy, recordings_to_yield, surplus
from ingest.workflow.archive import Archive
from ingest.workflow.follower import Follower, FollowerPolicy
from ingest.workflow.intake import Wake
from ingest.workflow.ports import (
    Journal,
    Lease,
    LeaseLost,
    Leases,
    MediaSource,
    Opened,
    OpenSource,
    Replica,
    Rest,
    SourceAddress,
    SourceUnusable,
)
from ingest.workflow.source import NoSource
from shared import metrics
from shared.clock import Clock
from shared.database import DatabaseUnavailable
from shared.events import Lane
from shared.ids import StreamId
from shared.keyring import Keyring, SecretUnreadable
from shared.logs import bound
from shared.loops import Loop

log = structlog.get_logger()

UNREADABLE = "its sealed address cannot be opened with the keys of this installation"


@dataclass(frozen=True, kw_only=True)
class ClaimPolicy:
    """`batch` bounds what one turn takes, so that replicas which wake together share.

    A stream that has waited for `patience_s` is taken beyond the share. What broke rests for `broken_s`.
    """

    capacities: Mapping[Lane, int] = field(default_factory=lambda: {Lane.LIVE: 200, Lane.VOD: 16})
    batch: int = 16
    lease_s: float = 4.5
    renew_s: float = 1.0
    pause_s: float = 0.5
    wake_s: float = 0.2
    patience_s: float = 1.0
    census_s: float = 2.0
    broken_s: float = 5.0
    sharing: SharingPolicy = field(default_factory=SharingPolicy)


@dataclass
class _Held:
    """`follower` comes when the stream has been opened; `waits_s` is since when it has waited for its analysis."""

    lease: Lease
    since_s: float
    task: "asyncio.Task[None] | None" = None
    follower: Follower | None = None
    waits_s: float | None = None
    is_leaving: bool = False
    awaited_windows: int = 0

    def learn(self, lease: Lease) -> None:
        if lease == self.lease:
            return
        if lease.analysed_windows != self.lease.analysed_windows:
            self.waits_s = None
        self.lease = lease
        if self.follower is not None:
            self.follower.learn(lease)

    def look(self, *, now_s: float) -> None:
        is_waiting = self.follower is not None and self.follower.awaited_windows > 0
        self.waits_s = (self.waits_s if self.waits_s is not None else now_s) if is_waiting else None

    def leave(self) -> None:
        """Finish the commit in hand; then the lease is given back."""
        if self.is_leaving:
            return
        self.is_leaving = True
        if self.follower is not None:
            self.awaited_windows = self.follower.awaited_windows
            self.follower.stop()
        else:
            self.cancel()

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()

    @property
    def pending_count(self) -> int:
        return self.follower.pending_count if self.follower is not None else 0


@dataclass(frozen=True, kw_only=True)
class FollowerFactory:
    """Opens a lease: reads where the last owner stopped, and where the media comes from.

    `openers` maps the kind of a source to what opens it. `gate` is what recordings pass with each segment, so
    that they never take all of the process; live streams pass freely.
    """

    journal: Journal
    archive: Archive
    openers: Mapping[str, OpenSource]
    keyring: Keyring
    clock: Clock
    policy: FollowerPolicy
    gate: asyncio.Semaphore | None = None

    async def __call__(self, lease: Lease) -> Follower | None:
        """None when the stream is over. Raises DatabaseUnavailable."""
        opened = await self.journal.open(lease)
        if opened is None:
            return None
        refusal = ""
        try:
            source = self._open(opened)
        except SourceUnusable as unusable:
            source, refusal = NoSource(), str(unusable)
        follower = Follower(
            opened,
            lease,
            source=source,
            archive=self.archive,
            journal=self.journal,
            policy=self._policy_for(opened),
            clock=self.clock,
            gate=self.gate if opened.stream.lane is Lane.VOD else None,
        )
        if refusal:
            follower.refuse(refusal)
        return follower

    def _policy_for(self, opened: Opened) -> FollowerPolicy:
        """Whoever holds it, a source that was not there yet is awaited until the same moment."""
        until = opened.stream.source.awaited_until
        if until is None or opened.progress.cursor.joined:
            return self.policy
        left_s = (until - self.clock()).total_seconds()
        return replace(self.policy, tracker=self.policy.tracker.waiting(left_s))

    def _open(self, opened: Opened) -> MediaSource:
        """Raises SourceUnusable."""
        kind = opened.stream.source.kind
        opener = self.openers.get(kind)
        if opener is None:
            raise SourceUnusable(f"sources of the kind {kind} cannot be followed")
        return opener(opened.stream, self._unseal(opened.stream), opened.progress)

    def _unseal(self, stream: Followed) -> SourceAddress:
        context, source = f"stream:{stream.stream_id}", stream.source
        try:
            url = self.keyring.decrypt(source.sealed_url, context=context)
            sealed = source.sealed_headers
            headers = json.loads(self.keyring.decrypt(sealed, context=context)) if sealed else {}
        except (SecretUnreadable, ValueError) as error:
            log.warning("source_unreadable", stream_id=stream.stream_id, reason=str(error))
            raise SourceUnusable(UNREADABLE) from error
        return SourceAddress(url=url, headers=headers)


class Followers:
    """The streams that this replica holds."""

    def __init__(
        self,
        *,
        owner: str,
        leases: Leases,
        open_follower: Callable[[Lease], Awaitable[Follower | None]],
        wake: Wake,
        policy: ClaimPolicy,
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        self._owner = owner
        self._leases = leases
        self._open = open_follower
        self._wake = wake
        self._policy = policy
        self._replica = Replica(owner=owner, lease_s=policy.lease_s, capacities=policy.capacities)
        self._now_s = now_s
        self._held: dict[StreamId, _Held] = {}
        self._left: dict[int, Rest] = {}
        self._heard_s: float | None = None
        self._renew_at_s = 0.0
        self._census_at_s = now_s() + policy.census_s
        self._mild_until_s = 0.0

    def loop(self) -> Loop:
        return Loop("followers", self.turn, pause_s=self._policy.pause_s, wake=self._wake.event)

    @property
    def stream_ids(self) -> tuple[StreamId, ...]:
        return tuple(self._held)

    async def turn(self) -> bool:
        """Renew what is held, give back what was left, share evenly, take what is free."""
        if self._wake.event.is_set() and self._heard_s is not None:
            self._renew_at_s = min(self._renew_at_s, self._heard_s + self._policy.wake_s)
        self._wake.event.clear()
        self._count()
        if self._now_s() >= self._renew_at_s:
            await self._renew()
        await self._give_back()
        if self._now_s() >= self._census_at_s:
            await self._share()
        return await self._claim(Lane.LIVE) or await self._claim(Lane.VOD)

    async def stop(self) -> None:
        """Let each follower finish its commit, and give each lease back at once: another replica takes over."""
        tasks = [each.task for each in self._held.values() if each.task is not None]
        for each in tuple(self._held.values()):
            each.leave()
        try:
            await self._leases.leave(self._owner)
            await self._give_back_as_they_end(tasks)
            await self._leases.go(self._owner)
        finally:
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _give_back_as_they_end(self, tasks: "Sequence[asyncio.Task[None]]") -> None:
        ending = set(tasks)
        while ending:
            _, ending = await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)  # for the callbacks of those that have ended
            await self._give_back()

    def _count(self) -> None:
        metrics.ingest_streams.set(len(self._held))
        metrics.ingest_spooled.set(sum(each.pending_count for each in self._held.values()))
        for lane in Lane:
            metrics.ingest_followed.labels(lane.value).set(len(self._of(lane)))

    def _of(self, lane: Lane) -> list[_Held]:
        return [each for each in self._held.values() if each.lease.lane is lane]

    # -- what is held ------------------------------------------------------------------------------------

    async def _renew(self) -> None:
        asked, now_s = tuple(self._held.values()), self._now_s()
        current = {lease.fence: lease for lease in await self._leases.renew(self._replica)}
        self._note_silence(now_s)
        self._renew_at_s = now_s + self._policy.renew_s
        for each in asked:
            lease = current.pop(each.lease.fence, None)
            if lease is not None:
                each.learn(lease)
            elif self._held.get(each.lease.stream_id) is each:
                log.warning("lease_lost", stream_id=each.lease.stream_id, fence=each.lease.fence)
                each.cancel()
        for lease in current.values():
            self._adopt(lease)

    def _note_silence(self, now_s: float) -> None:
        """After an outage of the database nobody takes from others before they had the time to come back."""
        lease_s = self._policy.lease_s
        if self._heard_s is not None and now_s - self._heard_s > lease_s:
            self._mild_until_s = now_s + lease_s
        self._heard_s = now_s

    def _adopt(self, lease: Lease) -> None:
        """Follow what is ours by the table and not here: the answer to the claim was lost."""
        if lease.stream_id not in self._held and lease.fence not in self._left:
            self._start(lease)

    async def _give_back(self) -> None:
        if self._left:
            rests = tuple(self._left.values())
            await self._leases.release(self._owner, rests=rests)
            for rest in rests:
                del self._left[rest.fence]

    # -- an even share -----------------------------------------------------------------------------------

    async def _share(self) -> None:
        census, now_s = await self._leases.census(), self._now_s()
        self._census_at_s = now_s + self._policy.census_s
        for lane in Lane:
            metrics.ingest_waiting.labels(lane.value).set(census.free(lane))
            self._hand_over(census, lane)
        self._make_room(census, now_s=now_s)

    def _hand_over(self, census: Census, lane: Lane) -> None:
        """The youngest first: their followers know least by heart."""
        staying = [each for each in self._of(lane) if not each.is_leaving]
        leaving = len(self._of(lane)) - len(staying)
        count = surplus(census, owner=self._owner, lane=lane, policy=self._policy.sharing) - leaving
        for each in staying[len(staying) - max(0, count) :]:
            self._leave(each, reason="share")

    def _make_room(self, census: Census, *, now_s: float) -> None:
        held = self._of(Lane.VOD)
        for each in held:
            each.look(now_s=now_s)
        if len(held) < self._policy.capacities[Lane.VOD] or any(each.is_leaving for each in held):
            return
        recordings = [_recording(each, now_s=now_s) for each in held]
        for stream_id in recordings_to_yield(census, held=recordings, policy=self._policy.sharing):
            self._leave(self._held[stream_id], reason="fairness")

    def _leave(self, held: _Held, *, reason: str) -> None:
        metrics.ingest_handovers.labels(reason).inc()
        log.info("handing_over", stream_id=held.lease.stream_id, fence=held.lease.fence, reason=reason)
        held.leave()

    # -- what is free ------------------------------------------------------------------------------------

    async def _claim(self, lane: Lane) -> bool:
        """Answers whether more may be waiting."""
        limit = min(self._policy.batch, self._policy.capacities[lane] - len(self._of(lane)))
        if limit <= 0:
            return False
        claimed = await self._leases.claim(
            self._owner,
            lane=lane,
            limit=limit,
            patience_s=self._policy.patience_s,
            from_dead=self._now_s() >= self._mild_until_s,
        )
        for each in claimed:
            if each.is_takeover:
                metrics.ingest_takeovers.inc()
            self._start(each.lease)
        return len(claimed) == limit

    def _start(self, lease: Lease) -> None:
        before = self._held.get(lease.stream_id)
        if before is not None:
            before.cancel()
        held = self._held[lease.stream_id] = _Held(lease, since_s=self._now_s())
        with bound(stream_id=lease.stream_id, organization_id=lease.organization_id):
            held.task = asyncio.create_task(self._follow(held), name=f"follow {lease.stream_id}")
        held.task.add_done_callback(partial(self._done, held))

    async def _follow(self, held: _Held) -> None:
        lease = held.lease
        follower = await self._open(lease)
        if follower is None:
            return
        log.info("following", run=lease.run, fence=lease.fence)
        held.follower = follower
        if held.lease != lease:
            follower.learn(held.lease)
        await follower.run()

    def _done(self, held: _Held, task: "asyncio.Task[None]") -> None:
        """What broke is given back and rests: nothing is tried in a tight circle."""
        lease = held.lease
        if self._held.get(lease.stream_id) is held:
            del self._held[lease.stream_id]
        error = None if task.cancelled() else task.exception()
        if held.is_leaving:
            self._give_back_soon(Rest(fence=lease.fence, awaited_windows=held.awaited_windows))
        elif error is not None and not isinstance(error, LeaseLost):
            self._give_back_soon(Rest(fence=lease.fence, pause_s=self._policy.broken_s))
        if error is None or isinstance(error, LeaseLost | DatabaseUnavailable):
            log.info("followed", stream_id=lease.stream_id, fence=lease.fence)
            return
        metrics.loop_failures.labels("ingest", "follower", type(error).__name__).inc()
        log.error("follower_failed", stream_id=lease.stream_id, fence=lease.fence, exc_info=error)

    def _give_back_soon(self, rest: Rest) -> None:
        self._left[rest.fence] = rest
        self._wake.event.set()


def _recording(held: _Held, *, now_s: float) -> HeldRecording:
    return HeldRecording(
        stream_id=held.lease.stream_id,
        organization_id=held.lease.organization_id,
        held_s=now_s - held.since_s,
        waits_s=None if held.waits_s is None else now_s - held.waits_s,
    )

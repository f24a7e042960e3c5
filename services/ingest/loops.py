"""What runs by itself in ingest: the loop over the leases, which starts, tells and stops the followers.

While the database is away the followers go on: only a lease that is known to be lost stops one.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic

import structlog

from ingest.domain.recorder import Followed
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
    SourceAddress,
    SourceUnusable,
)
from ingest.workflow.source import NoSource
from shared import metrics
from shared.clock import Clock
from shared.database import DatabaseUnavailable
from shared.ids import StreamId
from shared.keyring import Keyring, SecretUnreadable
from shared.logs import bound
from shared.loops import Loop

log = structlog.get_logger()

UNREADABLE = "its sealed address cannot be opened with the keys of this installation"


@dataclass(frozen=True, kw_only=True)
class ClaimPolicy:
    """`batch` bounds what one turn takes, so that replicas which wake together share."""

    capacity: int = 200
    batch: int = 16
    lease_s: float = 6.0
    renew_s: float = 2.0
    pause_s: float = 0.5


@dataclass
class _Held:
    """`follower` comes when the stream has been opened."""

    lease: Lease
    task: "asyncio.Task[None]"
    follower: Follower | None = None

    def learn(self, lease: Lease) -> None:
        if self.follower is not None:
            self.follower.learn(lease)

    def stop(self) -> None:
        if self.follower is not None:
            self.follower.stop()
        else:
            self.task.cancel()

    @property
    def pending_count(self) -> int:
        return self.follower.pending_count if self.follower is not None else 0


@dataclass(frozen=True, kw_only=True)
class FollowerFactory:
    """Opens a lease: reads where the last owner stopped, and where the media comes from.

    `openers` maps the kind of a source to what opens it.
    """

    journal: Journal
    archive: Archive
    openers: Mapping[str, OpenSource]
    keyring: Keyring
    clock: Clock
    policy: FollowerPolicy

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
            policy=self.policy,
            clock=self.clock,
        )
        if refusal:
            follower.refuse(refusal)
        return follower

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
        self._now_s = now_s
        self._held: dict[StreamId, _Held] = {}
        self._renew_at_s = 0.0

    def loop(self) -> Loop:
        return Loop("followers", self.turn, pause_s=self._policy.pause_s, wake=self._wake.event)

    @property
    def stream_ids(self) -> tuple[StreamId, ...]:
        return tuple(self._held)

    async def turn(self) -> bool:
        """Renew what is held, note what is done, take what is free."""
        was_woken = self._wake.event.is_set()
        self._wake.event.clear()
        self._count()
        if was_woken or self._now_s() >= self._renew_at_s:
            await self._renew()
        return await self._claim()

    async def stop(self) -> None:
        """Let each follower finish its commit, then give the leases back: another replica takes over at once."""
        held = tuple(self._held.values())
        if not held:
            return
        for each in held:
            each.stop()
        await asyncio.gather(*(each.task for each in held), return_exceptions=True)
        await self._leases.release(self._owner, fences=[each.lease.fence for each in held])

    def _count(self) -> None:
        metrics.ingest_streams.set(len(self._held))
        metrics.ingest_spooled.set(sum(each.pending_count for each in self._held.values()))

    async def _renew(self) -> None:
        asked = tuple(self._held.values())
        fences = [each.lease.fence for each in asked]
        renewed = await self._leases.renew(self._owner, fences=fences, lease_s=self._policy.lease_s)
        self._renew_at_s = self._now_s() + self._policy.renew_s
        current = {lease.fence: lease for lease in renewed}
        for each in asked:
            lease = current.get(each.lease.fence)
            if lease is None:
                log.warning("lease_lost", stream_id=each.lease.stream_id, fence=each.lease.fence)
                each.task.cancel()
            else:
                each.learn(lease)

    async def _claim(self) -> bool:
        """Answers whether more may be waiting."""
        limit = min(self._policy.batch, self._policy.capacity - len(self._held))
        if limit <= 0:
            return False
        leases = await self._leases.claim(self._owner, limit=limit, lease_s=self._policy.lease_s)
        for lease in leases:
            self._start(lease)
        return len(leases) == limit

    def _start(self, lease: Lease) -> None:
        before = self._held.get(lease.stream_id)
        if before is not None:
            before.task.cancel()
        with bound(stream_id=lease.stream_id, organization_id=lease.organization_id):
            task = asyncio.create_task(self._follow(lease), name=f"follow {lease.stream_id}")
        held = _Held(lease, task)
        self._held[lease.stream_id] = held
        task.add_done_callback(lambda _: self._done(held))

    async def _follow(self, lease: Lease) -> None:
        follower = await self._open(lease)
        if follower is None:
            return
        log.info("following", run=lease.run, fence=lease.fence)
        self._held[lease.stream_id].follower = follower
        await follower.run()

    def _done(self, held: _Held) -> None:
        """A follower that broke keeps its lease until that runs out: nothing is tried in a tight circle."""
        stream_id = held.lease.stream_id
        if self._held.get(stream_id) is held:
            del self._held[stream_id]
        error = None if held.task.cancelled() else held.task.exception()
        if error is None or isinstance(error, LeaseLost | DatabaseUnavailable):
            log.info("followed", stream_id=stream_id, fence=held.lease.fence)
            return
        metrics.loop_failures.labels("ingest", "follower", type(error).__name__).inc()
        log.error("follower_failed", stream_id=stream_id, fence=held.lease.fence, exc_info=error)
